"""One program has one clock, for all of its tensors and for all that the driver does for it."""

from __future__ import annotations

import time

import pytest
import torch
from selfdev_engine.engine.errors import Rejected, Rejection
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.sandbox.job import Job
from selfdev_engine.engine.trace import program_clock
from selfdev_engine.engine.trace.conversation import Conversation, TraceRequest, closed
from selfdev_engine.engine.trace.program_clock import TENSOR_S, ProgramClock
from selfdev_engine.kernels.compiler.clock import OutOfTime, check, limited

PROGRAM = extract("def merge_models(model_dict, device):\n    return model_dict['a']\n")
NODES = [
    ["input", ["a"], {}, [4, 3], "float32"],
    ["aten.abs.default", [{"n": 0}], {}, [4, 3], "float32"],
]


def burn(seconds: float) -> None:
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        check()


def conversation(clock: ProgramClock, answer=None) -> Conversation:
    return Conversation(TraceRequest(PROGRAM, ("a",), (4, 3), 0, "t", answer, clock=clock))


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(program_clock, "PROGRAM_S", 0.2)


def test_each_tensor_allows_some_time_more():
    clock = ProgramClock()
    before = clock.allowed_s
    for _ in range(300):
        conversation(clock)
    assert clock.allowed_s == pytest.approx(before + 300 * TENSOR_S, rel=1e-3)


def test_the_inner_limit_says_which_one_was_over():
    with limited("outer", cpu_s=9.0) as outer, limited("inner", cpu_s=0.0) as inner:
        with pytest.raises(OutOfTime, match="inner") as caught:
            burn(1.0)
        assert caught.value.limit is inner is not outer
    check()


def test_work_that_nobody_checks_is_counted_all_the_same(short):
    clock = ProgramClock()
    with clock.running():
        time.sleep(0.1)
    with (
        pytest.raises(OutOfTime, match=r"took more than 0 s for 0 tensors?: use fewer"),
        clock.running(),
    ):
        time.sleep(0.3)
    assert 0.3 < clock.wall_s < 5.0
    assert clock.cpu_s < 0.2


def test_answers_of_all_tensors_share_the_clock(short):
    """Each answer is short enough for a tensor of its own."""
    clock, spent = ProgramClock(), []

    def answer(graph):
        burn(0.15)
        spent.append(1)
        return [torch.ones(())]

    def ask_for_each() -> None:
        for _ in range(100):
            question = {"shape": [4, 3], "nodes": [*NODES, *SUM], "outputs": [2]}
            conversation(clock, answer).answer(question)
            clock.allowed_s -= TENSOR_S

    with pytest.raises(Rejected) as caught:
        ask_for_each()
    assert caught.value.rejection.kind == "timeout"
    assert "verifying, answering, planning and surveying" in caught.value.rejection.detail
    assert len(spent) < 10


def test_a_clock_that_runs_out_is_no_fault_of_the_words():
    def run_out() -> None:
        with limited("over", wall_s=0.01), closed():
            time.sleep(0.02)
            check()

    with pytest.raises(OutOfTime):
        run_out()
    with pytest.raises(Rejected, match="malformed"), closed():
        raise KeyError("in this test")


def test_what_a_result_costs_to_verify_is_counted(short):
    clock = ProgramClock()
    done = Job({}, lambda question: {})
    done.result = {"status": "ok", "shape": [4, 3], "nodes": NODES, "result": 1}
    assert not isinstance(conversation(clock).result(done), Rejection)
    clock.cpu_s = clock.allowed_s + 1.0
    found = conversation(clock).result(done)
    assert isinstance(found, Rejection) and found.kind == "timeout"


def test_the_flat_view_goes_on_with_the_time_of_the_first():
    clock = ProgramClock()
    one = conversation(clock)
    one._reader([4, 3]).cpu_s = 9.0
    assert one._reader([12]).cpu_s == 9.0


SUM = [["aten.sum.default", [{"n": 1}], {}, [], "float32"]]
