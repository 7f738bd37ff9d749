"""What was verified once is taken again only where verifying it again would say the same."""

from __future__ import annotations

from typing import Any

import pytest
from cachetools import LRUCache
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.trace import steps, verify
from selfdev_engine.engine.trace.verify import GraphReader

X = {"n": 0}
INPUT: list[Any] = ["input", ["x"], {}, [24, 40], "float32"]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(steps, "_known", LRUCache(steps.MOST_BYTES, lambda step: step.num_bytes))


def read(*messages: list[Any], names=("x", "y"), shape=(24, 40), own=None) -> GraphReader:
    reader = GraphReader(names, shape, own)
    for message in messages:
        reader.extend(message)
    return reader


def scaled(number: float, op: str = "aten.mul.Tensor") -> list[Any]:
    return [INPUT, [op, [X, {"f": number.hex()}], {}, [24, 40], "float32"]]


SUM: list[Any] = [["aten.sum.default", [{"n": 1}], {}, [], "float32"]]


@pytest.fixture
def verified(monkeypatch):
    """How many nodes were verified."""
    counted, append = [], GraphReader._append
    monkeypatch.setattr(
        GraphReader, "_append", lambda self, *item: counted.append(item) or append(self, *item)
    )
    return counted


def test_a_message_with_another_factor_is_not_verified_again(verified):
    first, second = read(scaled(0.5), SUM), read(scaled(-0.0), SUM)
    assert len(verified) == 3
    assert second.nodes[0] == first.nodes[0] and second.nodes[2] == first.nodes[2]
    assert [str(r.nodes[1].args[1]) for r in (first, second)] == ["0.5", "-0.0"]
    assert [r.budget for r in (first, second)] == [first.budget] * 2
    assert [m.shape for m in second.metas] == [m.shape for m in first.metas]
    # The budgets go on apart.
    first.extend([["aten.neg.default", [X], {}, None, None]])
    assert second.budget.num_results == 3 and first.budget.num_results == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (scaled(2.0, "aten.pow.Tensor_Scalar"), scaled(3.0, "aten.pow.Tensor_Scalar")),
        (scaled(2.0), [INPUT, ["aten.mul.Tensor", [X, 2], {}, [24, 40], "float32"]]),
        (scaled(2.0), scaled(float("inf"))),
        (scaled(2.0), scaled(2.0, "aten.div.Tensor")),
        (
            [INPUT, ["aten.add.Tensor", [X, X], {"alpha": {"f": "0x1.0000000000000p+1"}}, None, None]],
            [INPUT, ["aten.add.Tensor", [X, X], {"alpha": {"f": "0x1.8000000000000p+1"}}, None, None]],
        ),
    ],
)  # fmt: skip
def test_what_verifying_may_look_at_is_verified(verified, one, other):
    for message in (one, other):
        found, known = read(message), len(verified)
        steps._known.clear()
        assert read(message).nodes == found.nodes
        read(message)
        assert len(verified) - known == 2
        assert known in (2, 6)


@pytest.mark.parametrize(
    "about", [{"shape": (24, 41)}, {"names": ("x",)}, {"names": ("y", "x")}, {"own": (2, 12, 40)}]
)
def test_other_inputs_are_verified_anew(verified, about):
    message = [["input", ["x"], {}, None, None]]
    read(message)
    read(message, **about)
    assert len(verified) == 2


def test_a_message_after_others_is_verified_anew(verified):
    """The same words about node 1 are about another node here."""
    read(scaled(0.5), SUM)
    small = [INPUT, ["aten.sum.default", [X], {}, [], "float32"]]
    read(small, SUM)
    assert len(verified) == 6


def test_fixed_numbers_tell_what_follows_apart(verified):
    for exponent in (2.0, 3.0, 2.0):
        reader = read(scaled(exponent, "aten.pow.Tensor_Scalar"), SUM)
        assert reader.graph([2]).nodes[1].args[1] == exponent
    assert reader.graph([2]) is reader.graph([2])


def test_a_question_is_one_graph_only_while_no_number_may_differ():
    neg = [INPUT, ["aten.neg.default", [X], {}, [24, 40], "float32"]]
    first, second = read(neg, SUM), read(neg, SUM)
    assert first.graph([2]) is second.graph([2]) is not first.graph([1])
    first, second = read(scaled(0.5), SUM), read(scaled(0.25), SUM)
    assert [r.graph([2]).nodes[1].args[1] for r in (first, second)] == [0.5, 0.25]


@pytest.mark.parametrize("digits", ["0x1.0000000000000p+9999", "0x1.00000000000000p+1;", "0x2p+1"])
def test_digits_are_refused_after_others_as_before(digits):
    message = [INPUT, ["aten.mul.Tensor", [X, {"f": digits}], {}, None, None]]
    said = []
    for known in ([], [scaled(0.5)]):
        for one in known:
            read(one)
        try:
            said.append(read(message).nodes)
        except Rejected as refused:
            said.append(refused.rejection)
    assert said[0] == said[1]


def test_text_that_looks_like_a_number_is_no_number(verified):
    """A word of a string has its quotes escaped, and keywords by the name f are no floats."""
    for word in ('{"f": "0x1.0000000000000p+0"}', '{"f": "0x1.8000000000000p+0"}'):
        with pytest.raises(Rejected):
            read([INPUT, ["aten.mul.Tensor", [X, word], {}, None, None]])
        with pytest.raises(Rejected):
            read([INPUT, ["aten.neg.default", [X], {"f": "0x1.0000000000000p+0"}, None, None]])
    assert not steps._known


def test_sizes_that_the_weights_decide_are_not_kept(verified):
    mask = ["aten.gt.Scalar", [X, {"f": "0x0.0p+0"}], {}, None, None]
    chosen = ["aten.masked_select.default", [X, {"n": 1}], {}, None, None]
    for _ in range(2):
        reader = read([INPUT, mask, chosen])
        reader.set_sizes(2, [reader.metas[0].reshape(-1)[:7]])
        reader.extend([["aten.neg.default", [{"n": 2}], {}, None, None]])
    assert len(verified) == 8


def test_what_is_kept_is_bounded(verified, monkeypatch):
    long = [INPUT] * (steps.MOST_MESSAGE_BYTES // 40)
    read(long, long[:1])
    assert not steps._known
    monkeypatch.setattr(steps, "_known", LRUCache(20_000, lambda step: step.num_bytes))
    for number in range(100):
        read([INPUT] * (1 + number))
    assert 0 < len(steps._known) < 10


def test_limits_hold_for_what_is_known(monkeypatch):
    messages = [INPUT], [INPUT] * 2
    read(*messages)
    monkeypatch.setattr(verify, "MAX_NODES", 2)
    with pytest.raises(Rejected, match="too many"):
        read(*messages)
    monkeypatch.undo()
    monkeypatch.setattr(verify, "MAX_VERIFY_CPU_S", -1.0)
    with pytest.raises(Rejected, match="to verify"):
        read(*messages)
