"""Opens a Hugging Face checkpoint in safetensors: headers are checked first, tensors read later.

A tensor is read into memory of this process, or mapped. A mapped tensor's pages are those of the
page cache, and `drop` gives them back. Headers are read to check a command's input in its first
second, so torch is loaded only where a tensor is made.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .disguises import disguise_of
from .files import read_folder
from .headers import Entry, shown
from .locate import known_as, locate

if TYPE_CHECKING:
    import torch
    from torch import Tensor

READ_BYTES = 8 << 20


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one model folder by name, in the order of its files."""

    folder: Path
    entries: Mapping[str, Entry]

    @staticmethod
    def open(place: str) -> Checkpoint:
        """Open a folder or a hub id and read its headers.

        UsageError names the file, tensor or model at fault.
        """
        folder = locate(place)
        return Checkpoint(folder, read_folder(folder))

    @property
    def known_as(self) -> str:
        """The name that others may know: its hub id, else its folder's own name."""
        return known_as(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, in the order of the files."""
        return tuple(self.entries)

    @property
    def files(self) -> list[Path]:
        """The weight files that hold tensors."""
        return list(dict.fromkeys(entry.file for entry in self.entries.values()))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        import torch

        return getattr(torch, self.entries[name].dtype)

    def tensor(self, name: str) -> Tensor:
        """Read a tensor into memory of this process. UsageError where its file is cut off."""
        import torch

        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=self.dtype(name))
        if entry.size_bytes:
            data = tensor.reshape(-1).view(torch.uint8).numpy()
            read_into(entry, memoryview(data))  # pyright: ignore[reportArgumentType]
        return tensor

    def start_of(self, name: str, size_bytes: int) -> bytes:
        """Read the first `size_bytes` bytes of a tensor, or all where it has fewer."""
        entry = self.entries[name]
        with entry.file.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), min(size_bytes, entry.size_bytes), entry.start)

    def mapped(self, name: str) -> Tensor:
        """Map a tensor: all processes share its pages, and it is never written to."""
        import torch

        entry = self.entries[name]
        if not entry.size_bytes:
            return self.tensor(name)
        flat = torch.frombuffer(
            self._maps[entry.file],
            dtype=self.dtype(name),
            count=math.prod(entry.shape),
            offset=entry.start,
        )
        return flat.reshape(entry.shape)

    def fetch(self, name: str) -> Tensor:
        """Map a tensor, and bring its pages in by this thread: half the time of a copy."""
        import torch

        tensor = self.mapped(name)
        if tensor.numel():
            tensor.reshape(-1).view(torch.uint8)[:: mmap.PAGESIZE].sum()
        return tensor

    def drop(self, name: str) -> None:
        """Take a mapped tensor's pages out of this process; a later reader brings them in."""
        entry = self.entries[name]
        start = entry.start // mmap.PAGESIZE * mmap.PAGESIZE
        if entry.size_bytes and hasattr(mmap, "MADV_DONTNEED"):
            size = entry.start + entry.size_bytes - start
            self._maps[entry.file].madvise(mmap.MADV_DONTNEED, start, size)

    @cached_property
    def _maps(self) -> dict[Path, mmap.mmap]:
        return {file: map_file(file) for file in self.files}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's config.json. UsageError where it is missing or no JSON object."""
        path = self.folder / "config.json"
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file; a model folder has one") from None
        except (ValueError, RecursionError) as error:
            what = disguise_of(path) or shown(str(error))
            raise UsageError(f"{path}: not JSON: {what}") from None
        if not isinstance(found, dict):
            raise UsageError(f"{path}: not a JSON object")
        return found


def map_file(file: Path) -> mmap.mmap:
    """Map a file copy-on-write, since torch wants buffers that it could write to."""
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)


def read_into(entry: Entry, target: memoryview) -> None:
    """Read all bytes of a tensor into `target`, by pread. UsageError where the file is cut off."""
    descriptor = os.open(entry.file, os.O_RDONLY)
    try:
        done = 0
        while done < entry.size_bytes:
            piece = target[done : done + READ_BYTES]
            count = os.preadv(descriptor, [piece], entry.start + done)
            if count == 0:
                raise UsageError(f"{entry.file}: cut off while it was read")
            done += count
    finally:
        os.close(descriptor)
