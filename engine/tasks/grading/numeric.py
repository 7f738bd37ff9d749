"""Finds numbers in text as people write them: 1,234 and $5.00, -3/4 and 5½, 10², 3 \\times 10^5, \\frac{3}{4}.

A comma is part of a number only between groups of three digits. A minus is part of a number only if
nothing stands right before it from which the number could be subtracted. A power, a fraction or a mixed
number is one number.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from .plain import plain

CURRENCY = "[$€£¥₹]"
# No number has 33 groups: from each comma so many are looked at, and not all that follow.
DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,33}+(?![\d,]{0,40}\d)|\d{1,2}(?:,\d{2}(?!\d)){1,33}+,\d{3}(?!,?\d)|\d+)"
DECIMAL = rf"(?:{DIGITS}(?:\.\d+)?|(?<![\w.])\.\d+)"
EXPONENT = r"\^\s?(?:\{\s?[+-]?\d{1,4}\s?\}|\([+-]?\d{1,4}\)|[+-]?\d{1,4}(?!\d))"
FRACTION = rf"\\frac\s?(?:\{{\s?-?{DECIMAL}\s?\}}\s?\{{\s?-?{DECIMAL}\s?\}}|\d(?:\{{\d+\}}|\s?\d))"
SLASH = r"\d{1,9}\s?/\s?\d{1,9}(?![\d/]|\.\d)"
# An irrational root is no number, but what is below it is not the number either.
ROOT = rf"(?:\\sqrt\s?(?:\[\s?\d{{1,2}}\s?\]\s?)?(?:\{{\s?{DECIMAL}\s?\}}|\d)|√\s?{DECIMAL})"
# Longest first: the first form that fits is the number.
FORMS = {
    "root": rf"(?:{DECIMAL}\s?)?{ROOT}",
    "mixed": rf"\d{{1,9}}(?:\s?{FRACTION}|(?:\s|\sand\s){SLASH}|\sand\sa\shalf\b)",
    "fraction": FRACTION,
    "repeating": r"\d*\.\d*\\(?:overline|bar)\{\d+\}",
    "scientific": rf"{DECIMAL}\s?[*xX]\s?10\s?{EXPONENT}",
    "power": rf"{DECIMAL}\s?{EXPONENT}",
    "short": rf"{DECIMAL}[eE][+-]?\d{{1,3}}(?!\w)",
    "slash": rf"{DECIMAL}\s?/\s?\d+(?![\d/]|\.\d)",
    "decimal": DECIMAL,
}
CORE = "|".join(f"(?P<{name}>{form})" for name, form in FORMS.items())
ANY_CORE = re.sub(r"\?P<\w+>", "?:", CORE)
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
LETTERS = {"k": 3, "K": 3, "m": 6, "M": 6, "b": 9, "B": 9}
SCALE = rf"\s?(?:{'|'.join(SCALES)})\b"
LETTER = r"(?<=[\d])[kKmMbB](?!\w)"
PATTERN = (
    rf"(?:(?<![\w)\]}}%])(?:-|\+|(?<![\d)\]}}%]\s)-\s))?(?:{CURRENCY}\s?-?(?:{ANY_CORE})(?:{LETTER}|{SCALE})?"
    rf"|-?(?:{ANY_CORE})(?:{SCALE})?)"
)
NUMBER = re.compile(rf"(?<![A-Za-z_^\d.])(?<![_^]\{{)(?!(?<=%)-)(?>{PATTERN})")
# A number anywhere, also within words.
ANY_NUMBER = re.compile(rf"(?<![_^])(?<![_^]\{{)(?>{PATTERN})")
BULLET = re.compile(r"(?m)^([^\S\n]*+)- (?=\d)")
WHOLE = re.compile(
    rf"(?P<sign>[-+]?)\s?(?P<money>{CURRENCY}?)\s?(?P<inner>-?)(?:{CORE}|(?P<factorial>\d{{1,4}}!{{1,2}}))"
    rf"(?P<scale>{SCALE}|{LETTER})?\s*+(?:%|{CURRENCY}|\^?\{{?\s?(?:\\circ|°)\s?\}}?|\\degree)?\s*+\.?"
)
SCALED = re.compile(rf"(?:{SCALE}|{LETTER})$")
# The most digits of an answer; Python refuses to read more than a few thousand.
LONGEST = 300


def numbers_in(text: str) -> list[str]:
    """The numbers of a text, as written; those inside words only where there are no others."""
    text = plain(text)
    if text.count("\n"):
        # An item of a list is not negative.
        text = BULLET.sub(r"\1", text)
    return all_of(NUMBER, text) or all_of(ANY_NUMBER, text)


def all_of(pattern: re.Pattern[str], text: str) -> list[str]:
    found, position = list[str](), 0
    while one := pattern.search(text, position):
        word = proper(one[0])
        found.append(word.strip())
        position = one.start() + max(1, len(word))
    return found


def number_at(text: str, position: int) -> str | None:
    """The number that begins at this place of a plain text."""
    found = NUMBER.match(text, position)
    return proper(found[0]) if found else None


def proper(word: str) -> str:
    """Cut "3 12/4" to the 3: the fraction of a mixed number is below 1."""
    found = re.fullmatch(rf"(.*?\d)\s(?:and\s)?(\d+)\s?/\s?(\d+)(?:{SCALE})?", word)
    return found[1] if found and int(found[2]) >= int(found[3]) else word


def last_number(text: str) -> str | None:
    found = numbers_in(text)
    return found[-1] if found else None


def value(text: str) -> Fraction | None:
    """Value of a text that is one number; None for anything else."""
    if len(text) > LONGEST:
        return None
    found = WHOLE.fullmatch(plain(text).strip())
    if found is None or (found["sign"] and found["inner"]):
        return None
    if (scale := found["scale"]) and len(scale) == 1 and not found["money"]:
        # 5m may be metres.
        return None
    size = core_value(found)
    if size is None:
        return None
    power = {**SCALES, **LETTERS}[scale.strip()] if scale else 0
    return size * 10**power * (-1 if "-" in (found["sign"], found["inner"]) else 1)


def core_value(found: re.Match[str]) -> Fraction | None:
    """Value without sign and scale, read by the form in which it is written."""
    name = next(name for name in (*FORMS, "factorial") if found[name] is not None)
    try:
        return READERS[name](found[name].replace(",", ""))
    except (ZeroDivisionError, OverflowError):
        return None


def read_decimal(word: str) -> Fraction:
    return Fraction(word)


def read_slash(word: str) -> Fraction:
    top, _, bottom = word.partition("/")
    return Fraction(top.strip()) / int(bottom)


def read_fraction(word: str) -> Fraction:
    body = word.removeprefix("\\frac").strip()
    if found := re.fullmatch(r"\{\s?([^{}]+?)\s?\}\s?\{\s?([^{}]+?)\s?\}", body):
        return Fraction(found[1]) / Fraction(found[2])
    return Fraction(int(body[0]), int(body[1:].strip(" {}")))


def read_mixed(word: str) -> Fraction | None:
    found = re.fullmatch(r"(\d+)\s?(?:and\s)?(.*)", word)
    assert found is not None, word
    rest = found[2]
    if rest == "a half":
        return int(found[1]) + Fraction(1, 2)
    part = read_fraction(rest) if "\\frac" in rest else read_slash(rest)
    return int(found[1]) + part if 0 <= part < 1 else None


def read_repeating(word: str) -> Fraction:
    found = re.fullmatch(r"(\d*)\.(\d*)\\\w+\{(\d+)\}", word)
    assert found is not None, word
    whole, head, cycle = found[1] or "0", found[2], found[3]
    tail = Fraction(int(cycle), 10 ** len(cycle) - 1) / 10 ** len(head)
    return Fraction(f"{whole}.{head or '0'}") + tail


def read_root(word: str) -> Fraction | None:
    """Return a number times a square root that is a fraction; None for any other root."""
    factor, _, rest = word.replace("√", "\\sqrt").partition("\\sqrt")
    if "[" in rest:
        return None
    square = Fraction(rest.strip(" {}"))
    root = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
    return Fraction(factor.strip() or 1) * root if root * root == square else None


def exponent_of(word: str) -> int:
    return int(re.sub(r"[{}()\s]", "", word))


def read_scientific(word: str) -> Fraction | None:
    head, _, exponent = re.sub(r"\s", "", word).partition("^")
    return raised(Fraction(10), exponent_of(exponent), Fraction(re.split("[*xX]", head)[0]))


def read_power(word: str) -> Fraction | None:
    base, _, exponent = word.partition("^")
    return raised(Fraction(base.strip()), exponent_of(exponent))


def raised(base: Fraction, exponent: int, factor: Fraction | int = 1) -> Fraction | None:
    """Return factor * base ** exponent, or None if it has too many digits to be an answer."""
    digits = len(str(max(base.numerator, base.denominator)))
    return factor * base**exponent if digits * abs(exponent) <= LONGEST else None


def read_factorial(word: str) -> Fraction | None:
    number, step = int(word.rstrip("!")), word.count("!")
    return Fraction(math.prod(range(number, 0, -step))) if number <= LONGEST // 2 else None


READERS = {
    "root": read_root,
    "mixed": read_mixed,
    "fraction": read_fraction,
    "repeating": read_repeating,
    "scientific": read_scientific,
    "power": read_power,
    "short": read_decimal,
    "slash": read_slash,
    "decimal": read_decimal,
    "factorial": read_factorial,
}


def same(x: str, y: str) -> bool:
    """Compare as numbers if both are numbers, else as text up to case, spaces and a full stop."""
    a, b = value(x), value(y)
    return a == b if a is not None and b is not None else words(x) == words(y)


def words(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()
