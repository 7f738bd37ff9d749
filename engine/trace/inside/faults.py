"""Turns an exception in a program into the rejection that it means."""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

from ...errors import MAX_TEXT
from .hints import with_hint
from .program import FILENAME
from .recorder import TooLarge, TooMuchWork, Unsupported

# What libraries say when an attempt failed below them, and when there was no memory.
VIOLATIONS = (
    "Operation not permitted",
    "Parent directory",
    "can't start new thread",
    "raise maximum",
)
NO_MEMORY = (
    *("can't allocate memory", "Cannot allocate memory", "not enough memory"),
    "Storage size calculation overflowed",
)


class WrongShape(BaseException):
    """The result is not an update of the tensor."""


def rejection_of(error: BaseException) -> dict[str, Any]:
    line = None
    # An audit hook that the program has set may raise in here.
    with contextlib.suppress(BaseException):
        line = line_of(error)
    return {
        "status": "rejected",
        "kind": kind_of(error),
        "detail": detail_of(error),
        "line": line,
    }


def kind_of(error: BaseException) -> str:
    kinds = (
        (WrongShape, "shape"),
        (TooLarge, "memory"),
        (TooMuchWork, "timeout"),
        (Unsupported, "unsupported"),
        (SyntaxError, "syntax"),
        (ImportError, "import"),
        (MemoryError, "memory"),
        (PermissionError, "violation"),
    )
    for errors, kind in kinds:
        if isinstance(error, errors):
            return kind
    text = text_of(error)
    # Torch has no shape function for the op.
    if isinstance(error, NotImplementedError) and "aten::" in text:
        return "unsupported"
    if any(words in text for words in VIOLATIONS):
        return "violation"
    return "memory" if any(words in text for words in NO_MEMORY) else "runtime"


def detail_of(error: BaseException) -> str:
    text = text_of(error).strip().split("\n\n")[0][:MAX_TEXT]
    if isinstance(error, Unsupported | WrongShape):
        return with_hint(text) if isinstance(error, WrongShape) else text
    name = type(error).__name__
    # Finding a hint looks at the program's own objects, which may raise.
    with contextlib.suppress(BaseException):
        return with_hint(f"{name}: {text}" if text else name, error)
    return f"{name}: {text}"


def text_of(error: BaseException) -> str:
    """An error's own words, or "" if it cannot be shown."""
    with contextlib.suppress(BaseException):
        return str(error)
    return ""


def line_of(error: BaseException) -> int | None:
    """The program's innermost line on the way to the error, or None."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == FILENAME]
    if lines:
        return lines[-1]
    if isinstance(error, SyntaxError) and error.filename == FILENAME:
        return error.lineno
    return None
