"""The plan of a question is kept, and only where the question is the same; planning ends in time."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
import torch
from cachetools import LRUCache
from selfdev_engine.engine.plans import fuse
from selfdev_engine.engine.plans.answers import answer_question, kept_answer
from selfdev_engine.engine.plans.fuse import NotFused, fused, values_plan
from selfdev_engine.engine.trace.graph import Ref, TraceGraph, TraceNode
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.clock import OutOfTime, limited
from selfdev_engine.kernels.compiler.staging import OWN
from selfdev_engine.kernels.tensors import TensorSet


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(fuse, "_known", LRUCache(1000, lambda known: known[1]))


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


def test_a_place_of_a_vector_is_another_one_in_a_matrix_of_another_shape():
    one, other = (replace(question(2.0), own=own) for own in ((2, 3), (3, 2)))
    assert values_plan(one) is not values_plan(other)
    assert values_plan(one) is values_plan(replace(one, nodes=(*one.nodes, one.nodes[0])))


def test_the_oldest_plans_are_forgotten():
    """They are counted by their nodes."""
    for number in range(100):
        values_plan(question(float(number)))
    assert 10 <= len(fuse._known) <= 1000 / fuse.ENTRY_NODES
    assert values_plan(question(99.0)) is values_plan(question(99.0))


def sums(rounds: int) -> TraceGraph:
    """x = x * x.sum(), again and again: sweep k computes all rounds before it."""
    nodes = [TraceNode("input", ("a",), {}, (6,), torch.float32)]
    for _ in range(rounds):
        last = Ref(len(nodes) - 1)
        nodes.append(TraceNode("aten.sum.default", (last,), {}, (), torch.float32))
        args = last, Ref(len(nodes) - 1)
        nodes.append(TraceNode("aten.mul.Tensor", args, {}, (6,), torch.float32))
    return TraceGraph(("a",), (6,), tuple(nodes), (len(nodes) - 1,))


def test_a_program_of_too_many_sweeps_is_not_fused():
    """Two thousand rounds planned for minutes: this takes a second, and no stage of them is made."""
    assert isinstance(fused(sums(60), "own"), fuse.Fused)
    began = time.thread_time()
    found = fused(sums(2000), "own")
    assert isinstance(found, NotFused)
    assert found.reason == "2000 reductions that rest on each other, at most 64"
    assert found.fault is None
    assert time.thread_time() - began < 8.0


def test_planning_that_takes_too_long_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(fuse, "MAX_PLAN_CPU_S", 0.0)
    for found in (fused(sums(3), "own"), values_plan(question(2.0))):
        assert isinstance(found, NotFused)
        assert (found.reason, found.fault) == ("takes more than 0 s to plan", None)


def test_a_callers_own_limit_ends_planning_for_good():
    for plan in (lambda: fused(sums(3), "own"), lambda: values_plan(question(2.0))):
        with (
            limited("the answers' time is over", wall_s=0.0),
            pytest.raises(OutOfTime, match="over"),
        ):
            plan()
    assert not fuse._known


def test_a_plan_whose_vectors_take_too_much_memory_is_left_to_torch(monkeypatch):
    """The sum of a thousand columns' extremes; they are small, so the limit is lowered here."""
    nodes = [TraceNode("input", ("a",), {}, (2, 1000), torch.float32)]
    nodes.append(TraceNode("aten.amax.default", (Ref(0), (0,)), {}, (1000,), torch.float32))
    nodes.append(TraceNode("aten.sin.default", (Ref(1),), {}, (1000,), torch.float32))
    nodes.append(TraceNode("aten.sum.default", (Ref(2),), {}, (), torch.float32))
    asked = TraceGraph(("a",), (2, 1000), tuple(nodes), (3,))
    assert not isinstance(values_plan(asked), NotFused)
    fuse._known.clear()
    monkeypatch.setattr(fuse, "MAX_SMALL_BYTES", 1000)
    monkeypatch.setattr(fuse, "SMALL_FACTOR", 1)
    found = values_plan(asked)
    assert isinstance(found, NotFused) and found.fault is None
    assert found.reason == "its vectors take 0 MiB at once, at most 0 MiB"


@pytest.mark.parametrize(("length", "is_fused"), [(100, True), (200, False)])
def test_a_kernel_that_would_compile_for_minutes_is_left_to_torch(length, is_fused):
    nodes = [TraceNode("input", ("a",), {}, (6,), torch.float32)]
    for index in range(length):
        nodes.append(TraceNode("aten.erf.default", (Ref(index),), {}, (6,), torch.float32))
    update = fused(TraceGraph(("a",), (6,), tuple(nodes), (length,)), "own")
    nodes.append(TraceNode("aten.sum.default", (Ref(length),), {}, (), torch.float32))
    answer = values_plan(TraceGraph(("a",), (6,), tuple(nodes), (length + 1,)))
    for found in (update, answer):
        assert isinstance(found, NotFused) != is_fused
        if isinstance(found, NotFused):
            assert re.fullmatch(
                r"one of its kernels weighs as much as 200\d simple operations, at most 1500",
                found.reason,
            )


def test_an_answer_of_kernels_is_kept_for_the_next_program():
    tensors = TensorSet("w", torch.zeros(6), {"a": torch.arange(6.0)})
    memo: dict[str, torch.Tensor] = {}
    backend, asked = get_backend("reference"), question(2.0)
    assert kept_answer(asked, memo) is None
    answer = answer_question(asked, tensors, backend, memo, by_torch=pytest.fail)
    assert torch.equal(answer[0], torch.tensor(30.0))
    again, other = kept_answer(question(2.0), memo), kept_answer(question(2.5), memo)
    assert again is not None and again[0] is answer[0] and other is None
    # What ends so is kept out of run.db.
    assert all(key.endswith(OWN) for key in memo if key.startswith("answer"))


def test_the_answer_of_a_cell_is_for_its_own_candidate():
    """Only kernels and the weights decide what is kept; a cell may have been taken over."""
    nodes = (
        TraceNode("input", ("a",), {}, (6,), torch.float32),
        TraceNode("aten.cumsum.default", (Ref(0), 0), {}, (6,), torch.float32),
        TraceNode("aten.sum.default", (Ref(1),), {}, (), torch.float32),
    )
    asked, memo = TraceGraph(("a",), (6,), nodes, (2,)), {}
    tensors = TensorSet("w", torch.zeros(6), {"a": torch.arange(6.0)})
    backend = get_backend("reference")
    assert answer_question(asked, tensors, backend, memo, lambda q: [torch.tensor(666.0)])
    assert not memo and kept_answer(asked, memo) is None
