"""Reads sizes in bytes as people write them: 2GiB, 512MiB, 4GB, 1000000."""

from __future__ import annotations

import re
from fractions import Fraction

from ..engine.errors import UsageError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
MOST = 1 << 60
SIZE = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*([KMGT]I?)?B?")


def parse_bytes(text: str | None, option: str = "--memory") -> int | None:
    """Bytes of a size such as 2GiB; None for None or "auto". UsageError names `option`."""
    if text is None or text == "auto":
        return None
    found = SIZE.fullmatch(text.strip().upper())
    size = int(Fraction(found[1]) * UNITS[found[2] or ""]) if found else 0
    if size > MOST:
        raise UsageError(f"{option} {text[:40]}: no machine has so much; write a size such as 2GiB")
    if not size:
        raise UsageError(f"{option} {text}: write a size such as 2GiB or 512MiB")
    if text.strip().isdigit() and size < UNITS["MI"]:
        raise UsageError(
            f"{option} {text}: write the unit, too, such as {text.strip()}GiB; {size} bytes hold nothing"
        )
    return size


def bytes_of(size: str | int | None, option: str = "--memory") -> int | None:
    """Bytes of a size that is a text such as 2GiB, or a number already. UsageError names `option`."""
    if isinstance(size, int) and size < 1:
        raise UsageError(f"{option} {size}: write a number of bytes, or a size such as 2GiB")
    return size if isinstance(size, int) else parse_bytes(size, option)
