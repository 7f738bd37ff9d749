"""One writer for a folder: a lock that the kernel releases when its holder ends, however it ends.

Readers take no lock, except for an instant to see whether somebody holds it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UsageError

# A file system that has no locks: then nobody is kept out, and nothing of others is cleared away.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

# Far longer than whoever looks at a lock holds it.
READER_S = 0.2


@contextmanager
def one_writer(lock: Path, place: str, *, keep: bool = False) -> Iterator[bool]:
    """Hold the lock file `lock` meanwhile. Yields whether this file system has locks.

    `keep` leaves the file there afterwards. UsageError where another process holds it; `place` is what the
    message calls the folder.
    """
    descriptor, held = take(lock, place)
    try:
        yield held
    finally:
        if not keep:
            with suppress(OSError):
                lock.unlink()
        os.close(descriptor)


def take(lock: Path, place: str) -> tuple[int, bool]:
    """Open the lock file, and lock it. Returns its descriptor, and whether it is locked."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            lock_soon(descriptor)
        except BlockingIOError:
            error = in_use(descriptor, place)
            os.close(descriptor)
            raise error from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            return descriptor, False
        if is_still(lock, descriptor):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor, True
        os.close(descriptor)  # the last holder has removed it meanwhile


def lock_soon(descriptor: int) -> None:
    """Lock an open file. BlockingIOError where another process holds it for longer than a reader does."""
    end = time.monotonic() + READER_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(READER_S / 20)


def check_free(lock: Path, place: str) -> None:
    """Raise UsageError where another process holds the lock file; it may be absent."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise in_use(descriptor, place) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    finally:
        os.close(descriptor)


def is_held(lock: Path) -> bool:
    """Tell whether another process holds the lock file now."""
    try:
        check_free(lock, "")
    except UsageError:
        return True
    return False


def in_use(descriptor: int, place: str) -> UsageError:
    """Make the error that names the holder of a lock file."""
    holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    who = f"process {holder}" if holder.isdigit() else "another process"
    return UsageError(
        f"{place}: is in use: {who} is writing to it; wait for it, or name another folder"
    )


def is_still(lock: Path, descriptor: int) -> bool:
    """Tell whether the path still leads to the open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    return False
