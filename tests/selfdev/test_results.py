"""What a run reports of its iterations, and which programs it ranks."""

from __future__ import annotations

import pytest
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.cli.run import render_run
from selfdev_engine.selfdev.config import RunConfig
from selfdev_engine.selfdev.results import iteration_summary, ranked_programs, run_result

CONFIG = RunConfig.model_validate(
    {"base": "b", "experts": {"x": "x"}, "task": "gsm8k", "baselines": ["model_stock"]}
    | {"preferences": {"holdout": 0}}
)
NUM_QUESTIONS = 10
# id -> (right answers or None, how it ended)
ENDS = {
    "base": (4, {}),
    "expert-x": (3, {}),
    "model_stock": (8, {}),
    "i1-0": (5, {}),
    "i1-1": (None, {"status": "copy", "duplicate_of": "i1-0"}),
    "i1-2": (None, {"status": "duplicate", "duplicate_of": "i1-0"}),
    "i1-3": (None, {"status": "duplicate", "duplicate_of": "model_stock"}),
    "i1-4": (None, {"status": "rejected", "kind": "timeout"}),
    "i1-5": (None, {"status": "rejected", "kind": "no_function"}),
    "i1-6": (None, {"status": "rejected", "kind": "syntax"}),
    "i1-7": (None, {"status": "rejected", "kind": "shape"}),
    "i1-8": (None, {"status": "failed"}),
    "i1-9": (7, {}),
    "i1-10": (None, {"status": "duplicate", "duplicate_of": "model_stock"}),
}


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "run.db") as store:
        with store.transaction():
            for name, (right, end) in ENDS.items():
                iteration = 1 if name.startswith("i1") else None
                store.add_candidates([{"id": name, "source": name, "iteration": iteration}])
                store.decide(name, **{"status": "scored", **end})
                if right is not None:
                    answers = [
                        Sample(i, f"q{i}", "p", "r", "r", *[i < right] * 3) for i in range(10)
                    ]
                    score = score_of(answers, "flexible")
                    store.add_score(name, "jsonl:t", "dev", score, answers, {})
            store.set_iteration(1, iteration_summary(store, CONFIG, CONFIG.main, 1))
        yield store


def test_every_sample_is_in_one_category(store):
    (turn,) = store.iterations().values()
    assert turn["categories"] == {
        "success": 5,
        "duplicate": 1,
        "no_function": 1,
        "not_executable": 3,
        "timeout": 1,
    }
    assert sum(turn["categories"].values()) == turn["sampled"] == 11
    assert (turn["texts"], turn["updates"], turn["valid"]) == (10, 3, 5)
    assert turn["rejected"] == {"timeout": 1, "no_function": 1, "syntax": 1, "shape": 1}
    # Two programs of 80 % are above the bar of 3 %.
    assert (turn["chosen"], turn["rejected_size"]) == (2, 2)


def test_an_update_is_ranked_once_by_its_first_program(store):
    """Also where a baseline came before it: its program did find the best setting."""
    assert ranked_programs(store) == ["i1-3", "i1-9", "i1-0"]
    assert store.best() == "i1-3"


def test_the_tables_say_how_samples_ended(store, tmp_path):
    page = render_run(run_result(store, CONFIG, tmp_path))
    assert "executable" in page and "best: i1-3" in page
    row = next(line for line in page.splitlines() if line.startswith("│         1 │      11 │"))
    assert [int(word) for word in row.strip("│").split("│")] == [1, 11, 5, 1, 1, 3, 1, 10, 3]
