"""Tells whether a file is still the one that was opened, and maps files that may be cut off."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError


@dataclass(frozen=True)
class FileState:
    """Facts of a file that change when somebody writes or replaces it."""

    device: int
    number: int
    size_bytes: int
    modified_ns: int

    @staticmethod
    def of(file: Path | int) -> FileState:
        """Look at a path or a descriptor. OSError where the file is gone."""
        found = os.stat(file)
        return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def check_state(file: Path, opened: FileState, descriptor: int | None = None) -> None:
    """Raise UsageError where a file is no longer what it was. An open one is looked at by `descriptor`."""
    try:
        now = FileState.of(file if descriptor is None else descriptor)
    except FileNotFoundError:
        raise changed(file, "it is gone") from None
    if now == opened:
        return
    if now.size_bytes < opened.size_bytes:
        raise changed(file, f"it was cut off to {now.size_bytes} of {opened.size_bytes} bytes")
    same = (now.device, now.number) == (opened.device, opened.number)
    raise changed(file, "it was written to" if same else "another file has its place")


def changed(file: Path, how: str) -> UsageError:
    """Make the error that names a changed file and says what to do."""
    return UsageError(
        f"{file}: changed while it was in use: {how}; nothing that was made of it is kept: let no other "
        "program write to a model in use (copy it), and start again"
    )


def map_file(file: Path) -> mmap.mmap:
    """Map a file copy-on-write, since torch wants buffers that it could write to.

    Where the file is cut off its pages read as zeros, in place of the signal that would end the process.
    Whoever uses them checks the file's state afterwards.
    """
    from ...kernels import _cpu  # pyright: ignore[reportAttributeAccessIssue]

    with file.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    number = _cpu.guard_mapping(address, len(mapped))
    weakref.finalize(mapped, _cpu.forget_mapping, number).atexit = False
    return mapped
