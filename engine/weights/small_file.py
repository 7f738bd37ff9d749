"""Reads the small files that people name, and the ends of logs.

What is no regular file is an error, and nobody waits for it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import UsageError, in_one_line
from .disguises import START_BYTES, disguise

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
MARK = b"\xef\xbb\xbf"
# How files begin that are not UTF-8; UTF-32 has the mark of UTF-16 and zeros.
OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\0\0\xfe\xff": "UTF-32"}
# JSON of empty lists takes 150 times its size in memory. The largest tokenizers have about 35 MB.
MOST_BYTES = 64 << 20
# So much of a log is read.
END_BYTES = 256 << 10


def check_regular(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Raise UsageError where there is no regular file of a fitting size: it says what is there instead."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            target = in_one_line(os.readlink(path))
            raise UsageError(f"{path}: a link that leads to no file ({target})") from None
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {reason(error)}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise UsageError(f"{path}: is {kind}; a regular file is wanted")
    if found.st_size > most_bytes:
        raise too_large(path, f"has {found.st_size} bytes", most_bytes)


def too_large(path: Path, has: str, most_bytes: int) -> UsageError:
    return UsageError(f"{path}: {has}, which is too much: such a file has {most_bytes} at most")


def reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the contents of a regular file. UsageError names it where it cannot be read."""
    check_regular(path, most_bytes)
    try:
        # It may grow meanwhile, and files of /proc have no size.
        with path.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {reason(error)}") from None
    if len(data) > most_bytes:
        raise too_large(path, "grows while it is read", most_bytes)
    return data


def check_inside(path: Path, folder: Path, what: str) -> None:
    """Raise UsageError where `path` leads out of `folder`, by a link or by its name."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path}: {what} leads out of the folder {folder}; copy the file into it")


def read_text(path: Path, errors: str = "strict", most_bytes: int = MOST_BYTES) -> str:
    """Return a text in UTF-8, without a byte order mark and with plain ends of lines.

    UsageError names the line that is no UTF-8."""
    data = read_bytes(path, most_bytes)
    for mark, encoding in OTHER_MARKS.items():
        if data.startswith(mark):
            raise UsageError(f"{path}: is {encoding}; save the file as UTF-8")
    try:
        return data.removeprefix(MARK).decode("utf-8", errors).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        if what := disguise(data[:START_BYTES]):
            raise UsageError(f"{path}: is {what}") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}:{line}: not UTF-8: byte 0x{data[error.start]:02x}; save the file as UTF-8"
        ) from None


def end_of(log: Path) -> str:
    """Return the end of a text that may be long, without white space around it; "" where it is gone."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - END_BYTES))
            return stream.read(END_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
