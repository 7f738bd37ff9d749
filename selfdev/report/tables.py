"""Small tables of a run for its plots, as rows of plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import visible
from ...engine.records.candidate import BASE, MAIN
from ...engine.records.store import Store
from ..train import LOG_EVERY

Row = dict[str, Any]
# What the curves are called, and in which order they are drawn.
CURVES = {"loss": "loss", "margin_nats": "margin on its pairs, nats"}
HOLDOUT = "loss on the holdout"


def turn_name(arm: str, iteration: int) -> str:
    """What an iteration of an arm is called in the plots."""
    return visible(f"{arm}, iteration {iteration}")


def tables_of(
    store: Store, arms: Sequence[str], candidates: Mapping[str, Sequence[Any]]
) -> dict[str, list[Row]]:
    """The tables that the plots name, besides the candidates."""
    turns = [(arm, turn) for arm in arms for turn in store.iterations(arm).values()]
    return {
        "outcomes": list(outcomes(turns) if turns else endings(candidates)),
        "training": [row for arm, turn in turns for row in curves(arm, turn)],
        "tested": list(tested(candidates)),
        "pairs": [row for arm in arms for row in pairs(store, arm)],
    }


def outcomes(turns: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Row]:
    """How many samples of each iteration ended in which way."""
    for arm, turn in turns:
        counts = turn.get("categories") or turn.get("rejected") or {}
        for rank, (name, count) in enumerate(counts.items()):
            place = turn_name(arm, turn["iteration"])
            yield {"turn": place, "outcome": visible(str(name)), "count": count, "rank": rank}


def endings(candidates: Mapping[str, Sequence[Any]]) -> Iterator[Row]:
    """How the programs of a screening ended: their status, and the kind of a rejection."""
    kinds = zip(candidates["id"], candidates["status"], candidates["kind"], strict=True)
    counts = Counter(kind or status or "undecided" for name, status, kind in kinds if name != BASE)
    for rank, (name, count) in enumerate(counts.most_common()):
        yield {"turn": "programs", "outcome": name, "count": count, "rank": rank}


def curves(arm: str, turn: Mapping[str, Any]) -> Iterator[Row]:
    """The points of a stage's curves, if it trained."""
    log, stage = turn.get("training") or {}, turn_name(arm, turn["iteration"])
    for key, curve in CURVES.items():
        for i, value in enumerate(log.get(key) or ()):
            yield {"stage": stage, "curve": curve, "step": (i + 1) * LOG_EVERY, "value": value}
    for step, value in log.get("holdout_loss") or ():
        yield {"stage": stage, "curve": HOLDOUT, "step": step, "value": value}


def tested(candidates: Mapping[str, Sequence[Any]]) -> Iterator[Row]:
    """What has a dev and a test score. A duplicate has those of the one that it repeats."""
    keys = ("id", "dev", "test", "iteration", "arm", "status")
    for name, dev, test, iteration, arm, status in zip(
        *map(candidates.__getitem__, keys), strict=True
    ):
        if dev is not None and test is not None and status != "stopped":
            yield {"id": name, "dev": dev, "test": test, "what": what_is(name, iteration, arm)}


def what_is(name: str, iteration: int | None, arm: str) -> str:
    if iteration is not None:
        return "program" if arm == MAIN else f"program of {arm}"
    if name == BASE:
        return "base"
    return "expert" if name.startswith("expert-") else "baseline"


def pairs(store: Store, arm: str) -> Iterator[Row]:
    """The preference pairs of an arm, by the ids of their programs."""
    for iteration in store.iterations(arm):
        for chosen, rejected, held_out in store.preferences(iteration, arm):
            place = turn_name(arm, iteration)
            names = {"chosen": visible(chosen), "rejected": visible(rejected)}
            yield {"turn": place, **names, "held_out": held_out}
