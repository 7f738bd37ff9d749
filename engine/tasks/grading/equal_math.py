"""Decides whether two LaTeX answers mean the same: by spelling, as numbers, or by math-verify.

Without math-verify (extra `eval`) only the first two are used; `grader()` says which it is.
"""

from __future__ import annotations

import contextlib
import re
from fractions import Fraction

from . import numeric
from .math_verify import LONGEST, shared_verifier
from .strict import Unreadable, braced_fractions, braced_roots

WRAPPERS = re.compile(
    r"\\(?:text|mbox|mathrm|textbf|textit|mathbf|operatorname|textrm)\s*\{([^{}]*)\}"
)
SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\quad|\\qquad|~|\s+")
DROPPED = re.compile(r"\\(?:left|right|big|Big|bigg|displaystyle)(?![a-z])|\^\{?\\circ\}?|\\degree")
UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|mathrm)\s*\{\s*[^{}\d]*\}(?:\^\{?[23]\}?)?\s*$")
# A unit without \text.
WORDS = re.compile(r"(?<=\d)\s+(?!pi\b)[a-zA-Z]{2,}[a-zA-Z\s]*$")
# A number with its base, such as 1010_2.
BASED = re.compile(r"(-?[\dA-F]+)_\{?(\d+)\}?")
CHOICE = re.compile(r"\(([a-zA-Z])\)")
RENAMED = {"dfrac": "frac", "tfrac": "frac", "\\leq": "\\le", "\\geq": "\\ge", "\\neq": "\\ne"}
NAME = re.compile(r"^\\?[a-zA-Z]+(?:\([a-z]\))?(?:=|\\in(?![a-z]))")
SINGLE = re.compile(r"([_^])\{(\w)\}")
FRACTION = re.compile(r"(-?)\\frac\{(-?\d+)\}\{(-?\d+)\}")
MIXED = re.compile(r"(-?)(\d+)\\frac\{(\d+)\}\{(\d+)\}")


def equal_math(found: str, wanted: str) -> bool:
    """Whether an answer means the same as the reference."""
    if max(len(found), len(wanted)) > LONGEST:
        return found == wanted
    x, y = spelled(found), spelled(wanted)
    if x == y or without_name(x) == without_name(y):
        return bool(x)
    if (p := BASED.fullmatch(x)) and (q := BASED.fullmatch(y)):
        # math-verify would ignore the base.
        return p.groups() == q.groups()
    a, b = number(without_name(x)), number(without_name(y))
    if a is not None and b is not None:
        return a == b
    return shared_verifier().same(found, wanted)


def grader() -> str:
    """Name and version of what compares LaTeX here."""
    return shared_verifier().version


def spelled(text: str) -> str:
    """The answer in one spelling: no spaces, sizes or units; fractions and roots with braces."""
    text = UNIT.sub("", text.strip().strip("$").rstrip(". "))
    for word, name in RENAMED.items():
        text = re.sub(re.escape(word) + "(?![a-z])", lambda _, name=name: name, text)
    text = WORDS.sub("", WRAPPERS.sub(r"\1", text)).replace("\\$", "").replace("$", "")
    text = DROPPED.sub("", SPACES.sub("", text)).replace("\\%", "").replace("%", "")
    text = SINGLE.sub(r"\1\2", text)
    text = CHOICE.sub(r"\1", text) if CHOICE.fullmatch(text) else text
    # An unreadable answer stays as it is.
    with contextlib.suppress(Unreadable):
        text = braced_fractions(braced_roots(text))
    return text.casefold() if re.fullmatch(r"[a-zA-Z]{2,}", text) else text


def without_name(text: str) -> str:
    """Drop a name on the left: x=5 is 5, x\\in[0,1] is [0,1]. Two equations stay as they are."""
    return NAME.sub("", text) if text.count("=") <= 1 else text


def number(text: str) -> Fraction | None:
    """Value of 3, 1,000, 0.75, 3/4, \\frac{3}{4} or 1\\frac{3}{4}; None for anything else."""
    if found := FRACTION.fullmatch(text):
        top, bottom = int(found[2]), int(found[3])
        return Fraction(f"{found[1]}1") * Fraction(top, bottom) if bottom else None
    if (found := MIXED.fullmatch(text)) and int(found[4]):
        whole = int(found[2]) + Fraction(int(found[3]), int(found[4]))
        return -whole if found[1] else whole
    return numeric.value(text)
