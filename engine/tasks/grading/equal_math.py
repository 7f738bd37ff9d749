"""Decides whether two LaTeX answers mean the same: as numbers, by spelling, as lists, or by math-verify.

Without math-verify (extra `eval`) only the first three are used; `grader()` says which it is.
"""

from __future__ import annotations

import contextlib
import re
from fractions import Fraction

from .math_verify import LONGEST, shared_verifier
from .numeric import value
from .plain import plain
from .sequences import Sequence, same_sequence, sequence_of
from .strict import Unreadable, braced_fractions, braced_roots

# Longer lists are not compared part by part, since each part may ask math-verify.
MOST_PARTS = 12
# Two answers in one, or brackets of its own.
SEVERAL = re.compile(r"\\pm|\\mp|\\begin|\u00b1")
# An interval by another name.
REGION = re.compile(r"[<>=]|\\(?:le|ge|lt|gt|infty|cup|in)(?![a-z])")
WORD = re.compile(r"[a-z]{4,}")
WRAPPERS = re.compile(
    r"\\(?:text|mbox|mathrm|textbf|textit|mathbf|operatorname|textrm)\s*\{([^{}]*)\}"
)
SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\qquad|\\quad|~|(?<!\d)\s+|\s+(?!\d)")
DROPPED = re.compile(
    r"\\(?:left|right|big|Big|bigg|displaystyle)(?![a-z])|\^\{?\s?\\circ\s?\}?|\\degree|°"
)
UNIT = re.compile(r"(?<=[\d}])\s*+\\(?:text|mbox|mathrm)\s*+\{[^{}\d]*+\}(?:\^\{?[23]\}?)?\s*$")
# A unit without \text: 5 cm^2, 60 km/h.
WORDS = re.compile(
    r"(?<=[\d}])\s+(?!pi\b|and\b|or\b)[a-zA-Z]{2,}[a-zA-Z\s/]{0,40}(?:\^\{?-?[23]\}?)?$"
)
# A number with its base, such as 1010_2.
BASED = re.compile(r"(-?[\dA-F]+)_\{?(\d+)\}?")
# The letter of a choice before its answer, as in "(A) 5".
LABEL = re.compile(r"^\s*\([A-Z]\)(?:\\ |\s|~)+(?=\S)")
CHOICE = re.compile(r"\(([a-zA-Z])\)")
RENAMED = {"\\leq": "\\le", "\\geq": "\\ge", "\\neq": "\\ne", "\\varnothing": "\\emptyset"}
NAME = re.compile(r"^\\?[a-zA-Z]+(?:\([a-z]\))?\s*(?:=|\\in(?![a-z]))|^[^=\d+*/^<>,-]{1,30}=")
SINGLE = re.compile(r"([_^])\{(\w)\}")


def equal_math(found: str, wanted: str) -> bool:
    """Whether an answer means the same as the reference."""
    if max(len(found), len(wanted)) > LONGEST:
        return found == wanted
    a, b = number(found), number(wanted)
    if a is not None and b is not None:
        return a == b
    x, y = spelled(found), spelled(wanted)
    if x == y or without_name(x) == without_name(y):
        # 2,300 is not 2, 300.
        return bool(x) and ("," not in x or (a is None and b is None))
    if (p := BASED.fullmatch(x)) and (q := BASED.fullmatch(y)):
        # math-verify would ignore the base.
        return p.groups() == q.groups()
    if WORD.fullmatch(x) and WORD.fullmatch(y):
        # math-verify takes letters for factors: east would be seat.
        return False
    same = same_lists(found, wanted)
    return verified(found, wanted) if same is None else same


def verified(found: str, wanted: str) -> bool:
    """The verdict of math-verify, for regions in both directions.

    It takes (0,1) for 0<x<1, but not x<1 for (-oo,1).
    """
    verifier = shared_verifier()
    if verifier.same(found, wanted):
        return True
    return bool(REGION.search(found)) and wanted[-1:] in ")]" and verifier.same(wanted, found)


def same_lists(found: str, wanted: str) -> bool | None:
    """Whether two lists have the same parts; None if neither answer is a list."""
    if SEVERAL.search(found + wanted):
        return None
    one, other = (parts_of(text) for text in (found, wanted))
    counts = len(one.parts), len(other.parts)
    if max(counts) < 2 or (counts[0] != counts[1] and REGION.search(found + wanted)):
        return None
    return max(counts) <= MOST_PARTS and same_sequence(one, other, equal_math)


def parts_of(text: str) -> Sequence:
    """The parts of a list; a number with separators is one part."""
    return Sequence("", [text]) if number(text) is not None else sequence_of(text.strip(" $."))


def grader() -> str:
    """Name and version of the library that compares LaTeX here."""
    return shared_verifier().version


def spelled(text: str) -> str:
    """The answer in one spelling: no spaces, sizes or units; fractions and roots with braces."""
    text = DROPPED.sub("", SPACES.sub("", without_unit(text))).replace("\\%", "").replace("%", "")
    text = SINGLE.sub(r"\1\2", text)
    text = CHOICE.sub(r"\1", text) if CHOICE.fullmatch(text) else text
    # An unreadable answer stays as it is.
    with contextlib.suppress(Unreadable):
        text = braced_fractions(braced_roots(text))
    return text.casefold() if re.fullmatch(r"[a-zA-Z]{2,}", text) else text


def without_unit(text: str) -> str:
    """Drop dollars around the text, wrappers such as \\text, and a unit at its end."""
    text = UNIT.sub("", plain(text.replace("{:}", ":")).strip().strip("$").rstrip(". "))
    for word, name in RENAMED.items():
        text = re.sub(re.escape(word) + "(?![a-z])", lambda _, name=name: name, text)
    text = LABEL.sub("", WRAPPERS.sub(r"\1", text))
    return WORDS.sub("", text).replace("$", "")


def without_name(text: str) -> str:
    """Drop a name on the left: x=5 is 5, x\\in[0,1] is [0,1]. Two equations stay as they are."""
    return NAME.sub("", text) if text.count("=") <= 1 else text


def number(text: str) -> Fraction | None:
    """Value of an answer that is one number, with or without a name and a unit; None for anything else."""
    return value(without_name(without_unit(text)).strip())
