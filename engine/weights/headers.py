"""Reads safetensors headers, within bounds: a damaged file gives one line that names it.

A file is refused where safetensors itself refuses it: tensors lie one after the other, without gaps,
from the header's end to the file's. Nothing here loads torch, so a wrong path or a damaged file is
reported in the first second.
"""

from __future__ import annotations

import json
import math
import stat
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .disguises import START_BYTES, as_text, disguise
from .small_file import check_regular, reason

MAX_HEADER_BYTES = 100 << 20
MAX_RANK, MAX_SIZE = 64, 1 << 63
# Characters of a name that a message shows.
MOST_SHOWN = 120
# Maps safetensors' name of a dtype to torch's name.
DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
# Dtypes of safetensors with several elements in a byte.
PACKED = ("F4", "F6_E2M3", "F6_E3M2")
ITEMSIZE_BYTES = {
    **dict.fromkeys(("float64", "complex64", "int64", "uint64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("bfloat16", "float16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2fnuz"), 1),
}


@dataclass(frozen=True)
class Entry:
    """The place of a tensor's bytes in a file, with the tensor's dtype and shape."""

    file: Path
    dtype: str  # torch's name, such as "bfloat16"
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    size_bytes: int

    @property
    def end(self) -> int:
        """The byte of the file that follows the tensor."""
        return self.start + self.size_bytes


def read_header(file: Path) -> dict[str, Entry]:
    """Return the entries of a safetensors file by tensor name.

    UsageError where the file is cut off or its header does not have that form.
    """
    header, offset, size = raw_header(file)
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not is_text_mapping(metadata):
        raise UsageError(f"{file}: not a safetensors file: its __metadata__ is no mapping of texts")
    entries = {name: entry_of(file, name, fields, offset) for name, fields in header.items()}
    check_layout(file, entries, offset, size)
    return entries


def raw_header(file: Path) -> tuple[dict[str, Any], int, int]:
    """Return the header's JSON object, the byte at which the data begins, and the file's size.

    UsageError where this is not a safetensors file.
    """
    if not file.exists():
        check_regular(file)  # says that it is a dangling link
    try:
        text, size = header_text(file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {reason(error)}") from None
    try:
        header = strict_json(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: not a safetensors file: {shown(str(error))}") from None
    if not isinstance(header, dict):
        raise UsageError(f"{file}: not a safetensors file: its header is no object")
    return header, 8 + len(text), size


def header_text(file: Path) -> tuple[bytes, int]:
    """Return the bytes of the header, and the file's size.

    UsageError where this is not a safetensors file. OSError where the disk, or what is linked, does not
    let itself be read.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{file}: not a safetensors file: it is no regular file")
    with file.open("rb") as stream:
        start = stream.read(START_BYTES)
        length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, found.st_size - 8):
            what = (
                disguise(start)
                or as_text(start)
                or f"a header of {length} bytes in {found.st_size}"
            )
            raise UsageError(f"{file}: not a safetensors file: {what}")
        stream.seek(8)
        return stream.read(length), found.st_size


def strict_json(text: str) -> Any:
    """Parse JSON as strictly as safetensors does, and refuse a key that is there twice.

    ValueError where a number is NaN or infinite, or a text has half of a surrogate pair.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key in counts if counts[key] > 1)
            raise ValueError(f"{shown(twice)} is there twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    def finite(digits: str) -> float:
        if math.isinf(number := float(digits)):
            raise ValueError(f"{shown(digits)} is out of range")
        return number

    found = json.loads(
        text,
        object_pairs_hook=distinct,
        parse_constant=refuse,
        parse_float=finite,
        # In safetensors -0 is no whole number.
        parse_int=lambda digits: -0.0 if digits == "-0" else int(digits),
    )
    if "\\u" in text:
        json.dumps(found, ensure_ascii=False).encode()
    return found


def is_text_mapping(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def entry_of(file: Path, name: str, fields: Any, offset: int) -> Entry:
    """Return the entry of one tensor. The file's data begin at `offset`.

    UsageError names file and tensor.
    """
    try:
        if fields["dtype"] in PACKED:
            raise UsageError(
                f"{file}: {shown(name)}: is of dtype {fields['dtype']}, which is quantised; start from "
                "the 16 or 32 bit checkpoint"
            )
        dtype = DTYPES[fields["dtype"]]
        shape, (start, end) = sizes_of(fields["shape"]), sizes_of(fields["data_offsets"])
    except (KeyError, ValueError, TypeError) as error:
        what = f"{type(error).__name__}: {shown(str(error))}"
        raise UsageError(
            f"{file}: {shown(name)}: a header entry that is not understood ({what})"
        ) from None
    # A dimension of 0 hides the others from the product, but not from whoever makes the tensor.
    if math.prod(max(1, one) for one in shape) * ITEMSIZE_BYTES[dtype] >= MAX_SIZE:
        raise UsageError(f"{file}: {shown(name)}: a shape that no memory holds: {list(shape)[:8]}")
    if end - start != math.prod(shape) * ITEMSIZE_BYTES[dtype]:
        raise UsageError(
            f"{file}: {shown(name)}: its offsets do not fit its shape {list(shape)[:8]}"
        )
    return Entry(file, dtype, shape, offset + start, end - start)


def sizes_of(value: object) -> tuple[int, ...]:
    """Return a list of sizes as a tuple. ValueError where it is none, as with 2.0, true or 2**70."""
    if not isinstance(value, list) or len(value) > MAX_RANK:
        raise ValueError("not a list of sizes")
    for size in value:
        if type(size) is not int or not 0 <= size < MAX_SIZE:
            raise ValueError(f"{size!r} is no size")
    return tuple(value)


def check_layout(file: Path, entries: Mapping[str, Entry], offset: int, size: int) -> None:
    """Raise UsageError unless the tensors fill the file, in some order, each byte once."""
    end = offset
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.end > size:
            raise UsageError(
                f"{file}: cut off: {shown(name)} ends at byte {entry.end} of {size}; "
                "download or save it again"
            )
        if entry.start != end:
            what = (
                "overlaps the tensor before it" if entry.start < end else "leaves a gap before it"
            )
            raise UsageError(f"{file}: {shown(name)}: {what}, which safetensors does not allow")
        end = entry.end
    if end != size:
        raise UsageError(
            f"{file}: damaged: {size - end} bytes follow its last tensor; download or save it again"
        )


def main_dtype(tensors: Iterable[tuple[str, int]]) -> str:
    """Return the dtype of most of the bytes of tensors, given as (dtype, bytes); there is one at least."""
    sizes = Counter[str]()
    for dtype, size_bytes in tensors:
        sizes[dtype] += size_bytes
    return max(sizes, key=sizes.__getitem__)


def shown(text: str) -> str:
    """Return a name or a text of a file, cut to what a message can show."""
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[:MOST_SHOWN]}... ({len(text)} characters)"
