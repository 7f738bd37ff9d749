"""What can go wrong, as types.

EngineError             anything we expect to happen
+-- UsageError          the user's input or environment: exit 2, one line naming the culprit
|   +-- MissingExtra    an optional dependency is absent; the line says what to install
|   +-- NoRun           a folder holds no run; it is a FileNotFoundError, too
+-- Rejected            a merge program was rejected: a result, not a failure: exit 3
+-- WorkerBug           an exception in the worker, with its traceback; costs the candidate in flight
+-- WorkerLost          the engine's process died: costs the candidate in flight
+-- EngineGone          the process had died before this request's turn: costs nobody
+-- PartlyDone          something failed after results were paid for; it carries both
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .extras import install_line

REJECTION_KINDS = (
    *("no_function", "syntax", "import", "runtime", "timeout", "memory", "violation"),
    *("shape", "nonfinite", "unsupported"),
)


MAX_TEXT = 400  # characters of a rejection's text that a child wrote


def visible(text: str) -> str:
    """Escape what could drive a terminal or hide: all that is not printable but newlines and tabs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def in_one_line(text: str) -> str:
    """Escape a text so that it can neither drive a terminal nor forge a line of its own."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def first_line(error: BaseException, most: int = MAX_TEXT) -> str:
    """Return the first line of what an error says, cut; "" where it says nothing."""
    return str(error).strip().split("\n")[0][:most]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" with the known word most like this one; empty where none is alike."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), lower, 1)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""


def printable(text: object, most: int = MAX_TEXT) -> str:
    """A child's text, escaped and cut. It may be any JSON, such as lists within lists."""
    try:
        words = str(text)
    except RecursionError:
        words = "(text that nests too deeply)"
    return visible(words[:most])[:most]


@dataclass(frozen=True)
class Rejection:
    """Why a program was not scored. It is shown to people, and is a training signal."""

    kind: str  # one of REJECTION_KINDS
    detail: str  # what happened, and the nearest allowed form where there is one; escaped
    line: int | None = None  # the line in the program's text as it was given, from 1

    def __post_init__(self) -> None:
        assert self.kind in REJECTION_KINDS, self.kind
        object.__setattr__(self, "detail", visible(self.detail))

    def to_json(self) -> dict[str, object]:
        return {
            "status": "rejected",
            "kind": self.kind,
            "detail": self.detail,
            "line": self.line,
        }


@dataclass(frozen=True)
class Failure:
    """A bug or an accident of ours under one candidate; the text is a traceback, escaped."""

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", visible(self.text))

    @property
    def last_line(self) -> str:
        return self.text.strip().rsplit("\n", 1)[-1]


class EngineError(Exception):
    """The root of all expected errors."""


class UsageError(EngineError):
    """What was asked, or the machine it was asked of, is at fault."""


class MissingExtra(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: {install_line(extra)}")


class NoRun(UsageError, FileNotFoundError):
    """A folder is not there, or holds no run."""


class Rejected(EngineError):
    """Carries a Rejection to whoever asked for the program to be run."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(f"{rejection.kind}: {rejection.detail}")
        self.rejection = rejection


class WorkerBug(EngineError):
    """An exception in the worker that nobody expected. The text is its traceback."""


class WorkerLost(EngineError):
    """The process that holds the resident engine is gone."""


class EngineGone(EngineError):
    """No engine was up when this request's turn came, so it was not tried."""


class PartlyDone(EngineError):
    """Something failed after results were paid for. They are printed first, then what failed."""

    def __init__(self, result: dict[str, Any], cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.result, self.cause = result, cause


@contextmanager
def keeping(found: Callable[[], dict[str, Any] | None]) -> Iterator[None]:
    """Turn an exception in this context into PartlyDone with the results found so far.

    `found` returns None where nothing was paid for yet; the error then stays as it is.
    """
    try:
        yield
    except PartlyDone:
        raise
    except Exception as error:
        try:
            result = found()
        except Exception:
            # Results cannot be read any more.
            raise error from None
        if result is None:
            raise
        raise PartlyDone(result, error) from error
