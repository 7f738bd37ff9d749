"""Compares lists of answers: sets, tuples, intervals, and parts between commas or "and".

math-verify takes 1,2,2 for 1,2, a tuple for a set, and three terms with dots for three terms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

AND = re.compile(
    r"(?:(?<!\s)\s++)?\\(?:text|mbox|mathrm)\s*+\{\s*+(?:,\s*+)?(?:and|or)\s*+\}\s*+"
    r"|(?:,|(?<!\s)(?=\s))\s++(?:and|or)\s++"
)
OPEN, CLOSE = "([{", ")]}"
Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Sequence:
    """The parts of a list; `brackets` are "()", "[)" and the like, "{}" for a set, "" for a bare list."""

    brackets: str
    parts: list[str]

    @property
    def is_tuple(self) -> bool:
        return self.brackets not in ("", "{}")

    @property
    def is_interval(self) -> bool:
        """Whether an end is closed; (1,2) may be a point, too."""
        return "[" in self.brackets or "]" in self.brackets


def sequence_of(text: str) -> Sequence:
    """The parts of an answer: one if it is no list."""
    text = AND.sub(",", text.strip()).replace("\\left", "").replace("\\right", "")
    text = text.replace("\\{", "{").replace("\\}", "}").strip()
    if len(text) > 1 and text[0] in OPEN and text[-1] in CLOSE and closes_at_end(text):
        inside = split(text[1:-1])
        if len(inside) > 1:
            return Sequence(text[0] + text[-1], inside)
    return Sequence("", split(text))


def closes_at_end(text: str) -> bool:
    """Whether the last character closes the bracket that opens the text; [1, 2) counts, too."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character in OPEN) - (character in CLOSE)
        if depth == 0:
            return i == len(text) - 1
    return False


def split(text: str) -> list[str]:
    """The parts between those commas and semicolons that stand in no brackets."""
    parts, depth, start = list[str](), 0, 0
    for i, character in enumerate(text):
        depth += (character in OPEN) - (character in CLOSE)
        if character in ",;" and depth <= 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def same_sequence(found: Sequence, wanted: Sequence, same: Same) -> bool:
    """Whether two lists are the same; order counts if the reference is a tuple."""
    if len(found.parts) != len(wanted.parts):
        return False
    if {found.brackets, wanted.brackets} >= {"{}"} and (found.is_tuple or wanted.is_tuple):
        return False
    if found.is_tuple and wanted.is_tuple and found.brackets != wanted.brackets:
        return False
    if (found.is_interval and not wanted.brackets) or (wanted.is_interval and not found.brackets):
        return False
    if wanted.is_tuple:
        return all(same(a, b) for a, b in zip(found.parts, wanted.parts, strict=True))
    return same_in_any_order(found.parts, wanted.parts, same)


def same_in_any_order(found: list[str], wanted: list[str], same: Same) -> bool:
    """Whether each part has a partner of its own."""
    left = list(wanted)
    for part in found:
        partner = next((other for other in left if same(part, other)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True
