"""Finds numbers in text as people write them: 1,234 and $5.00 and -3/4 and 50% and 1{,}000.

A comma is part of a number only between groups of three digits. A minus is part of a number only if
nothing stands right before it from which the number could be subtracted.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

CURRENCY = "[$€£¥₹]"
DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d,]{0,40}\d)|\d+)"
PATTERN = (
    rf"(?:(?<![\w)\]}}])-\s?)?{CURRENCY}?\s?-?"
    rf"(?:{DIGITS}(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][+-]?\d{{1,3}}(?!\w))?"
    rf"(?:/\d+(?![\d/]|\.\d))?"
)
NUMBER = re.compile(rf"(?<![A-Za-z_^\d.])(?:{PATTERN})")
# Also finds numbers within words and exponents.
ANY_NUMBER = re.compile(PATTERN)
WHOLE = re.compile(rf"({PATTERN})\s*(?:\\?%|{CURRENCY})?\s*\.?")
SPELLINGS = {"\\$": "$", "{,}": ",", "\\,": "", "\\!": "", "\u2212": "-", "\\%": "%"}
# Digits; Python refuses to read more than a few thousand.
LONGEST = 300


def plain(text: str) -> str:
    """The text with one spelling of minus signs, separators and currency signs."""
    for word, spelled in SPELLINGS.items():
        text = text.replace(word, spelled)
    return unicodedata.normalize("NFKC", text)


def numbers_in(text: str) -> list[str]:
    """The numbers of a text as written; numbers inside words only if there are no others."""
    text = plain(text)
    found = NUMBER.findall(text) or ANY_NUMBER.findall(text)
    return [number.strip() for number in found]


def last_number(text: str) -> str | None:
    found = numbers_in(text)
    return found[-1] if found else None


def value(text: str) -> Fraction | None:
    """Value of a text that is one number; None if it is anything else."""
    found = WHOLE.fullmatch(plain(text).strip())
    if found is None or len(text) > LONGEST:
        return None
    number = re.sub(rf"{CURRENCY}|[,\s]", "", found[1])
    top, slash, bottom = number.partition("/")
    if top.startswith("--") or (slash and not int(bottom)):
        return None
    return Fraction(top) / (int(bottom) if slash else 1)


def same(x: str, y: str) -> bool:
    """Whether two texts are equal: as numbers if both are, else but for case, spaces, full stops."""
    a, b = value(x), value(y)
    return a == b if a is not None and b is not None else words(x) == words(y)


def words(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()
