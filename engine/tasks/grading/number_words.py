"""Reads numbers in words, up to 999: "twenty-one", "three hundred and five", "a half"."""

from __future__ import annotations

import re
from fractions import Fraction

UNITS = "one two three four five six seven eight nine".split()
TEENS = (
    "zero ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
VALUES = {word: i for i, word in enumerate(UNITS, 1)}
VALUES |= {word: i for i, word in enumerate(TEENS[1:], 10)} | {"zero": 0}
VALUES |= {word: 10 * i for i, word in enumerate(TENS, 2)}
UNIT, TEEN, TEN = ("|".join(words) for words in (UNITS, TEENS, TENS))
BELOW_100 = rf"(?:{TEEN})|(?:{UNIT})|(?:{TEN})(?:[\s-](?:{UNIT}))?"
NAMED = re.compile(
    rf"(?:(?P<hundreds>{UNIT}|a) hundred(?: (?:and )?(?P<after>{BELOW_100}))?|(?P<alone>{BELOW_100}))"
)
HALF = re.compile(r"(?:(?:a|one)[ -])?half")


NEGATIVE = re.compile(r"(?:minus|negative)\s+(?=\S)", re.IGNORECASE)


def named(text: str) -> Fraction | None:
    """Value of a text that names one number; None for anything else."""
    said = text.strip(" .*!").casefold()
    if sign := NEGATIVE.match(said):
        inner = said[sign.end() :]
        found = None if NEGATIVE.match(inner) else named(inner)
        return None if found is None else -found
    if HALF.fullmatch(said):
        return Fraction(1, 2)
    if not (found := NAMED.fullmatch(said)):
        return None
    hundreds = VALUES.get(found["hundreds"], 1) if found["hundreds"] else 0
    rest = re.split("[ -]", found["after"] or found["alone"] or "zero")
    return Fraction(100 * hundreds + sum(VALUES[word] for word in rest))
