"""`run --plan`: counts what a run would need. It checks the config and uses no network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ..engine.screening.settings import ScreenSettings
from ..engine.tasks.load import load_task
from ..engine.tasks.published import GSM8K_DEV, MATH_DEV
from ..engine.weights.checkpoint import Checkpoint
from ..engine.weights.durations import Amounts
from ..engine.weights.locate import here
from ..engine.weights.machine import GIB
from ..engine.weights.training import Training
from .baselines import known_candidates
from .capacity import PAIR_TOKENS, Request
from .config import RunConfig
from .holdout import MOST_COMPARED

PAPER_DEV = {"gsm8k": GSM8K_DEV, "math": MATH_DEV}
# Test questions of the paper's tasks; those of other tasks are not read to plan.
PAPER_TEST = {"gsm8k": 1219, "math": 4400}


def plan_run(config: RunConfig, data: Path | None = None) -> dict[str, Any]:
    """Counts of candidates and questions, and bytes of weights, as texts and numbers by name.

    A model that is not on this machine is "not downloaded".
    """
    models = {"base": config.base, **{f"expert {n}": p for n, p in config.expert_places.items()}}
    models["generator"] = config.generator_place
    sizes = {name: weights_bytes(place) for name, place in models.items()}
    known = [size for size in sizes.values() if size is not None]
    sampled = samples_of(config)
    fixed = 1 + len(known_candidates(list(config.experts), config.baselines))
    questions, tests = count_questions(config.task, data)
    candidates = sampled + fixed
    return {
        "iterations": config.iterations,
        "arms": len(config.all_arms),
        "samples": sampled,
        "temperatures": [round(config.temperature.at(t + 1), 3) for t in range(config.iterations)],
        "base, experts, baselines": fixed,
        "candidates at most": candidates,
        "questions per candidate": questions,
        "questions at most": candidates * questions,
        **{f"weights of {name}": size_text(size) for name, size in sizes.items()},
        "memory for weights": size_text(sum(known))
        if len(known) == len(sizes)
        else "not downloaded",
        "dpo steps": config.dpo.max_steps * stages_of(config),
        "test candidates": len(config.all_arms) * config.test.top
        if tests != 0
        else "none: no test questions",
    }


def samples_of(config: RunConfig) -> int:
    """How many programs the arms of a run draw together."""
    return len(config.all_arms) * config.iterations * config.samples


def stages_of(config: RunConfig) -> int:
    """How often a run trains: between its iterations, in each arm that learns."""
    return (config.iterations - 1) * sum(arm.learns for arm in config.all_arms)


def weights_bytes(place: str) -> int | None:
    """Bytes of the weights in a folder or in the cache of the hub; None if there are none."""
    folder = here(place)
    if folder is None:
        return None
    return sum(entry.size_bytes for entry in Checkpoint.open(str(folder)).entries.values())


def count_questions(task: str, data: Path | None) -> tuple[int, int | None]:
    """Numbers of dev and test questions; None where only the hub's data would tell."""
    if task in PAPER_DEV and data is None:
        return PAPER_DEV[task], None
    splits = Counter(question.split for question in load_task(task, data).rows)
    return splits["dev"], splits["test"]


def run_request(
    config: RunConfig,
    data: Path | None,
    gpus: str | None,
    folder: Path,
    screening: ScreenSettings,
) -> Request:
    """What a run asks of a machine; `screening` has the bounds of memory."""
    known = 1 + len(known_candidates(list(config.experts), config.baselines))
    questions, tests = count_questions(config.task, data)
    stages = stages_of(config)
    training = Training(config.dpo.lora_rank, config.dpo.batch_size, PAIR_TOKENS, stages)
    amounts = Amounts(
        questions=questions,
        programs=samples_of(config),
        candidates=known,
        iterations=config.iterations,
        training_steps=stages * config.dpo.max_steps,
        batch_size=config.dpo.batch_size,
        pair_tokens=2 * config.dpo.batch_size * config.dpo.accumulation * PAIR_TOKENS,
        compared_tokens=2 * MOST_COMPARED * PAIR_TOKENS / config.dpo.eval_steps,
        tests=len(config.all_arms) * config.test.top
        + 1
        + len(config.experts)
        + len(config.baselines),
        test_questions=PAPER_TEST.get(config.task, 0) if tests is None else tests,
    )
    return Request(
        base=config.base,
        experts=config.expert_places,
        generator=config.generator_place,
        include=config.include,
        gpus=gpus,
        folder=folder,
        amounts=amounts,
        training=training if stages else None,
        max_model_len=screening.max_model_len,
        memory_bytes=screening.memory_bytes,
        gpu_memory_bytes=screening.gpu_memory_bytes,
        workers=None if config.cluster.workers == "auto" else config.cluster.workers,
    )


def size_text(size: int | None) -> str:
    return "not downloaded" if size is None else f"{size / GIB:.2f} GiB"
