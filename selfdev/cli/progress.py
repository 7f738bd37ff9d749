"""Shows progress on stderr: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console

from ...engine.errors import in_one_line
from ...engine.screening.glance import Glance
from .command import say
from .live import LiveView

# Without a terminal, updates are printed no more often than this.
LINE_EVERY_S = 15.0
# A look asks run.db, so there is none after each of many quick candidates.
LOOK_EVERY_S = 0.5


class Bar:
    """Shows one stage after another: `stage(label, total)`, then `update(done)`.

    `facts` gives a screening's numbers, `expect` is told how many candidates there will be.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._view = LiveView(console) if console.is_terminal else None
        self._label, self._total, self._said_at, self._looked_at = "", 0, 0.0, 0.0

    def __enter__(self) -> Bar:
        # Elsewhere rich would print an empty line.
        if self._view:
            self._view.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._view:
            self._view.stop()

    def stage(self, label: str, total: int | None = None) -> Bar:
        """Begin a stage. `total` is None if it is not known."""
        self._label, self._total = label, total or 0
        if self._view:
            self._view.begin(in_one_line(label), total)
        else:
            self._say(f"{label} ...")
        return self

    def update(self, done: int, total: int | None = None, label: str | None = None) -> None:
        """Show that `done` of the stage's total are done."""
        self._total = total or self._total
        if self._view:
            self._view.advance_to(done, self._total or None, in_one_line(label or self._label))
        elif time.monotonic() - self._said_at > LINE_EVERY_S:
            self._say(f"{label or self._label}: {done}/{self._total or '?'}")

    def expect(self, candidates: int) -> None:
        """Show how many of the run's candidates are decided. On a terminal only."""
        if self._view:
            self._view.expect(candidates)

    def facts(self, look: Callable[[], Glance]) -> None:
        """Show what the screening has done so far, by a look at it. On a terminal only."""
        if self._view and time.monotonic() - self._looked_at > LOOK_EVERY_S:
            self._view.show(look())
            self._looked_at = time.monotonic()

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        say(line)
