"""Scores in the format of lm-evaluation-harness, against numbers and names that it wrote itself."""

from __future__ import annotations

import pytest
from selfdev_engine.engine.records.harness_results import (
    Scored,
    harness_results,
    is_results,
    standard_error,
)
from selfdev_engine.engine.records.score import Score
from selfdev_engine.engine.tasks.harness import GSM8K, MATH
from selfdev_engine.engine.tasks.task import Question, Task

MADE = {"engine": "transformers 5", "decoding": "greedy", "task_version": "v", "grader": "g"}


def results(name: str, form: str) -> dict:
    rows = tuple(
        Question(i, f"q{i}", "1", f"q{i}", "dev" if i < 64 else "test") for i in range(100)
    )
    task = Task(name, rows, stop=("Question:",), form=form)
    score = Score(62, 64, 62 / 64, 0.9, 1.0, 62, 63)
    return harness_results(Scored("org/model", task, "dev", 7, 1.5, 3.25, score, MADE))


def test_the_standard_error_is_the_harness_s():
    """It reported 0.021921011700381302 for an accuracy of 0.96875 on 64 questions."""
    assert standard_error(62, 64) == pytest.approx(0.021921011700381302, rel=1e-12)
    assert standard_error(1, 1) == "N/A" and standard_error(5, 5) == 0


def test_gsm8k_has_the_names_of_the_harness():
    found = results("gsm8k", GSM8K.version)
    row = found["results"]["gsm8k"]
    assert row["exact_match,strict-match"] == 0.96875
    assert row["exact_match_stderr,strict-match"] == pytest.approx(0.021921011700381302)
    assert row["exact_match,flexible-extract"] == 63 / 64
    assert found["n-shot"] == {"gsm8k": 5} and found["versions"] == {"gsm8k": 3.0}
    assert found["n-samples"] == {"gsm8k": {"original": 100, "effective": 64}}
    assert found["higher_is_better"] == {"gsm8k": {"exact_match": True}}
    assert found["config"]["model"] == "hf" and found["config"]["random_seed"] == 7
    assert found["model_name_sanitized"] == "org__model"
    # What every result of the harness has, by its own schema.
    wanted = {"results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better"}
    wanted |= {"n-samples", "config", "date", "model_source", "model_name", "task_hashes"}
    assert wanted <= found.keys()
    keys = ("results", "configs", "versions", "n-shot", "n-samples", "task_hashes")
    assert all(list(found[key]) == ["gsm8k"] for key in keys)


def test_math_has_the_filter_of_the_harness():
    row = results("math", MATH.version)["results"]["hendrycks_math"]
    assert row["exact_match,none"] == 62 / 64 and row["exact_match,flexible-extract"] == 63 / 64


def test_another_task_has_its_own_name_and_no_shots():
    found = results("jsonl:mine.jsonl", "jsonl 1")
    assert found["n-shot"] == {"jsonl:mine.jsonl": 0}


def test_only_results_of_ours_are_replaced():
    import json

    assert is_results(json.dumps(results("gsm8k", GSM8K.version), indent=2))
    assert not is_results('{"results": {}}') and not is_results("")
