"""Paired comparison: McNemar's exact p by counting, and the command on a store."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.compare import compare, made_otherwise, mcnemar
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.report import write_report
from selfdev_engine.selfdev.report.page import data_of


@pytest.mark.parametrize(("one", "other", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 2 / 64), (1, 7, 18 / 256)])  # fmt: skip
def test_known_values(one, other, p):
    assert mcnemar(one, other) == mcnemar(other, one) == p


@given(st.integers(0, 6), st.integers(0, 6))
def test_p_is_the_share_of_splits_as_unequal(one, other):
    gap = abs(one - other)
    sides = [sum(coins) for coins in itertools.product((1, -1), repeat=one + other)]
    assert mcnemar(one, other) == sum(abs(side) >= gap for side in sides) / len(sides)


def test_only_shared_questions_count():
    found = compare({0: True, 1: True, 2: False, 3: True}, {1: False, 2: False, 3: True, 9: True})
    assert found.to_json() == {
        "n": 3,
        "both": 1,
        "only_first": 1,
        "only_second": 0,
        "neither": 1,
        "p": 1.0,
        "difference": 1 / 3,
    }
    with pytest.raises(UsageError, match="no question in common"):
        compare({0: True}, {1: True})


def test_thousands_of_questions_do_not_overflow():
    assert 0 < mcnemar(2000, 2300) < 1e-5


def samples(right: list[bool]) -> list[Sample]:
    return [Sample(i, "q", "p", "r", "r", ok, ok, ok) for i, ok in enumerate(right)]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text("base: b\nexperts: {x: x}\n")
    with Store.open(tmp_path / "run.db") as store, store.transaction():
        store.add_candidates({"id": i, "source": "x"} for i in ("base", "good", "copy", "bad"))
        for name, right in (("base", [False] * 8), ("good", [True] * 7 + [False])):
            rows = samples(right)
            store.add_score(name, "jsonl:t", "dev", score_of(rows, "flexible"), rows, {})
            store.decide(name, status="scored")
        store.decide("copy", status="duplicate", duplicate_of="good")
        store.decide("bad", status="rejected", kind="syntax")
    return tmp_path


def test_the_command_compares_candidates_of_a_run(selfdev, run):
    found = selfdev("compare", run, "copy", "base", "--json").json
    assert (found["n"], found["only_first"], found["p"]) == (8, 7, 2 / 128)
    text = selfdev("compare", run, "good", "base").stdout
    assert text.startswith("good +0.875 against base on 8 questions")
    for words, culprit in (
        (("bad", "base"), "'bad' has no dev"),
        (("no", "base"), "no candidate 'no'"),
        (("good", "good"), "both are good"),
        (("best", "good"), "both are good"),
    ):
        wrong = selfdev("compare", run, *words)
        assert (wrong.code, culprit in wrong.stderr) == (2, True)


def test_the_report_compares_every_candidate_with_the_base(run):
    (run / "config.yaml").write_text("base: x\nexperts: {y: z}\ntask: t\n")
    shown = data_of(write_report(run).read_text())["candidates"]
    found = dict(zip(shown["id"], zip(shown["difference"], shown["p"], strict=True), strict=True))
    assert found["good"] == found["copy"] == (0.875, 0.015625) and found["base"] == (None, None)


def test_scores_that_were_not_made_alike_are_said(run, selfdev):
    """An engine that was accepted, another grader: the difference may be theirs."""
    with Store.open(run / "run.db") as store, store.transaction():
        rows = samples([True] * 8)
        for name, engine in (("late", "vllm 2"), ("same", "vllm 1")):
            made = {"engine": engine, "grader": "rules 2"}
            store.add_candidates([{"id": name, "source": "x"}])
            store.decide(name, status="scored")
            store.add_score(name, "jsonl:t", "dev", score_of(rows, "flexible"), rows, made)
        store.add_candidates([{"id": "twin", "source": "x"}])
        store.decide("twin", status="duplicate", duplicate_of="late")
    with Store.read(run / "run.db") as store:
        said = [{"what": "engine", "first": "vllm 2", "second": "vllm 1"}]
        assert made_otherwise(store, "late", "same", "dev") == said
        assert made_otherwise(store, "twin", "same", "dev") == said
        assert made_otherwise(store, "twin", "late", "dev") == []
        assert {d["what"] for d in made_otherwise(store, "good", "late", "dev")} == {
            "engine",
            "grader",
        }
    answer = selfdev("compare", run, "late", "same")
    assert "engine: vllm 2 and vllm 1" in answer.stdout
    assert selfdev("compare", run, "late", "same", "--json").json["differs"] == said
