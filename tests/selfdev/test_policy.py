"""Tests of preferences, config, grammar and intervals: rules on plain data."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.score import wilson
from selfdev_engine.selfdev.config import Preferences, load_config
from selfdev_engine.selfdev.preferences import Scored, elites_of, make_pairs, sets_of
from selfdev_engine.selfdev.zoo.arithmetic import make_pool
from selfdev_engine.selfdev.zoo.grammar import FAMILIES, HEAD, program

SCORES = st.lists(st.integers(0, 20), min_size=0, max_size=60)


@given(SCORES, st.floats(0, 1), st.integers(0, 9))
def test_a_pair_prefers_the_better_one(values, invalid_share, seed):
    scored = [Scored(f"c{i}", "", v / 20) for i, v in enumerate(values)]
    by_id = {s.id: s.score for s in scored} | {f"bad{i}": -1.0 for i in range(5)}
    settings = Preferences(chosen_percent=12, rejected_percent=25, invalid_share=invalid_share)
    sets = sets_of(scored, [], settings)
    pairs = make_pairs(sets, [f"bad{i}" for i in range(5)], settings, seed)
    assert all(by_id[chosen] > by_id[rejected] for chosen, rejected in pairs)
    assert len(set(pairs)) == len(pairs)
    assert pairs == make_pairs(sets, [f"bad{i}" for i in range(5)], settings, seed)


def test_the_papers_shares():
    scored = [Scored(f"c{i:03}", "", i / 100) for i in range(100)]
    settings = Preferences()
    pairs = make_pairs(sets_of(scored, [], settings), [], settings, 0)
    assert {chosen for chosen, _ in pairs} == {"c097", "c098", "c099"}  # top 3 %
    assert {rejected for _, rejected in pairs} <= {f"c{i:03}" for i in range(10)}  # bottom 10 %
    assert len(pairs) == 3 * 8
    tied = sets_of([*scored, Scored("equal", "", 0.97)], [Scored("elite", "", 0.5)], settings)
    assert [s.id for s in tied.chosen] == ["c099", "c098", "c097", "equal", "elite"]
    assert len(tied.rejected) == 11
    assert [s.id for s in elites_of([scored], Preferences())] == ["c099", "c098", "c097"]


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        (
            "base: x\nexperts: {a: y}\ntask: gsm8k\nitrations: 2\n",
            "'itrations'; did you mean 'iterations'",
        ),
        (
            "base: x\nexperts: {a: y}\ntask: gsm8k\ndpo: {bta: 1}\n",
            "'dpo.bta'; did you mean 'beta'",
        ),
        ("base: x\nexperts: {a: y}\ntask: gsm8k\nshots: six\n", "shots: .*'fixed'"),
        ("base: x\nexperts: {a: y}\n", "lacks the key 'task'"),
        (
            "base: x\nexpert: {a: y}\ntask: gsm8k\n",
            "unknown key 'expert'; did you mean 'experts'?",
        ),
        (
            "base: x\nexperts: {a: y}\ntask: gsm8k\npreferences: {validation: 0.1}\n",
            "'preferences.validation': now preferences.holdout",
        ),
        (
            "base: x\nexperts: {a/b: {model: y, abuot: z}}\ntask: gsm8k\n",
            "'experts.a/b.abuot'; did you mean 'about'",
        ),
        ("base: x\nexperts: {a: {about: z}}\ntask: gsm8k\n", "lacks the key 'experts.a.model'"),
        (
            'base: x\nexperts: {a: {model: y, about: "a\\nb"}}\ntask: gsm8k\n',
            "experts.a.about: is no single line",
        ),
        ("base: x\nexperts: {a: y}\ntask: gsm8k\nsamples: many\n", "samples"),
        ("base: [\n", "not YAML"),
        ("- 1\n", "not a mapping"),
    ],
)
def test_a_config_fault_is_one_line(tmp_path, text, culprit):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=culprit.replace("?", r"\?")) as found:
        load_config(tmp_path / "c.yaml")
    assert "c.yaml" in str(found.value)


def test_defaults_are_the_papers(tmp_path):
    (tmp_path / "c.yaml").write_text("base: org/b\nexperts: {a: org/a}\ntask: gsm8k\n")
    config = load_config(tmp_path / "c.yaml")
    assert (config.iterations, config.samples, config.dpo.beta, config.dpo.lora_rank) == (
        3,
        3000,
        0.01,
        256,
    )
    assert [round(config.temperature.at(t), 2) for t in (1, 2, 3)] == [1.2, 1.0, 0.86]
    assert config.base == "org/b"


@given(st.integers(0, 400), st.integers(1, 400))
def test_the_interval_holds_its_score(correct, n):
    correct = min(correct, n)
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1


def test_no_question_is_in_two_splits():
    for skill in ("add", "sub", "mul"):
        pool = make_pool(skill)
        train = {
            frozenset(q.strip("=").replace("*", "+").replace("-", "+").split("+"))
            for q, _ in pool.train
        }
        held = {
            frozenset(q.strip("=").replace("*", "+").replace("-", "+").split("+"))
            for q, _ in pool.held_out
        }
        assert len(pool.held_out) >= 560
        # The cut between both sides may fall into one pair.
        assert len(train & held) <= 1


def test_the_grammar_parses_where_it_has_no_mistake():
    draw = random.Random(0)
    for family in FAMILIES:
        for _ in range(20):
            compile(HEAD + "\n" + family(draw), "<grammar>", "exec")
    texts = [program(draw) for _ in range(500)]
    assert len(set(texts)) > 400
