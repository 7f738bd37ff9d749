"""What is told while long work goes on: to a bar, to any object with the same methods, or to nobody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from ..engine.given import having
from ..engine.screening.glance import Glance, Progress

# The methods of who is told.
TOLD = ("stage", "update", "expect", "facts")


class Watcher(Progress, Protocol):
    """Who is told of progress. `expect` says how many candidates the whole run has."""

    def expect(self, candidates: int) -> None: ...


class Unseen:
    """Nobody watches."""

    def stage(self, label: str, total: int | None = None) -> None:
        return None

    def update(self, done: int, total: int | None = None) -> None:
        return None

    def expect(self, candidates: int) -> None:
        return None

    def facts(self, look: Callable[[], Glance]) -> None:
        return None


UNSEEN = Unseen()


def watched(progress: Watcher | bool) -> AbstractContextManager[Watcher]:
    """Return who is told, as a context: True is the commands' bar, False nobody."""
    if progress is True:
        from .cli.progress import Bar

        return Bar()
    return nullcontext(progress or UNSEEN)


def given_watcher(name: str, value: object) -> object:
    """Return who is told: True, False or None, or an object with the methods of Watcher."""
    wanted = f"True, or an object with {', '.join(TOLD)}"
    return value if value is None or isinstance(value, bool) else having(wanted, *TOLD)(name, value)
