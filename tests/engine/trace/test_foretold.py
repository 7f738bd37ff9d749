"""A child is told what it will ask; whatever it says of that, its graph is the one of its questions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.sandbox.job import Job
from selfdev_engine.engine.trace import foretold
from selfdev_engine.engine.trace.conversation import Conversation, Trace, TraceRequest
from selfdev_engine.engine.trace.graph import TraceGraph
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer

SHAPE = (6, 8)
PROGRAM = """
def merge_models(model_dict, device):
    a, b = model_dict.values()
    size, along = a.norm().item(), float((a * b).sum())
    if size > 4:
        return a * float(b.norm()) / along
    return b / (1 + size) + along * a
"""
INPUT = ["input", ["a"], {}, [6, 8], "float32"]
SUM = ["aten.sum.default", [{"n": 0}], {}, [], "float32"]
MAX = ["aten.amax.default", [{"n": 0}], {}, [], "float32"]
QUESTION: dict[str, Any] = {"nodes": [INPUT, SUM], "outputs": [1], "shape": [6, 8]}
OTHER: dict[str, Any] = {"nodes": [MAX], "outputs": [2], "shape": [6, 8]}


def number_of(graph: TraceGraph, tensor: str) -> list[torch.Tensor]:
    """Some number for each question about each tensor."""
    place = sum(map(ord, tensor + graph.nodes[graph.outputs[0]].op)) % 9
    return [torch.tensor(float(place)) for _ in graph.outputs]


def request(tensor: str, text: str = PROGRAM, is_known: bool = True) -> TraceRequest:
    def answer(graph: TraceGraph) -> list[torch.Tensor]:
        return number_of(graph, tensor)

    known = answer if is_known else lambda graph: None
    return TraceRequest(extract(text), ("a", "b"), SHAPE, 0, tensor, answer, known)


def test_traces_are_those_of_questions_that_are_asked():
    names = [f"tensor {place}" for place in range(9)]
    found = []
    with Tracer(TraceSettings()) as tracer:
        for is_known in (False, True):
            found.append(tracer.trace_in_turn([request(n, is_known=is_known) for n in names]))
    for asked, told in zip(*found, strict=True):
        assert isinstance(asked, Trace) and isinstance(told, Trace)
        assert asked.graph == told.graph and asked.num_asks == told.num_asks
    assert len({trace.num_asks for trace in found[0]}) == 2, "both branches"


def conversation(*questions: dict[str, Any]) -> Conversation:
    """A conversation about a tensor, after one about another that asked these questions."""
    before = Conversation(request("first"))
    for question in questions:
        before.answer(question)
    return Conversation(request("second"), before)


def ended(talk: Conversation, used: Any) -> Any:
    reply = {"status": "ok", "shape": [6, 8], "nodes": [], "result": 0, "used": used}
    return talk.result(Job({}, talk.answer, result=reply))


def test_a_child_gets_the_answers_about_its_own_tensor():
    told = conversation(QUESTION, OTHER).foretold.to_json()
    asked = Conversation(request("second"))
    assert told == [[one, asked.answer(one)] for one in (QUESTION, OTHER)]


def test_what_was_used_is_passed_on_before_the_child_says_so():
    talk = conversation(QUESTION, OTHER)
    third = Conversation(request("third"), talk)
    assert [one.raw for one in third.foretold.asked] == [QUESTION, OTHER]


def test_a_used_question_counts_and_adds_its_nodes():
    talk = conversation(QUESTION, OTHER)
    found = ended(talk, 1)
    assert isinstance(found, Trace) and found.num_asks == 1
    assert [node.op for node in found.graph.nodes] == ["input", "aten.sum.default"]


@pytest.mark.parametrize("claim", [2, -1, True, 1.0, "1", None, [1]])
def test_a_false_claim_is_refused(claim):
    assert ended(conversation(QUESTION), claim).kind == "violation"
    with pytest.raises(Rejected):
        conversation(QUESTION).answer({**QUESTION, "used": claim})


def test_nothing_is_used_after_another_question():
    talk = conversation(QUESTION, OTHER)
    talk.answer({**QUESTION, "used": 0})
    with pytest.raises(Rejected):
        talk.answer({**OTHER, "used": 1})


def test_questions_that_rest_on_answers_or_free_numbers_are_not_foretold():
    rest = {
        "nodes": [["aten.mul.Tensor", [{"n": 1}, {"f": "0x1.8000000000000p+1"}], {}, [], "float32"]]
    }
    assert (
        len(conversation(QUESTION, {**rest, "outputs": [2], "shape": [6, 8]}).foretold.asked) == 1
    )


def test_another_shape_or_an_unknown_answer_ends_what_is_foretold(monkeypatch):
    before = Conversation(request("first"))
    before.answer(QUESTION)
    assert not Conversation(request("second", is_known=False), before).foretold.asked
    monkeypatch.setattr(foretold, "MOST_NUMBERS", 0)
    assert not Conversation(request("second"), before).foretold.asked
    monkeypatch.undo()
    before.job = TraceRequest(before.job.program, ("a", "b"), (8, 6), 0, "first")
    assert not Conversation(request("second"), before).foretold.asked


def test_a_child_that_begins_again_is_told_the_same():
    talk = conversation(QUESTION)
    talk.answer({**OTHER, "nodes": [INPUT, MAX], "outputs": [1], "used": 0})
    talk.forget()
    assert ended(talk, 1).num_asks == 1
