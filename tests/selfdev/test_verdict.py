"""What the final test says, in numbers and in words; and that its looks are counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfdev_engine.engine.records.compare import compare
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.config import RunConfig
from selfdev_engine.selfdev.loop import looks_at
from selfdev_engine.selfdev.results import LOOKS, run_result
from selfdev_engine.selfdev.verdict import holm, interval, verdict

CONFIG = RunConfig.model_validate(
    {"base": "b", "experts": {"x": "x", "y": "y"}, "task": "gsm8k", "baselines": ["model_stock"]}
    | {"test": {"top": 2}}
)
NUM_QUESTIONS = 100
# id -> right answers of a hundred, on dev and on test
RIGHT = {
    "base": (40, 40),
    "expert-x": (30, 20),
    "expert-y": (35, 30),
    "model_stock": (50, 52),
    "i1-0": (60, 55),
    "i1-1": (58, 45),
    "i1-2": (10, None),
}


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "run.db") as store:
        fill(store, RIGHT)
        yield store


def fill(store, right):
    with store.transaction():
        for name, splits in right.items():
            iteration = 1 if name.startswith("i1") else None
            store.add_candidates([{"id": name, "source": name, "iteration": iteration}])
            store.decide(name, status="scored")
            for split, count in zip(("dev", "test"), splits, strict=True):
                if count is not None:
                    answers = [
                        Sample(i, f"q{i}", "p", "r", "r", *[i < count] * 3) for i in range(100)
                    ]
                    store.add_score(name, "t", split, score_of(answers, "flexible"), answers, {})


def test_the_best_is_compared_on_test_with_the_best_known_models(store, tmp_path):
    found = run_result(store, CONFIG, tmp_path)
    compared = found["comparisons"]
    assert [(c["a"], c["b"], c["split"], c["n"]) for c in compared] == [
        ("i1-0", "base", "test", 100),
        ("i1-0", "expert-y", "test", 100),
        ("i1-0", "model_stock", "test", 100),
    ]
    assert [round(c["difference"], 2) for c in compared] == [0.15, 0.25, 0.03]
    assert compared[0]["p"] == pytest.approx(2 * 0.5**15)
    assert compared[0]["p_holm"] == pytest.approx(4 * 0.5**15)
    assert compared[2]["p_holm"] == compared[2]["p"] == 0.25
    assert all(c["low"] <= c["difference"] <= c["high"] for c in compared)
    assert found["shrinkage"] == pytest.approx(
        {"programs": 2, "dev": 0.59, "test": 0.5, "difference": -0.09}
    )
    words = found["verdict"]
    assert "i1-0, is better than the base (+0.150 [" in words and "p < 0.001" in words
    assert words.endswith("The search is not shown to have beaten the best baseline model_stock.")


def test_the_verdict_is_said_when_the_search_lost(tmp_path):
    with Store.open(tmp_path / "lost.db") as store:
        fill(store, {**RIGHT, "i1-0": (60, 30)})
        found = run_result(store, CONFIG, tmp_path)["verdict"]
    assert (
        "worse than the base (-0.100" in found and found.count("The search lost to the base") == 1
    )
    assert verdict(None, []).startswith("No program ran")
    assert verdict({"id": "i1-0", "dev": None}, []).startswith("Not tested. The best program")


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_monotone_and_never_smaller(ps):
    adjusted = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))
    ranked = [q for _, q in sorted(zip(ps, adjusted, strict=True))]
    assert ranked == sorted(ranked)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_interval_of_a_difference_has_width(pairs):
    first, second = (dict(enumerate(side)) for side in zip(*pairs, strict=True))
    found = compare(first, second)
    low, high = interval(found)
    assert -1 <= low < high <= 1
    assert low <= found.difference <= high or found.n < 5


def test_looks_are_kept_when_a_run_is_replaced(store, tmp_path):
    assert looks_at(tmp_path / "nothing") == 0
    store.set_setting(LOOKS, 7)
    assert looks_at(tmp_path) == 7
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.db").write_text("no database")
    assert looks_at(tmp_path / "damaged") == 0
