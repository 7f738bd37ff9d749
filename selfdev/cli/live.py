"""The live view of a terminal: what is done now, how long it will take, and what was found so far."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ...engine.errors import in_one_line
from ...engine.screening.glance import Glance

# The rate is that of about so many seconds.
RATE_PERIOD_S = 120.0
MOST_KINDS = 6
STAGES_SHOWN = 4


class RateColumn(ProgressColumn):
    """How many are done an hour."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{3600 * speed:,.0f}/h" if speed else "")


class LiveView(Progress):
    """Bars of the command and of its stages, with the facts of a screening below them."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description:<30}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            RateColumn(),
        )
        # The base class draws at once, so there must be facts to draw.
        self.facts: Glance | None = None
        super().__init__(*columns, console=console, speed_estimate_period=RATE_PERIOD_S)
        self._stages: list[TaskID] = []
        self._overall: TaskID | None = None

    def begin(self, label: str, total: int | None) -> None:
        """End the last stage, and begin another one. A long run has hundreds; the last few stay."""
        if self._stages:
            last = self._tasks[self._stages[-1]]
            self.update(last.id, completed=last.total or 1, total=last.total or 1)
        self._stages.append(self.add_task(label, total=total))
        if len(self._stages) > STAGES_SHOWN:
            self.remove_task(self._stages.pop(0))

    def advance_to(self, done: int, total: int | None, label: str) -> None:
        """Show how far the stage is."""
        if self._stages:
            self.update(self._stages[-1], completed=done, total=total, description=label)

    def expect(self, candidates: int) -> None:
        """Show a bar for all candidates of the run."""
        self._overall = self.add_task("all candidates", total=candidates)

    def show(self, facts: Glance) -> None:
        """Show what a look at the screening found."""
        self.facts = facts
        if self._overall is not None:
            self.update(self._overall, completed=facts.decided + facts.copies)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the command's bar, those of its stages, and the facts."""
        yield self.make_tasks_table(sorted(self.tasks, key=lambda task: task.id != self._overall))
        if self.facts:
            yield from shown(self.facts)


def shown(facts: Glance) -> Iterable[RenderableType]:
    """Yield what a view shows of a screening."""
    yield Text("  ".join(in_words(facts)))
    if facts.leaders:
        table = Table("best so far", "dev", "95 %", box=None, pad_edge=False)
        for row in facts.leaders:
            table.add_row(*(Text(in_one_line(word)) for word in row))
        yield table
    for number, doing in enumerate(facts.workers):
        yield Text(f"worker {number}: {in_one_line(doing)}", overflow="ellipsis", no_wrap=True)


def in_words(facts: Glance) -> Iterable[str]:
    """Yield the share of programs that ran, rejections by kind, and the engines' busy share."""
    if facts.decided:
        yield f"ran: {facts.valid / facts.decided:.0%} of {facts.decided:,}."
    if facts.rejected:
        ordered = sorted(facts.rejected.items(), key=lambda pair: (-pair[1], pair[0]))
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in ordered[:MOST_KINDS])
        rest = sum(count for _, count in ordered[MOST_KINDS:])
        yield f"rejected: {kinds}{f', others {rest:,}' if rest else ''}."
    if facts.busy_share is not None:
        yield f"engines busy: {min(1.0, facts.busy_share):.0%}."
