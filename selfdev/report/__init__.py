"""Writes report.html: one page that loads no other file, from run.db and config.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...engine.errors import visible
from ...engine.output.file import check_file, write_file
from ...engine.records.candidate import BASE, MAIN, Candidate
from ...engine.records.compare import Comparison, compare
from ...engine.records.score import Score
from ...engine.records.store import Store
from ..results import looks_of

TEMPLATE = Path(__file__).parent / "report.html.jinja"
BINS = 20
WIDTH, HEIGHT = 620, 90
SHOWN_SOURCE_CHARACTERS = 4000


@dataclass(frozen=True)
class ReportRow:
    """One candidate's line in the table. Scores and `paired` are None where it did not run."""

    candidate: Candidate
    dev: Score | None
    test: Score | None
    paired: Comparison | None  # against the base
    source: str
    detail: str


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write RUN/report.html, or `out`, and return its path. It may be called while the run goes on."""
    out = out or folder / "report.html"
    # It takes time to load, and only this needs it.
    import jinja2

    check_file("--out", out, is_report)
    config = (folder / "config.yaml").read_text()
    arms = [MAIN, *(yaml.safe_load(config).get("arms") or ())]
    with Store.read(folder / "run.db") as store:
        facts = facts_of(store, arms)
    # What the run says goes through `shown`, then jinja2 escapes its markup.
    environment = jinja2.Environment(
        autoescape=True, finalize=shown, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.globals["margin"] = margin_text
    template = environment.from_string(TEMPLATE.read_text())
    page = template.render(run=folder.name, config=yaml.safe_load(config), raw=config, **facts)
    write_file("--out", out, page, is_report)
    return out


def is_report(start: str) -> bool:
    return "selfdev-engine report</title>" in start


def facts_of(store: Store, arms: Sequence[str]) -> dict[str, Any]:
    """Everything that the template shows, apart from the config."""
    rows = [row_of(store, candidate) for candidate in store.candidates()]
    turns = [(arm, turn) for arm in arms for turn in store.iterations(arm).values()]
    result = store.setting("result") or {}
    return {
        "rows": sorted(rows, key=place),
        "turns": turns,
        "histograms": histograms(scores_by_iteration(rows)),
        "budget": result.get("budget"),
        "arm_verdict": result.get("arm_verdict"),
        "arm_comparisons": result.get("arm_comparisons") or [],
        "known": known_models(result),
        "best": result.get("best"),
        "verdict": result.get("verdict"),
        "comparisons": result.get("comparisons") or [],
        "test_looks": looks_of(store) if result else None,
        "unsafe": store.setting("unsafe_sandbox"),
    }


def place(row: ReportRow) -> tuple[float, list[float]]:
    """Sorting key: best dev score first. Equal scores with like coefficients are neighbours."""
    linear = row.candidate.linear
    coefficients = [-c for c in linear["coefficients"].values()] if linear else []
    return -(row.dev.score if row.dev else -1.0), coefficients


def row_of(store: Store, candidate: Candidate) -> ReportRow:
    ran = candidate.is_valid
    return ReportRow(
        candidate=candidate,
        dev=store.score(candidate.id) if ran else None,
        test=store.score(candidate.id, "test") if ran else None,
        paired=paired(store, candidate.id) if ran else None,
        source=(candidate.source or "")[:SHOWN_SOURCE_CHARACTERS],
        detail=(candidate.detail or "")[:SHOWN_SOURCE_CHARACTERS],
    )


def paired(store: Store, name: str) -> Comparison | None:
    """Comparison with the base, question by question; None for the base or without answers."""
    mine, base = store.answers(name), store.answers(BASE)
    return compare(mine, base) if name != BASE and mine.keys() & base.keys() else None


def shown(value: Any) -> Any:
    """A value of the page: text with its control characters escaped."""
    return visible(value) if type(value) is str else value


def known_models(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of known models: base, experts, baselines."""
    if not result:
        return []
    rows = [{**result["base"], "name": "base"}]
    for kind in ("experts", "baselines"):
        rows += [{**row, "name": name} for name, row in result[kind].items()]
    return rows


def scores_by_iteration(rows: Sequence[ReportRow]) -> dict[tuple[str, int], list[float]]:
    """Dev scores of the sampled programs that ran, by arm and iteration; those of main come first."""
    scores: dict[tuple[str, int], list[float]] = {}
    for row in sorted(rows, key=lambda row: (row.candidate.arm != MAIN, row.candidate.arm)):
        if row.dev and row.candidate.iteration is not None:
            place = row.candidate.arm, row.candidate.iteration
            scores.setdefault(place, []).append(row.dev.score)
    return scores


def histograms(scores: Mapping[tuple[str, int], Sequence[float]]) -> list[dict[str, Any]]:
    """For each iteration of an arm, the bars of its dev scores in SVG coordinates; all have one scale."""
    tallest = 1
    counted = {}
    for place, values in scores.items():
        counts = [0] * BINS
        for value in values:
            counts[min(BINS - 1, int(value * BINS))] += 1
        counted[place] = counts
        tallest = max(tallest, *counts)
    step = WIDTH / BINS
    return [
        {
            "iteration": iteration,
            "arm": arm,
            "count": sum(counts),
            "bars": [
                {"x": i * step, "width": step - 2, "height": HEIGHT * n / tallest, "n": n}
                for i, n in enumerate(counts)
            ],
        }
        for (arm, iteration), counts in sorted(counted.items(), key=lambda item: item[0][0] != MAIN)
    ]


def margin_text(training: Mapping[str, Any]) -> str:
    """The margin of a stage's holdout with its interval; empty where it was not measured."""
    margin, low, high = training.get("holdout_margin_nats") or (None, None, None)
    if margin is None:
        return ""
    return f"{margin:.2f}" if low is None else f"{margin:.2f} [{low:.2f}, {high:.2f}]"


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
