"""Gives numbers one spelling: signs, separators, superscripts, fractions that are one character."""

from __future__ import annotations

import functools
import re
import unicodedata

SPELLINGS = {
    "\\$": "$",
    "\\%": "%",
    "\\!": "",
    "\\left": "",
    "\\right": "",
    "\\displaystyle": "",
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    **dict.fromkeys(("\u2212", "\u2010", "\u2011", "\ufe63"), "-"),
    **dict.fromkeys(("\\times", "\\cdot", "\u00d7", "\u00b7", "\u22c5", "\u2219"), "*"),
}
WORDS = re.compile("|".join(map(re.escape, sorted(SPELLINGS, key=len, reverse=True))))
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
VULGAR = re.compile("(?<=\\d)\\s?[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒↉]|[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒↉]")
# What stands between a digit and a group of three is a separator of thousands.
THOUSANDS = re.compile(
    r"(?<=\d)(?:\{,\}|\\,|\\;|\\ |~|_|['\u2019\u2009\u202f\u00a0])(?=\d{3}(?!\d))"
)
# A negative space, as in 30,\!240.
TIGHT = re.compile(r"(?:(?<!\s)\s++)?\\!\s*+")
# A plain space separates thousands only before zeros, as in 70 000: "3 100 pound bags" are three.
SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3}){0,5} 000(?![\d,.]?\d)")
EN_DASH = re.compile(
    "(?<![\\w)\\]}%\\s])\u2013(?=[\\d.$])|(?<=\\s)\u2013(?=[\\d.$])|^\u2013(?=[\\d.$])"
)
# Points between thousands, where nothing else can be meant: 1.234,50 and 1.234.567.
POINTED = re.compile(
    r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d{1,2})(?![\d.,]?\d)|(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?![\d.,]?\d)"
)
# What takes no room: joiners, marks of direction, the box of a keycap.
UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufe0f\u20e3\ufeff"))
# More marks on one character are no text; Unicode calls it stream-safe.
MOST_MARKS = 30
POWER = re.compile(r"(?<=\d)\*\*(?=[\d({-])")


def plain(text: str) -> str:
    """Spell numbers in one way: "5½" as "5 1/2", "10²" as "10^{2}", "1{,}000" as "1,000".

    Plain text stays as it is.
    """
    text = text.translate(UNSEEN) if not text.isascii() else text
    text = WORDS.sub(lambda found: SPELLINGS[found[0]], TIGHT.sub("", text))
    text = SUPERSCRIPT.sub(lambda found: f"^{{{found[0].translate(RAISED)}}}", text)
    text = SUBSCRIPT.sub(lambda found: f"_{{{found[0].translate(LOWERED)}}}", text)
    text = VULGAR.sub(fraction, text)
    text = THOUSANDS.sub(",", EN_DASH.sub("-", text))
    text = composed(text.replace("\\,", " "))
    text = SPACED.sub(lambda found: found[0].replace(" ", ","), POWER.sub("^", text))
    return POINTED.sub(with_commas, text)


def with_commas(found: re.Match[str]) -> str:
    """Write 1.234,50 as 1,234.50."""
    whole, cents = (found[1] or found[3]).replace(".", ","), found[2]
    return f"{whole}.{cents}" if cents else whole


def composed(text: str) -> str:
    """The text in Unicode's form NFKC. Marks are sorted for it, in quadratic time: only 30 in a row stay."""
    if text.isascii():
        return text
    kept, marks = list[str](), 0
    for character in text:
        marks = marks + 1 if is_mark(character) else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return unicodedata.normalize("NFKC", "".join(kept))


@functools.lru_cache(1024)
def is_mark(character: str) -> bool:
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[-1]) != 0


def fraction(found: re.Match[str]) -> str:
    """Write a vulgar fraction as n/d, apart from the whole number before it."""
    character = found[0].strip()
    words = unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    is_mixed = found.start() and (
        found[0] != character or found.string[found.start() - 1].isdigit()
    )
    return f" {words}" if is_mixed else words
