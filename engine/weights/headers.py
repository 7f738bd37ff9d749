"""Reads safetensors headers, within bounds: a damaged file gives one line that names it.

Nothing here loads torch, so a wrong path or a damaged file is reported in the first second.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100 << 20
# Maps safetensors' name of a dtype to torch's name.
DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
ITEMSIZE_BYTES = {
    **dict.fromkeys(("float64", "int64"), 8),
    **dict.fromkeys(("float32", "int32"), 4),
    **dict.fromkeys(("bfloat16", "float16", "int16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2"), 1),
}
CONVERT = (
    "it has only pickled weights, which are never loaded here; convert them once: "
    "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)"
)


@dataclass(frozen=True)
class Entry:
    """The place of a tensor's bytes in a file, with the tensor's dtype and shape."""

    file: Path
    dtype: str  # torch's name, such as "bfloat16"
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    size_bytes: int


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that count: those that the index names, or all without an index.

    UsageError where a file is missing, or the folder holds no safetensors weights.
    """
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
    """Return the file name of each tensor by the index. UsageError where it is not an index."""
    try:
        where = json.loads(index.read_text())["weight_map"]
        assert isinstance(where, dict)
        return {str(name): Path(str(file)).name for name, file in where.items()}
    except (ValueError, KeyError, AssertionError, TypeError) as error:
        raise UsageError(f"{index}: not an index of weights: {error}") from None


def check_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Raise UsageError where the index names a file for a tensor that is not in it."""
    index = folder / INDEX
    if not index.exists():
        return
    for name, file in index_map(index).items():
        if name not in entries or entries[name].file.name != file:
            raise UsageError(f"{folder / file}: does not hold {name}, but {INDEX} says so")


def read_header(file: Path) -> dict[str, Entry]:
    """Return the entries of a safetensors file by tensor name.

    UsageError where the file is cut off or its header does not have that form.
    """
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
            end - start != math.prod(shape) * ITEMSIZE_BYTES[dtype]
            or start < 0
            or min(shape, default=0) < 0
        ):
            raise UsageError(f"{file}: {name}: its offsets do not fit its shape {list(shape)}")
        if offset + end > size:
            raise UsageError(f"{file}: cut off: {name} ends at byte {offset + end} of {size}")
        entries[name] = Entry(file, dtype, shape, offset + start, end - start)
    return entries


def raw_header(file: Path) -> tuple[dict[str, Any], int]:
    """Return the header's JSON object, and the byte at which the data begins.

    UsageError where this is not a safetensors file.
    """
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
