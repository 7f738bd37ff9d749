"""Shows progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ...engine.errors import in_one_line
from .command import say

# Without a terminal, updates are printed no more often than this.
LINE_EVERY_S = 15.0


class Board(Progress):
    """A progress bar with a table of the best candidates so far below it."""

    leaders: Sequence[Sequence[str]] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.leaders:
            table = Table("best so far", "dev", "95 %", box=None, pad_edge=False)
            for row in self.leaders:
                table.add_row(*(Text(in_one_line(word)) for word in row))
            yield table


class Bar:
    """Shows one stage after another: `stage(label, total)`, then `update(done)`."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
        )
        self._rich = Board(*columns, TimeElapsedColumn(), console=console)
        self._live = console.is_terminal
        self._task, self._label, self._total, self._said_at = None, "", 0, 0.0

    def __enter__(self) -> Bar:
        if self._live:
            self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Elsewhere rich would print an empty line.
        if self._live:
            self._rich.stop()

    def stage(self, label: str, total: int | None = None) -> Bar:
        """Begin a stage. `total` is None if it is not known."""
        self._label, self._total = label, total or 0
        if self._live:
            if self._task is not None:
                self._rich.update(self._task, completed=self._rich.tasks[-1].total or 1)
            self._task = self._rich.add_task(in_one_line(label), total=total)
        else:
            self._say(f"{label} ...")
        return self

    def update(self, done: int, total: int | None = None, label: str | None = None) -> None:
        """Show that `done` of the stage's total are done."""
        self._total = total or self._total
        if self._live and self._task is not None:
            description = in_one_line(label or self._label)
            self._rich.update(
                self._task, completed=done, total=self._total or None, description=description
            )
        elif time.monotonic() - self._said_at > LINE_EVERY_S:
            self._say(f"{label or self._label}: {done}/{self._total or '?'}")

    def leaders(self, rows: Sequence[Sequence[str]]) -> None:
        """Show the best candidates so far: id, score, interval. On a terminal only."""
        self._rich.leaders = rows

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        say(line)
