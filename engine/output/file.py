"""Writes a result that is one file: it appears whole, and never in place of somebody else's file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError
from .folder import check_writable, real

START_BYTES = 1 << 16


def check_file(option: str, path: Path, is_ours: Callable[[str], bool]) -> None:
    """Raise UsageError where something else has that name, or no file can be made there.

    `is_ours` judges a file that is there by the text that it begins with.
    """
    place = real(path)
    if not place.parent.is_dir():
        raise UsageError(f"{option} {path}: {place.parent} is no folder; make it first")
    try:
        check_writable(place.parent)
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written: {error.strerror}") from None
    if not os.path.lexists(place):
        return
    if not place.is_file():
        raise UsageError(f"{option} {path}: is there already, and is no file")
    with place.open("rb") as file:
        start = file.read(START_BYTES).decode(errors="replace")
    if start and not is_ours(start):
        raise UsageError(
            f"{option} {path}: is there already, and is no earlier result of this command; "
            "name another file"
        )


def write_file(option: str, path: Path, text: str, is_ours: Callable[[str], bool]) -> None:
    """Write beside the place, then rename. OSError where that fails, UsageError as check_file."""
    place = real(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        fresh.chmod(0o666 & ~umask())
        try:
            return os.link(fresh, place)
        except OSError:  # it is there, or the file system has no hard links
            check_file(option, path, is_ours)
        fresh.replace(place)
    finally:
        fresh.unlink(missing_ok=True)


def umask() -> int:
    """The mask of new files, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
