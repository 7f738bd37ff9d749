"""Reads what the page says in words: the headline, the known models, the arms, the iterations."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.records.candidate import BASE, clean
from ...engine.records.compare import compare
from ...engine.records.store import Store
from ..results import looks_of, scores_of
from ..stored import cut_off, result_of
from ..verdict import comparisons, of_several, p_text, shrinkage, verdict

VERSION = importlib.metadata.version("selfdev-engine")
LEADERS = 10


def facts_of(store: Store, arms: Sequence[str]) -> dict[str, Any]:
    """Everything that the template shows, apart from the run's name and its settings."""
    result = with_tests(store, result_of(store) or {})
    turns = [(arm, turn) for arm in arms for turn in store.iterations(arm).values()]
    best = result.get("best") if result else best_of(store)
    programs = [c for c in store.candidates() if c.source is not None]
    return {
        "version": VERSION,
        "best": best,
        "verdict": result.get("verdict") or untested(store, best),
        "shrunk": shrunk(result.get("tested") or []),
        "comparisons": result.get("comparisons") or [],
        "of_several": of_several(result.get("comparisons") or []),
        "of_several_arms": of_several(result.get("arm_comparisons") or []),
        "known": known_models(result, best) if result else [],
        "budget": result.get("budget"),
        "arm_verdict": result.get("arm_verdict"),
        "arm_comparisons": result.get("arm_comparisons") or [],
        "turns": turns,
        "leaders": store.leaders(LEADERS),
        "test_looks": looks_of(store) if result else None,
        "unsafe": store.setting("unsafe_sandbox"),
        "open": sum(c.status is None for c in programs),
        "total": len(programs),
        "final": bool(result),
    }


def with_tests(store: Store, result: dict[str, Any]) -> dict[str, Any]:
    """The result; of a run of a version that made no paired tests with them, from the answers in run.db."""
    best = result.get("best")
    if not best or "comparisons" in result:
        return result
    rivals = {"the base": BASE}
    for kind in ("experts", "baselines"):
        if rows := {name: row for name, row in (result.get(kind) or {}).items() if row.get("dev")}:
            name = max(rows, key=lambda name: rows[name]["dev"]["score"])
            rivals[f"the best {kind[:-1]} {name}"] = rows[name]["id"]
    names = {words: clean(name) or "" for words, name in rivals.items()}
    found = comparisons(store, clean(best["id"]) or "", names)
    return {**result, "comparisons": found, **({"verdict": verdict(best, found)} if found else {})}


def best_of(store: Store) -> dict[str, Any] | None:
    """The best program so far, by dev; None where nothing was scored."""
    name = store.best()
    return scores_of(store, name) if name else None


def untested(store: Store, best: Mapping[str, Any] | None) -> str:
    """What can be said of a best program that was compared with nothing on test: it was picked on dev."""
    if best is None:
        return "No program was scored yet."
    if best["test"]:
        return cut_off(best["id"], best["test"])
    mine, base = store.answers(clean(best["id"]) or ""), store.answers(BASE)
    if not mine.keys() & base.keys():
        return f"{best['id']} was picked on dev and not compared with the base."
    found, scored = (
        compare(mine, base),
        sum(c.has_answers and c.id != BASE for c in store.candidates()),
    )
    return (
        f"Not tested. On dev {best['id']} is {100 * found.difference:+.1f} points against the base "
        f"(p {p_text(found.p)}), but it was picked there as the best of {scored}: "
        "only questions that it was not picked on can tell."
    )


def shrunk(tested: Sequence[Mapping[str, Any]]) -> str:
    """What the tested programs lost from dev to test; empty where none was tested."""
    found = shrinkage(tested)
    if found is None:
        return ""
    best = "program" if found["programs"] == 1 else f"{found['programs']} programs"
    return (
        f"From dev, where it was picked, to test the best {best} went from "
        f"{100 * found['dev']:.1f} to {100 * found['test']:.1f} %."
    )


def known_models(result: Mapping[str, Any], best: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Rows of the table of known models: base, experts, baselines, and the best program beside them."""
    rows = [{**result["base"], "name": "base"}]
    for kind in ("experts", "baselines"):
        rows += [{**row, "name": name} for name, row in result[kind].items()]
    return [*rows, {**best, "name": "best program"}] if best else rows
