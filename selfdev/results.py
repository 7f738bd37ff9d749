"""Reads from the store what a run reports: a summary of each iteration and the final result."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

from ..engine.records.candidate import BASE, MAIN, Candidate, Status
from ..engine.records.store import Store
from .arm_results import Reached, arm_comparisons, arm_verdict, budget
from .arms import MODELS, Arm
from .config import RunConfig
from .learning import Lesson, scored_programs
from .verdict import comparisons, shrinkage, verdict

# Setting of the store: how often a model was scored on test in this folder, by earlier runs, too.
LOOKS = "test looks"
# Setting: how often each transfer of the run's programs (its folder's name) scored a model on test.
LOOKS_OF_TRANSFERS = "test looks of transfers"
# How a sample can end (figure 9 of the paper); every sample ends in one of these.
CATEGORIES = ("success", "duplicate", "no_function", "not_executable", "timeout")


def iteration_summary(store: Store, config: RunConfig, arm: Arm, iteration: int) -> dict[str, Any]:
    """Counts and dev scores of one iteration of an arm."""
    candidates = store.candidates(iteration, arm.name)
    scores = [s.score for s in scored_programs(store, iteration, arm.name)]
    sets = Lesson(store, config, arm, iteration).sets
    found = Counter(category_of(c) for c in candidates)
    texts = len(candidates) - found["duplicate"]
    rejected = Counter(c.kind for c in candidates if c.status is Status.REJECTED)
    return {
        "iteration": iteration,
        "sampled": len(candidates),
        "categories": {name: found[name] for name in CATEGORIES},
        "unique": texts,
        "texts": texts,
        "updates": len({c.duplicate_of or c.id for c in candidates if c.is_valid}),
        "valid": found["success"],
        "rejected": dict(rejected),
        "best": max(scores, default=None),
        "mean": sum(scores) / len(scores) if scores else None,
        "chosen": len(sets.chosen),
        "rejected_size": len(sets.rejected),
        "pairs": 0,
        "dpo_steps": 0,
        "generator_fingerprint": candidates[0].generator if candidates else None,
        "temperature": arm.temperature.at(iteration) if arm.writer in MODELS else None,
    }


def category_of(candidate: Candidate) -> str:
    """How a sample ended. A duplicate has the text of an earlier sample of its iteration."""
    if candidate.status is Status.COPY:
        return "duplicate"
    if candidate.is_valid:
        return "success"
    return str(candidate.kind) if candidate.kind in CATEGORIES else "not_executable"


def run_result(store: Store, config: RunConfig, folder: Path) -> dict[str, Any]:
    """The object that `run --json` prints: iterations, known models, the best programs."""
    programs = ranked_programs(store)
    baselines = best_baselines(store, config)
    best = programs[0] if programs else None
    compared = comparisons(store, best, rivals(store, config)) if best else []
    tested = [scores_of(store, name) for name in programs[: config.test.top]]
    arms = arm_comparisons(store, config)
    shown = scores_of(store, best) if best else None
    return {
        "run": str(folder),
        "verdict": verdict(shown, compared),
        "iterations": records(store, MAIN),
        "arms": {name: arm_result(store, config, name) for name in config.arms},
        "budget": budget(store, config) if config.arms else None,
        "arm_comparisons": arms,
        "arm_verdict": arm_verdict(arms),
        "base": scores_of(store, BASE),
        "experts": {name: scores_of(store, f"expert-{name}") for name in config.experts},
        "baselines": {name: scores_of(store, best) for name, best in baselines.items()},
        "best": shown,
        "tested": tested,
        "comparisons": compared,
        "shrinkage": shrinkage(tested),
        "test_looks": looks_of(store),
    }


def looks_of(store: Store) -> int:
    """How often a model was scored on test in this folder, by earlier runs and by transfers, too."""
    transfers = store.setting(LOOKS_OF_TRANSFERS, {"*": "whole"}) or {}
    return (store.setting(LOOKS, "whole") or 0) + sum(transfers.values())


def records(store: Store, arm: str) -> list[dict[str, Any]]:
    """What is told of the iterations of an arm."""
    found = store.iterations(arm).values()
    return [{key: value for key, value in one.items() if key != "done"} for one in found]


def arm_result(store: Store, config: RunConfig, arm: str) -> dict[str, Any]:
    """What a control did. `scored` counts its distinct updates, also where another arm had the score."""
    programs, reached = ranked_programs(store, arm), Reached.of(store, arm)
    return {
        "iterations": records(store, arm),
        "best": scores_of(store, programs[0]) if programs else None,
        "scored": len(reached.scores),
        "samples": reached.samples,
        "tested": [scores_of(store, name) for name in programs[: config.test.top]],
    }


def rivals(store: Store, config: RunConfig) -> dict[str, str]:
    """The known models that the best program is compared with, by words: each is the best by dev."""
    baselines = best_baselines(store, config)
    experts = {name: f"expert-{name}" for name in config.experts}
    found = {"the base": BASE}
    for kind, group in (("the best expert", experts), ("the best baseline", baselines)):
        if group:
            name = max(group, key=lambda name: dev_score(store, group[name]))
            found[f"{kind} {name}"] = group[name]
    return found


def names_to_test(store: Store, config: RunConfig) -> list[str]:
    """The best programs of each arm and the models they are compared with; none if `test.top` is 0.

    The best of each iteration of `main` is one of them, as in table 2 of the paper.
    """
    if not config.test.top:
        return []
    known = [BASE, *(f"expert-{name}" for name in config.experts)]
    known += best_baselines(store, config).values()
    turns = [name for _, name in best_by_iteration(store)]
    arms = [ranked_programs(store, arm.name)[: config.test.top] for arm in config.all_arms]
    return list(dict.fromkeys([*known, *chain(*arms), *turns]))


def ranked_programs(store: Store, arm: str = MAIN) -> list[str]:
    """The sampled updates of an arm by dev score, best first; the earlier of two equals is first.

    Programs of one update share an id, that of the first one sampled, also where a baseline or an
    expert came before it.
    """
    first = dict[str, str]()
    for c in store.candidates():
        if c.iteration is not None and c.is_valid and c.arm == arm:
            first.setdefault(c.duplicate_of or c.id, c.id)
    scores = {name: dev_score(store, name) for name in first.values()}
    return sorted(scores, key=lambda name: -scores[name])


def best_by_iteration(store: Store) -> list[tuple[int, str]]:
    """(iteration, id) of the best update by dev of all iterations up to each one."""
    place = {name: rank for rank, name in enumerate(ranked_programs(store))}
    iterations = {c.id: c.iteration for c in store.candidates()}
    found = []
    for i in store.iterations():
        known = [name for name in place if (at := iterations[name]) is not None and at <= i]
        if known:
            found.append((i, min(known, key=lambda name: place[name])))
    return found


def best_baselines(store: Store, config: RunConfig) -> dict[str, str]:
    """For each baseline method, the id of its setting with the best dev score, if one ran."""
    best = {name: store.best_setting(name) for name in config.baselines}
    return {name: found for name, found in best.items() if found}


def dev_score(store: Store, name: str) -> float:
    score = store.score(name)
    return score.score if score else 0.0


def scores_of(store: Store, name: str) -> dict[str, Any]:
    """{id, dev, test}; a split that was not scored is null."""
    dev, test = store.score(name), store.score(name, "test")
    return {
        "id": name,
        "dev": dev.to_json() if dev else None,
        "test": test.to_json() if test else None,
    }
