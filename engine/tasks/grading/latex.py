"""Finds answers in LaTeX: the content of boxes, or formulas."""

from __future__ import annotations

import re

BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
JOINT = re.compile(
    r"[\s$.;:]*+(?:,|and|or|\\text\s?\{\s*(?:and|or)\s*\})[\s$]*+(?:[a-zA-Z]\s?=[\s$]*+)?"
)
# Boxes that are looked at, from the end.
MOST_BOXES = 8
OPENING = re.compile(r"\$|\\[(\[]")
CLOSING = {
    "$$": re.compile(r"\$\$"),
    "$": re.compile(r"(?<!\\)\$"),
    "\\(": re.compile(r"\\\)"),
    "\\[": re.compile(r"\\\]"),
}


def within_braces(text: str, first: int) -> str | None:
    """The text between the brace at `first` and the one that closes it; None if none does."""
    depth = 0
    for i in range(first, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[first + 1 : i]
    return None


def boxes(text: str) -> list[str]:
    """Contents of the last boxes that are not empty: several if only "and", "or" or a comma joins them."""
    found, end = list[str](), 0
    for box in list(BOX.finditer(text))[-MOST_BOXES:]:
        content, after = content_of(text, box.end())
        if content is None or not content.strip():
            continue
        if not JOINT.fullmatch(text, end, box.start()):
            found.clear()
        found.append(content)
        end = after
    return found


def content_of(text: str, start: int) -> tuple[str | None, int]:
    """The content of the box that begins at `start`, and where it ends; \\boxed 5 has no braces."""
    if text.startswith("{", start):
        content = within_braces(text, start)
        return content, start + len(content or "") + 2
    bare = re.compile(r"[^\s$\\{}]+").match(text, start)
    return (bare[0].rstrip(".,;"), bare.end()) if bare else (None, start)


def boxed(text: str) -> str | None:
    """The content of the last box, or a list of joined ones; None without a box that holds anything."""
    return ", ".join(boxes(text)) or None


def formulas(text: str) -> list[str]:
    """Contents of $...$, $$...$$, \\(...\\) and \\[...\\]."""
    found, at = list[str](), 0
    # What does not close here closes nowhere later, so no text is searched twice.
    closing = dict(CLOSING)
    while opening := OPENING.search(text, at):
        at = opening.end()
        for mark in marks_of(text, opening):
            start = opening.start() + len(mark)
            if mark in closing and (end := closing[mark].search(text, start + 1)):
                found.append(text[start : end.start()].strip())
                at = end.end()
                break
            closing.pop(mark, None)
    return found


def marks_of(text: str, opening: re.Match[str]) -> list[str]:
    """The marks that may open a formula here."""
    if opening[0] != "$":
        return [opening[0]]
    marks = ["$$"] if text.startswith("$$", opening.start()) else []
    return marks if text.startswith("\\", max(0, opening.start() - 1)) else [*marks, "$"]
