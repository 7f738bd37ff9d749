"""What is told while long work goes on: to a bar, to any object with three methods, or to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Watcher(Protocol):
    """Who is told of progress: `stage` begins one, `update` says how much is done, `leaders` the best."""

    def stage(self, label: str, total: int | None = None) -> object: ...
    def update(self, done: int, total: int | None = None) -> None: ...
    def leaders(self, rows: Sequence[Sequence[str]]) -> None: ...


class Unseen:
    """Nobody watches."""

    def stage(self, label: str, total: int | None = None) -> None:
        return None

    def update(self, done: int, total: int | None = None) -> None:
        return None

    def leaders(self, rows: Sequence[Sequence[str]]) -> None:
        return None


UNSEEN = Unseen()


def watched(progress: Watcher | bool) -> AbstractContextManager[Watcher]:
    """Return who is told, as a context: True is the commands' bar, False nobody."""
    if progress is True:
        from .cli.progress import Bar

        return Bar()
    return nullcontext(progress or UNSEEN)
