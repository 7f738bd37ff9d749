"""A score as lm-evaluation-harness writes its results, for the tools that read those files."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..tasks.harness import GSM8K, MATH, NUM_SHOTS
from ..tasks.task import Task
from .score import Score

# By our task: its name and version in the harness, and the filters of strict and flexible answers there.
# MATH has no flexible filter in the harness; ours has the name that it has in gsm8k.
PUBLISHED = {
    "gsm8k": (GSM8K.version, ("strict-match", "flexible-extract")),
    "math": (MATH.version, ("none", "flexible-extract")),
}
LIBRARIES = {"transformers": "hf"}  # what the harness calls an engine, where that is not its name
METRIC = "exact_match"


@dataclass(frozen=True)
class Scored:
    """What was asked of which model, when (seconds since 1970), for how many seconds, and the score."""

    model: str
    task: Task
    split: str
    seed: int
    date: float
    seconds: float
    score: Score
    made_with: Mapping[str, str]


def harness_results(scored: Scored) -> dict[str, Any]:
    """Return the object that lm-evaluation-harness (0.4) writes for one task."""
    task, score = scored.task, scored.score
    known = PUBLISHED.get(task.name)
    form, filters = known or ("", PUBLISHED["gsm8k"][1])
    name, version = form.split() if known else (task.name, 1.0)
    return {
        "results": {name: {"alias": name, "sample_len": score.n, **metrics(score, filters)}},
        "group_subtasks": {name: []},
        "configs": {name: config_of(task, name, scored.split)},
        "versions": {name: float(version)},
        "n-shot": {name: NUM_SHOTS if known else 0},
        "higher_is_better": {name: {METRIC: True}},
        "n-samples": {name: {"original": len(task.rows), "effective": score.n}},
        "config": run_config(scored),
        "date": scored.date,
        "selfdev_engine": {
            "version": importlib.metadata.version("selfdev-engine"),
            **scored.made_with,
        },
        "model_source": run_config(scored)["model"],
        "model_name": scored.model,
        "model_name_sanitized": re.sub(r"[\"<>:/|\\?*\[\]]+", "__", scored.model),
        "system_instruction": None,
        "chat_template": None,
        "fewshot_as_multiturn": False,
        "task_hashes": {name: task.version.rsplit(" ", 1)[-1]},
        "total_evaluation_time_seconds": str(scored.seconds),
    }


def metrics(score: Score, filters: tuple[str, str]) -> dict[str, float | str]:
    """Return shares of right answers with their standard errors, by way of grading."""
    found: dict[str, float | str] = {}
    for way, right in zip(filters, (score.strict, score.flexible), strict=True):
        found[f"{METRIC},{way}"] = right / score.n
        found[f"{METRIC}_stderr,{way}"] = standard_error(right, score.n)
    return found


def standard_error(right: int, n: int) -> float | str:
    """Return the standard error of a share, from the sample's variance; "N/A" for one question."""
    share = right / n
    return math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else "N/A"


def config_of(task: Task, name: str, split: str) -> dict[str, Any]:
    """Return how the task was asked."""
    asked = {"until": list(task.stop), "do_sample": False, "max_gen_toks": task.max_new_tokens}
    # Dev questions of a published task are a part of the harness's test split.
    return {
        "task": name,
        "test_split": "test",
        "metadata": {"form": task.form, "split": split},
        "output_type": "generate_until",
        "generation_kwargs": asked,
        "repeats": 1,
    }


def run_config(scored: Scored) -> dict[str, Any]:
    engine = scored.made_with["engine"].split()[0]
    return {
        "model": LIBRARIES.get(engine, engine),
        "model_args": {"pretrained": scored.model},
        "batch_size": "auto",
        "device": None,
        "limit": None,
        "gen_kwargs": {"temperature": 0.0},
        "random_seed": scored.seed,
    }


def is_results(start: str) -> bool:
    """Whether a file that begins so is such a file of ours."""
    words = ('"results": {', '"n-shot": {', '"selfdev_engine": {')
    return start.startswith("{") and all(word in start for word in words)
