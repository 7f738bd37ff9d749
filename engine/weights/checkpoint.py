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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .disguises import disguise_of
from .files import read_folder, safetensors_in
from .headers import Entry, main_dtype, shown
from .locate import hub_id, known_as, locate
from .small_file import read_bytes
from .state import FileState, check_state, map_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

READ_BYTES = 8 << 20
# The largest configs, which name thousands of classes, have about 1 MB.
MOST_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one model folder by name, in the order of its files."""

    folder: Path
    entries: Mapping[str, Entry]
    # Its files as they were when it was opened.
    states: Mapping[Path, FileState] = field(default_factory=dict)

    @staticmethod
    def open(place: str) -> Checkpoint:
        """Open a folder or a hub id and read its headers.

        UsageError names the file, tensor or model at fault.
        """
        folder = locate(place)
        files = [file for file in safetensors_in(folder) if file.is_file()]
        states = {file: FileState.of(file) for file in files}  # before they are read
        return Checkpoint(folder, read_folder(folder), states)

    @property
    def known_as(self) -> str:
        """The name that others may know: its hub id, else its folder's own name."""
        return known_as(self.folder)

    @property
    def hub_id(self) -> str | None:
        """Its id on the hub; None for a folder of this machine."""
        return hub_id(self.folder)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, in the order of the files."""
        return tuple(self.entries)

    @property
    def main_dtype(self) -> str:
        """The dtype of most of its bytes, by torch's name."""
        return main_dtype((entry.dtype, entry.size_bytes) for entry in self.entries.values())

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
            with self.reading(entry.file) as descriptor:
                read_into(descriptor, entry, memoryview(data))  # pyright: ignore[reportArgumentType]
        return tensor

    @contextmanager
    def reading(self, file: Path) -> Iterator[int]:
        """Yield a descriptor of one of its files.

        UsageError where the file is not what was opened, before or after the block.
        """
        self._check(file)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            self._check(file, descriptor)
            yield descriptor
            self._check(file, descriptor)
        finally:
            os.close(descriptor)

    def check_unchanged(self, names: Iterable[str] | None = None) -> None:
        """Raise UsageError where a file was changed since it was opened.

        Only the files of the tensors in `names` are looked at, if given.
        """
        files = self.files if names is None else {self.entries[name].file for name in names}
        for file in files:
            self._check(file)

    def _check(self, file: Path, descriptor: int | None = None) -> None:
        if file in self.states:
            check_state(file, self.states[file], descriptor)

    def start_of(self, name: str, size_bytes: int) -> bytes:
        """Read the first `size_bytes` bytes of a tensor, or all where it has fewer."""
        entry = self.entries[name]
        with self.reading(entry.file) as descriptor:
            return os.pread(descriptor, min(size_bytes, entry.size_bytes), entry.start)

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
        self.check_unchanged()  # a map of less than there was would not hold the tensors
        return {file: map_file(file) for file in self.files}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's config.json. UsageError where it is missing or no JSON object."""
        path = self.folder / "config.json"
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file; a model folder has one")
        try:
            found = json.loads(read_bytes(path, MOST_CONFIG_BYTES).decode())
        except (ValueError, RecursionError) as error:
            what = disguise_of(path) or shown(str(error))
            raise UsageError(f"{path}: not JSON: {what}") from None
        if not isinstance(found, dict):
            raise UsageError(f"{path}: not a JSON object")
        return found


def read_into(descriptor: int, entry: Entry, target: memoryview) -> None:
    """Read all bytes of a tensor into `target`, by pread. UsageError where the file is cut off."""
    done = 0
    while done < entry.size_bytes:
        piece = target[done : done + READ_BYTES]
        count = os.preadv(descriptor, [piece], entry.start + done)
        if count == 0:
            raise UsageError(f"{entry.file}: cut off while it was read")
        done += count
