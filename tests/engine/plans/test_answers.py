"""The plan of a question is kept, and only where the question is the same."""

from __future__ import annotations

import pytest
import torch
from selfdev_engine.engine.plans import fuse
from selfdev_engine.engine.plans.fuse import MAX_KNOWN, values_plan
from selfdev_engine.engine.trace.graph import Ref, TraceGraph, TraceNode


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(fuse, "_known", {})


def question(factor: float, unneeded: float = 0.0, name: str = "a", length: int = 6):
    """The sum of a scaled task vector, beside a node that it does not need."""
    nodes = (
        TraceNode("input", (name,), {}, (length,), torch.float32),
        TraceNode("aten.add.Tensor", (Ref(0), unneeded), {}, (length,), torch.float32),
        TraceNode("aten.mul.Tensor", (Ref(0), factor), {}, (length,), torch.float32),
        TraceNode("aten.sum.default", (Ref(2),), {}, (), torch.float32),
    )
    return TraceGraph((name,), (length,), nodes, (3,))


def test_a_question_that_is_asked_again_is_planned_once(monkeypatch):
    first = values_plan(question(2.0))
    monkeypatch.setattr(fuse, "lower_numbers", None)
    assert values_plan(question(2.0, unneeded=1.0)) is first


@pytest.mark.parametrize(
    "other", [{"factor": 2.5}, {"factor": 2.0, "name": "b"}, {"factor": 2.0, "length": 7}]
)
def test_another_question_has_a_plan_of_its_own(other):
    assert values_plan(question(2.0)) is not values_plan(question(**other))


def test_the_oldest_plans_are_forgotten():
    for number in range(MAX_KNOWN + 3):
        values_plan(question(float(number)))
    assert len(fuse._known) == MAX_KNOWN
