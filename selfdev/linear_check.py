"""Measures what a weighted sum leaves out of the update that a candidate's program makes. This loads torch."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from ..engine.errors import Rejected, Rejection
from ..engine.plans.backends import driver_backend, open_backend
from ..engine.plans.cells import Cells
from ..engine.plans.plan import Plan
from ..engine.plans.planner import Planner
from ..engine.plans.survey import Surveyor
from ..engine.plans.updates import Updates, available_cores
from ..engine.program import Program
from ..engine.trace.settings import TraceSettings
from ..engine.trace.tracer import Tracer
from ..engine.weights.bank import Bank


def left_out(
    program: Program,
    base: str,
    experts: Mapping[str, str],
    include: str,
    seed: int,
    coefficients: Mapping[str, float],
    unsafe_sandbox: bool = False,
) -> float:
    """Return the distance of the sum from the program's update, relative to that; inf where only that is 0.

    Raises Rejected where the program cannot be merged.
    """
    bank, kernels = Bank.open(base, dict(experts), include), open_backend(driver_backend("auto"))
    settings = TraceSettings(unsafe=unsafe_sandbox)
    with tempfile.TemporaryDirectory(prefix="selfdev-") as scratch, Tracer(settings) as tracer:
        cells = Cells.of(bank.selection, tracer, None)
        plan = Planner(bank, tracer, kernels, seed, cells).plan(program)
        if isinstance(plan, Plan):
            plan = Updates(cells, Path(scratch), available_cores()).computed(plan)
        if isinstance(plan, Rejection):
            raise Rejected(plan)
        return distance(Surveyor(bank, kernels), plan, coefficients)


def distance(surveyor: Surveyor, plan: Plan, coefficients: Mapping[str, float]) -> float:
    """Return |u - sum c_i t_i| / |u|: what the least-squares fit leaves out is orthogonal to all t_i."""
    survey = surveyor.survey(plan)
    if isinstance(survey, Rejection):
        raise Rejected(survey)
    given = [coefficients[name] for name in surveyor.bank.selection.experts]
    by = torch.tensor(given, dtype=torch.float64) - torch.tensor(
        survey.linear.coefficients, dtype=torch.float64
    )
    square = sum(float(by @ surveyor.gram(name) @ by) for name in plan.tensors)
    if not survey.norm:
        return math.inf if square else 0.0
    return math.hypot(survey.linear.residual, math.sqrt(max(0.0, square)) / survey.norm)
