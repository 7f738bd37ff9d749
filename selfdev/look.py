"""What `show`, `top`, `diff` and `compare RUN1 RUN2` say of runs that were made. Nothing here loads torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError, in_one_line
from ..engine.records.candidate import BASE, Candidate
from ..engine.records.candidate_json import ranked_json
from ..engine.records.compare import answered_by, compare
from ..engine.records.store import Store
from ..engine.screening.folder import read_config
from ..engine.screening.place import DATABASE
from .names import arms_of, check_arm, find_candidate, is_known
from .runs import config_differences, run_facts, score_json
from .stored import cut_off, result_of
from .verdict import of_several

NUM_SHOWN = 5


def show_run(run: Path) -> dict[str, Any]:
    """Return the summary of a run: its facts, why programs were rejected, its best programs."""
    config = read_config(run)
    with Store.read(run / DATABASE) as store:
        return {
            **run_facts(store, run, config),
            "rejected": store.kinds(),
            "arms": {arm: store.best(arm) for arm in arms_of(config)},
            "top": ranked(store, config, store.ranking(NUM_SHOWN)),
            "verdict": said_on_test(store),
        }


def ranked(store: Store, config: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return candidates as `top` shows them; `known` says which were known before the run."""
    found = [ranked_json(store, name) for name in names]
    return [{**row, "known": is_known(config, row["iteration"])} for row in found]


def said_on_test(store: Store) -> str | None:
    """Return what a run says of itself on test; None where nothing was tested."""
    if result := result_of(store):
        words = result.get("verdict"), of_several(result.get("comparisons") or ())
        return " ".join(filter(None, words)) or None
    best = store.best()
    test = score_json(store, best, "test") if best else None
    return cut_off(best, test) if best and test else None


def show_candidate(run: Path, name: str) -> dict[str, Any]:
    """Return all that is known of a candidate. UsageError for a name that means none."""
    config = read_config(run)
    with Store.read(run / DATABASE) as store:
        found = candidate_named(store, config, name)
        asked = answered_by(store, found)
        twins = [c.id for c in store.candidates() if c.duplicate_of == found.id]
        return {
            "run": str(run),
            **ranked(store, config, [found.id])[0],
            "test": score_json(store, asked, "test") if asked else None,
            "params": dict(found.params),
            "held_out": found.held_out,
            "twins": twins,
            "source": found.source,
        }


def candidate_named(store: Store, config: Mapping[str, Any], name: str) -> Candidate:
    found = store.candidate(find_candidate(store, config, name))
    assert found is not None, name
    return found


def top(run: Path, count: int, arm: str | None = None) -> dict[str, Any]:
    """Return the best `count` scored programs of a run by dev, and its base to read them by.

    With `arm` only those of one arm, so no known models; UsageError where the run has no such arm.
    """
    config = read_config(run)
    if arm is not None:
        check_arm(run, config, arm)
    with Store.read(run / DATABASE) as store:
        names = store.ranking(count, arm, arm is not None and is_known(config, None))
        found = ranked(store, config, names)
        return {"run": str(run), "base": score_json(store, BASE), "candidates": found}


def diff(run: Path, first: str, second: str) -> dict[str, Any]:
    """Return how the programs of two candidates differ, and their linear equivalents.

    UsageError for a name that means none, or for two that mean one.
    """
    config = read_config(run)
    with Store.read(run / DATABASE) as store:
        one, other = (candidate_named(store, config, name) for name in (first, second))
    if one.id == other.id:
        raise UsageError(f"diff {first} {second}: both are {one.id}; give two candidates")
    return {
        "first": one.id,
        "second": other.id,
        "diff": program_diff(one, other),
        "params": {"first": dict(one.params), "second": dict(other.params)},
        "linear": linear_diff(one.linear, other.linear),
    }


def program_diff(one: Candidate, other: Candidate) -> str:
    """Return a unified diff of two programs; the base's is empty. Empty where they are equal."""
    old, new = ((c.source or "").splitlines() for c in (one, other))
    return "\n".join(
        difflib.unified_diff(old, new, in_one_line(one.id), in_one_line(other.id), lineterm="")
    )


def linear_diff(
    one: Mapping[str, Any] | None, other: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return both linear equivalents, and by expert the second's coefficient less the first's.

    None where neither is known.
    """
    if one is None and other is None:
        return None
    both = [dict((found or {}).get("coefficients", {})) for found in (one, other)]
    shared = [name for name in both[0] if name in both[1]]
    change = {name: both[1][name] - both[0][name] for name in shared}
    return {"first": one, "second": other, "difference": change}


def compare_runs(first: Path, second: Path) -> dict[str, Any]:
    """Return the settings in which two runs differ, their facts, and their best programs compared.

    `paired` is None where a run has no best, or they were asked no common question.
    """
    configs = [read_config(run) for run in (first, second)]
    with Store.read(first / DATABASE) as one, Store.read(second / DATABASE) as other:
        return {
            "runs": [run_facts(one, first, configs[0]), run_facts(other, second, configs[1])],
            "config": config_differences(*configs),
            "paired": bests_compared(one, other),
        }


def bests_compared(one: Store, other: Store) -> dict[str, Any] | None:
    names = one.best(), other.best()
    if names[0] is None or names[1] is None:
        return None
    first, second = one.answers(names[0]), other.answers(names[1])
    if not first.keys() & second.keys():
        return None
    return {"first": names[0], "second": names[1], **compare(first, second).to_json()}
