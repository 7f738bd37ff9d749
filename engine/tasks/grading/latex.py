"""Finds answers in LaTeX: the content of a box, or the last formula."""

from __future__ import annotations

import re


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{...}, else of the last \\fbox{...}; None without either."""
    if "\\boxed " in text:
        return text.split("\\boxed ")[-1].split("$")[0]
    start = text.rfind("\\boxed")
    start = start if start >= 0 else text.rfind("\\fbox")
    first = text.find("{", start) if start >= 0 else -1
    if first < 0:
        return None
    depth = 0
    for i in range(first, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[first + 1 : i]
    return None


FORMULA = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL
)


def last_formula(text: str) -> str | None:
    """The content of the last $...$, $$...$$, \\(...\\) or \\[...\\]."""
    found = FORMULA.findall(text)
    return next(filter(None, found[-1])).strip() if found else None
