"""Makes the folder of a merged model: its place is checked first, and it is renamed there last.

Files are written in a temporary folder beside that place. What is there already is replaced only with
--overwrite, and only where nothing but a model is there (owned.py).
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ..errors import UsageError
from ..given import at_home
from ..weights.checkpoint import Checkpoint
from ..weights.selection import Selection
from .claim import one_writer
from .owned import SCRATCH, check_place_for, foreign_in_model

LOCK = ".selfdev-lock"  # part of the name of a lock beside the folder
# A folder: its device and its number there.
Identity = tuple[int, int]


def real(out: Path) -> Path:
    """Return the folder itself, whatever links lead to it."""
    return at_home(out).resolve()


def check_out(
    out: Path, selection: Selection, overwrite: bool, others: Mapping[str, Path] | None = None
) -> Identity | None:
    """Raise UsageError where `out` cannot become the merged folder, before anything is paid for.

    `others` are inputs besides the models; a key says what the input is. Returns the identity of the
    folder that is to be replaced, or None where nothing is there.
    """
    place = real(out)
    if os.path.lexists(place) and not place.is_dir():
        raise UsageError(f"--out {out}: is a file")
    for what, path in inputs_of(selection, others or {}):
        check_apart(f"--out {out}", place, what, path)
    check_outside_models(out, place, selection)
    check_place_for(f"--out {out}", place)
    with cannot_write(out):
        check_writable(place.parent)
        check_room(out, place.parent, sum(file.stat().st_size for file in selection.base.files))
    if (there := identity(place)) is None:
        return None
    if not overwrite:
        raise UsageError(f"--out {out}: holds files already; give --overwrite to replace them")
    if strange := foreign_in_model(place):
        raise UsageError(
            f"--out {out}: holds {strange}, so it is not replaced: move that away, or name another folder"
        )
    return there


def check_outside_models(out: Path, place: Path, selection: Selection) -> None:
    """UsageError where `out` lies inside a model that is read: whoever copies or deletes that takes both."""
    for what, checkpoint in models_of(selection).items():
        if place.is_relative_to(folder := checkpoint.folder.resolve()):
            raise UsageError(
                f"--out {out}: lies inside the folder of {what} ({folder}); name a place outside of it"
            )


def models_of(selection: Selection) -> dict[str, Checkpoint]:
    """Return base and experts, by words for what each is."""
    experts = {f"expert {name}": found for name, found in selection.experts.items()}
    return {"the base": selection.base, **experts}


def inputs_of(selection: Selection, others: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Yield every file or folder that is read, with words for what it is. Links are followed."""
    for what, checkpoint in models_of(selection).items():
        yield what, checkpoint.folder.resolve()
        yield from ((what, path.resolve()) for path in checkpoint.folder.iterdir())
    for what, path in others.items():
        yield what, real(path)


def check_apart(option: str, place: Path, what: str, path: Path) -> None:
    """UsageError where an input is the output, or lies inside it."""
    if path == place:
        raise UsageError(f"{option}: is the folder of {what} ({path.name})")
    if path.is_relative_to(place):
        raise UsageError(f"{option}: holds an input: {what} ({path}) is inside; name another place")


def identity(place: Path) -> Identity | None:
    """Return what tells this folder from another one. None for an empty folder, or for none."""
    try:
        if place.is_dir() and not any(place.iterdir()):
            return None
        found = place.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Make a temporary folder beside `out`, on the same disk, and delete it afterwards in any case.

    UsageError where another process is merging to the same place.
    """
    place = real(out)
    with cannot_write(out):
        place.parent.mkdir(parents=True, exist_ok=True)
        with one_writer(place.with_name(f".{place.name}{LOCK}"), f"--out {out}") as held:
            if held:
                remove_leftovers(place)
            prefix = f".{place.name}{SCRATCH}"
            scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """OSError where the folder, or the nearest one above it that is there, takes no files."""
    above = next(place for place in (folder, *folder.parents) if place.exists())
    tempfile.TemporaryFile(dir=above).close()


def check_room(out: Path, folder: Path, needed_bytes: int) -> None:
    """Raise UsageError where the disk of the folder has less room than the merged weights take."""
    above = next(place for place in (folder, *folder.parents) if place.exists())
    disk = shutil.disk_usage(above)
    # Some file systems state no size at all.
    if disk.total and disk.free < needed_bytes:
        needed, free = (f"{size / 2**20:.1f} MiB" for size in (needed_bytes, disk.free))
        raise UsageError(
            f"--out {out}: no space left: the merged weights take {needed}, {free} are free there; "
            "free some, or name a place on another disk"
        )


@contextmanager
def cannot_write(out: Path) -> Iterator[None]:
    """Turn an OSError into a UsageError that names `out`, and the file that the system named."""
    try:
        yield
    except OSError as error:
        file = f": {error.filename}" if error.filename else ""
        raise UsageError(
            f"--out {out}: cannot write there: {error.strerror or error}{file}"
        ) from None


def remove_leftovers(place: Path) -> None:
    """Delete temporary folders of merges that were killed. The caller holds the place's lock."""
    for old in place.parent.glob(f".{glob.escape(place.name)}{SCRATCH}*"):
        shutil.rmtree(old, ignore_errors=True)


def put_in_place(fresh: Path, out: Path, replaced: Identity | None) -> None:
    """Rename `fresh` to `out`. An old folder is removed only now that the new one is complete.

    `replaced` is the identity of the folder that was there at the beginning. A folder that appeared
    meanwhile is left alone: the merge is then kept under another name, which the UsageError says.
    """
    for path in (*fresh.rglob("*"), fresh):
        sync(path)
    place = real(out)
    there = identity(place)
    try:
        if there is None:
            fresh.rename(place)
        elif there == replaced and not foreign_in_model(place):
            exchange(fresh, place)
            if fresh.is_dir() and foreign_in_model(fresh):  # it appeared in the last moment
                exchange(fresh, place)
                raise FileExistsError(errno.EEXIST, "changed meanwhile")
        else:
            raise FileExistsError(errno.EEXIST, "appeared meanwhile")
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        kept = next(p for n in count(2) if not os.path.lexists(p := Path(f"{place}-{n}")))
        fresh.rename(kept)
        raise UsageError(
            f"--out {out}: was made or changed by others during the merge and is left as it is; "
            f"the merged model is {kept}"
        ) from None
    sync(place.parent)


def exchange(fresh: Path, place: Path) -> None:
    """Swap two folders at once; in two steps where the file system cannot."""
    names = os.fsencode(fresh), os.fsencode(place)
    at_cwd, exchange_flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <linux/fs.h>
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename and rename(at_cwd, names[0], at_cwd, names[1], exchange_flag) == 0:
        return
    old = place.with_name(f".{place.name}.replaced")
    place.rename(old)
    try:
        fresh.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Sync a file or a folder, so that its contents or its names are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
