"""Tells the figures of a run to TensorBoard or Weights & Biases, by those libraries: `--report-to`.

All figures come from run.db, after each iteration, so that a run that goes on tells what was not told yet:

    iterations/ARM/NAME          counts and dev scores of an iteration, by iteration
    candidates/ARM/dev           the dev score of each scored sample, by the order in which they came
    training/ARM/ITERATION/NAME  loss, margin and holdout loss of a training, by step
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ..engine.errors import MissingExtra, UsageError, first_line, in_one_line
from ..engine.records.store import Store
from .train import LOG_EVERY

KINDS = ("tensorboard", "wandb")
# The folder in a run that TensorBoard reads.
EVENTS = "tensorboard"
COUNTS = (
    "sampled",
    "valid",
    "texts",
    "updates",
    "best",
    "mean",
    "pairs",
    "dpo_steps",
    "temperature",
)


@dataclass(frozen=True)
class Figure:
    """One number of a curve: what it is, how it is counted (`by`), and its place in that count."""

    name: str
    value: float
    by: str
    step: int


class Teller(Protocol):
    """A library that takes figures."""

    def tell(self, figure: Figure) -> None: ...
    def close(self) -> None: ...


def check_report_to(kind: str | None) -> None:
    """Raise UsageError for an unknown kind, MissingExtra where its library is not installed."""
    if kind is None:
        return
    if kind not in KINDS:
        raise UsageError(f"--report-to {kind}: write one of {', '.join(KINDS)}")
    if find_spec(kind) is None:
        raise MissingExtra(kind, kind)


class Mirror:
    """Tells each iteration of a run once. The store remembers which were told."""

    def __init__(
        self, kind: str | None, store: Store, folder: Path, config: Mapping[str, Any]
    ) -> None:
        self.store, self.key = store, f"told to {kind}"
        self.teller = None if kind is None else teller_of(kind, store, folder, config)

    def iteration(self, iteration: int, arms: Sequence[str]) -> None:
        """Tell an iteration of these arms, unless it was told."""
        told = self.store.setting(self.key, ("whole",)) or []
        if self.teller is None or iteration in told:
            return
        for arm in arms:
            for figure in figures_in(self.store, arm, iteration):
                self.teller.tell(figure)
        self.store.set_setting(self.key, [*told, iteration])

    def close(self) -> None:
        """Write what is still in memory."""
        if self.teller:
            self.teller.close()


def teller_of(kind: str, store: Store, folder: Path, config: Mapping[str, Any]) -> Teller:
    """Begin to tell a library of these. UsageError where it refuses: wandb wants a login, for one."""
    try:
        if kind == "tensorboard":
            return TensorBoard(folder / EVENTS)
        return Wandb(store, folder.name, config)
    except Exception as error:
        said = first_line(error) or type(error).__name__
        raise UsageError(f"--report-to {kind}: {said}; mend it, or leave it out") from None


class TensorBoard:
    """Writes event files into a folder: `tensorboard --logdir RUN/tensorboard` shows them."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def tell(self, figure: Figure) -> None:
        self._writer.add_scalar(figure.name, figure.value, figure.step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Logs to a run of the project selfdev-engine; the same one where a run goes on."""

    def __init__(self, store: Store, name: str, config: Mapping[str, Any]) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        run_id = store.setting("wandb id", "text") or uuid.uuid4().hex[:12]
        store.set_setting("wandb id", run_id)
        settings = {"id": run_id, "resume": "allow", "name": name, "config": dict(config)}
        self._run = wandb.init(project="selfdev-engine", **settings)
        for group, by in (("iterations", "iteration"), ("candidates", "candidate")):
            self._run.define_metric(f"{group}/*", step_metric=by)
        self._run.define_metric("training/*", step_metric="step")

    def tell(self, figure: Figure) -> None:
        self._run.log({figure.name: figure.value, figure.by: figure.step})

    def close(self) -> None:
        self._run.finish()


def figures_in(store: Store, arm: str, iteration: int) -> Iterator[Figure]:
    """Yield the finite figures of an iteration of an arm, as run.db has them."""
    turn, name = store.iterations(arm).get(iteration, {}), in_one_line(arm)
    for figure in (
        *of_iteration(turn, name, iteration),
        *of_candidates(store, arm, iteration),
        *of_training(turn.get("training") or {}, f"training/{name}/{iteration}"),
    ):
        if math.isfinite(figure.value):
            yield figure


def of_iteration(turn: Mapping[str, Any], arm: str, iteration: int) -> Iterator[Figure]:
    counts = {key: turn.get(key) for key in COUNTS}
    counts |= {f"rejected/{kind}": count for kind, count in turn.get("rejected", {}).items()}
    for name, value in counts.items():
        if value is not None:
            yield Figure(f"iterations/{arm}/{name}", float(value), "iteration", iteration)


def of_candidates(store: Store, arm: str, iteration: int) -> Iterator[Figure]:
    for candidate in store.candidates(iteration, arm):
        score = store.score(candidate.id) if candidate.has_answers else None
        if score:
            name = f"candidates/{in_one_line(arm)}/dev"
            yield Figure(name, score.score, "candidate", candidate.ordinal)


def of_training(log: Mapping[str, Any], name: str) -> Iterator[Figure]:
    for curve in ("loss", "margin_nats"):
        for number, value in enumerate(log.get(curve) or (), 1):
            yield Figure(f"{name}/{curve}", float(value), "step", number * LOG_EVERY)
    for step, value in log.get("holdout_loss") or ():
        yield Figure(f"{name}/holdout_loss", float(value), "step", int(step))
