"""Two rows of `pool` without workers: the driver on a program that asks much, and the paper's run by the plan."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ...engine.plans.backends import open_backend
from ...engine.plans.cells import Cells
from ...engine.plans.plan import Plan
from ...engine.plans.planner import Planner
from ...engine.program import extract
from ...engine.trace.settings import TraceSettings
from ...engine.trace.tracer import Tracer
from ...engine.weights.bank import Bank
from ...engine.weights.durations import Amounts, Assumed
from ...selfdev.capacity import Request, plan_of
from ..registry import Row
from ..synthetic import Size, make_models

LAYERS, NUM_PROGRAMS, MOST_MS = 34, 5, 50.0
ASKING = """
def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    long, along = a.norm().item(), float((b * c).sum())
    if long > along:
        return {0} * a / (1 + long) + b
    return {0} * a / (1 + long) - along * c
"""
PAPER_BASE = "openchat/openchat-3.5-1210"
PAPER_EXPERTS = (
    "GAIR/Abel-7B-002",
    "SciPhi/SciPhi-Mistral-7B-32k",
    "teknium/OpenHermes-2.5-Mistral-7B",
)
# Section 3.1 and appendix B of the paper: 3 x 3,000 programs, 100 dev questions, 15 programs on test.
PAPER = Amounts(
    questions=100,
    programs=9_000,
    candidates=60,
    iterations=3,
    training_steps=2 * 5_000,
    pair_tokens=2 * 8 * 820,
    batch_size=8,
    tests=22,
    test_questions=1_219,
)


def driver_questions(folder: Path) -> Row:
    """CPU of the driver for a program that asks two questions of each tensor; the first program is not counted."""
    size = Size(hidden=64, intermediate=96, layers=LAYERS)
    models = make_models(folder / "models", size, torch.bfloat16, spread=0.01, distinct=True)
    experts = {name: str(place) for name, place in models.experts.items()}
    bank = Bank.open(str(models.base), experts, "mlp")
    with Tracer(TraceSettings()) as tracer:
        cells = Cells.of(bank.selection, tracer, None)
        planner = Planner(bank, tracer, open_backend("cpu"), 0, cells)
        spent, num_asks = list[float](), 0
        for number in range(1 + NUM_PROGRAMS):
            began = time.process_time()
            plan = planner.plan(extract(ASKING.format(0.1 + number / 10)))
            assert isinstance(plan, Plan), plan
            spent.append(1e3 * (time.process_time() - began))
            num_asks = plan.num_asks
    milliseconds = sorted(spent[1:])[NUM_PROGRAMS // 2]
    return Row(
        *("pool driver_questions_ms", milliseconds, "ms CPU", "the goal, ms", MOST_MS),
        *(MOST_MS / milliseconds, "a sweep and a message for each question"),
        milliseconds <= MOST_MS,
        {"questions": num_asks, "tensors": 3 * LAYERS},
    )


def paper_minutes(folder: Path, driver_ms: float) -> Row:
    """Minutes of the paper's run on eight cards beside one, by the throughputs that the plan assumes."""
    experts = {name: name for name in PAPER_EXPERTS}
    assumed = replace(Assumed(), driver_s=driver_ms / 1e3)
    plans = [
        plan_of(
            Request(PAPER_BASE, experts, PAPER_BASE, "mlp", gpus, folder, PAPER, assumed=assumed)
        )
        for gpus in ("8xH100-80GB", "1xH100-80GB")
    ]
    eight, one = (plan["seconds"] / 60 for plan in plans)
    floor = "training, and the starts of engines, which more cards do not divide"
    more = {"stages_s": plans[0]["stages"], "assumed": asdict(assumed)}
    return Row(
        "pool paper_minutes",
        eight,
        "minutes",
        "one card, minutes",
        one,
        one / eight,
        floor,
        None,
        more,
    )
