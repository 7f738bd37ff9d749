"""A Hugging Face checkpoint in safetensors: headers checked first, tensors read when asked for.

Headers are parsed here, bounded, so that a broken file is one line that names file and tensor.
A tensor is read into memory of this process, or mapped: then its pages are those of the page cache,
and `drop` gives them back.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_HEADER_BYTES = 100 << 20
DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
READ_BYTES = 8 << 20
CONVERT = (
    "it has only pickled weights, which are never loaded here; convert them once: "
    "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)"
)


@dataclass(frozen=True)
class Entry:
    """Where a tensor's bytes lie."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # in the file
    size_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A folder's tensors by name, in the order of its files."""

    folder: Path
    entries: Mapping[str, Entry]

    @staticmethod
    def open(place: str) -> Checkpoint:
        """A folder or a hub id. UsageError names the file, tensor or model at fault."""
        folder = locate(place)
        entries: dict[str, Entry] = {}
        for file in weight_files(folder):
            entries.update(read_header(file))
        check_index(folder, entries)
        return Checkpoint(folder, entries)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.entries)

    @property
    def files(self) -> list[Path]:
        return list(dict.fromkeys(entry.file for entry in self.entries.values()))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        return self.entries[name].dtype

    def tensor(self, name: str) -> Tensor:
        """The tensor, freshly read."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        if entry.size_bytes:
            data = tensor.reshape(-1).view(torch.uint8).numpy()
            read_into(entry, memoryview(data))  # pyright: ignore[reportArgumentType]
        return tensor

    def start_of(self, name: str, size_bytes: int) -> bytes:
        """The tensor's first bytes."""
        entry = self.entries[name]
        with entry.file.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), min(size_bytes, entry.size_bytes), entry.start)

    def mapped(self, name: str) -> Tensor:
        """The tensor as the page cache holds it: shared by all processes, never written to."""
        entry = self.entries[name]
        if not entry.size_bytes:
            return self.tensor(name)
        flat = torch.frombuffer(
            self._maps[entry.file],
            dtype=entry.dtype,
            count=math.prod(entry.shape),
            offset=entry.start,
        )
        return flat.reshape(entry.shape)

    def fetch(self, name: str) -> Tensor:
        """The mapped tensor, its pages brought in by this thread: half the time of a copy."""
        tensor = self.mapped(name)
        if tensor.numel():
            tensor.reshape(-1).view(torch.uint8)[:: mmap.PAGESIZE].sum()
        return tensor

    def drop(self, name: str) -> None:
        """Take a mapped tensor's pages out of this process; who still reads it brings them back."""
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
        """config.json. UsageError where it is missing or no JSON."""
        path = self.folder / "config.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file; a model folder has one") from None
        except ValueError as error:
            raise UsageError(f"{path}: not JSON: {error}") from None


def locate(place: str) -> Path:
    """The folder of a model: a path, or a hub id that is (or can be) downloaded."""
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UsageError(f"{place}: a model is a folder, this is a file")
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        raise UsageError(f"{place}: no such model folder")
    return download(place)


def download(hub_id: str) -> Path:
    import huggingface_hub

    patterns = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"]
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).split("\n")[0][:160]
        raise UsageError(
            f"{hub_id}: no such folder, and not to be had from the hub ({reason})"
        ) from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that count: those that the index names, else all."""
    index = folder / INDEX
    if index.exists():
        names = sorted(set(index_map(index).values()))
        for name in names:
            if not (folder / name).is_file():
                raise UsageError(f"{folder / name}: no such file, but {INDEX} names it")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise UsageError(f"{folder}: {CONVERT if pickled else 'holds no *.safetensors weights'}")
    return files


def index_map(index: Path) -> dict[str, str]:
    try:
        where = json.loads(index.read_text())["weight_map"]
        assert isinstance(where, dict)
        return {str(name): Path(str(file)).name for name, file in where.items()}
    except (ValueError, KeyError, AssertionError, TypeError) as error:
        raise UsageError(f"{index}: not an index of weights: {error}") from None


def check_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    index = folder / INDEX
    if not index.exists():
        return
    for name, file in index_map(index).items():
        if name not in entries or entries[name].file.name != file:
            raise UsageError(f"{folder / file}: does not hold {name}, but {INDEX} says so")


def read_header(file: Path) -> dict[str, Entry]:
    """A safetensors header. UsageError where the file is cut off or not of that form."""
    header, offset = raw_header(file)
    size, entries = file.stat().st_size, {}
    for name, fields in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = DTYPES[fields["dtype"]], tuple(map(int, fields["shape"]))
            start, end = map(int, fields["data_offsets"])
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(
                f"{file}: {name}: a header entry that is not understood: {error}"
            ) from None
        if (
            end - start != math.prod(shape) * dtype.itemsize
            or start < 0
            or min(shape, default=0) < 0
        ):
            raise UsageError(f"{file}: {name}: its offsets do not fit its shape {list(shape)}")
        if offset + end > size:
            raise UsageError(f"{file}: cut off: {name} ends at byte {offset + end} of {size}")
        entries[name] = Entry(file, dtype, shape, offset + start, end - start)
    return entries


def raw_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header's object, and where the data begins."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise UsageError(
                f"{file}: not a safetensors file: a header of {length} bytes in {size}"
            )
        text = stream.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: not a safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise UsageError(f"{file}: not a safetensors file: its header is no object")
    return header, 8 + length


def map_file(file: Path) -> mmap.mmap:
    """Copy on write, as torch wants buffers that it could write to."""
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)


def read_into(entry: Entry, target: memoryview) -> None:
    """All of a tensor's bytes, by pread."""
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
