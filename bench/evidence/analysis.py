"""What the runs of docs/results.md say: plain numbers in, plain numbers out. The zoo is the unit.

A comparison is over zoos: the outcome of `main` minus that of the other arm in the same run. Its p is that of the
exact sign-flip test, two-sided: the share of all ways to turn the signs of the differences whose sum is as far from
zero as the one seen. Holm's correction is over the stated comparisons.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from ...selfdev.holdout import t_quantile
from ...selfdev.verdict import holm

MAIN = "main"
# The comparisons that were stated before the first run, in this order.
STATED = ("no_learning", "sft", "permuted", "linear")
# Two arms that differ by chance alone.
NOISE = ("no_learning", "no_learning_again")
# By zoo, by arm: the outcome of a run; None where the last iteration has no program that ran.
Outcomes = Mapping[int, Mapping[str, float | None]]


def outcomes_of(result: Mapping[str, Any]) -> dict[str, float | None]:
    """The primary outcome of each arm of one run: the mean dev score of the last iteration's programs.

    `result` is the object of `run --json`. The programs are those of distinct texts that ran.
    """
    arms = {MAIN: result, **result["arms"]}
    return {name: arm["iterations"][-1]["mean"] for name, arm in arms.items()}


def described(kept: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What else a run says of each arm. `kept` is one file of the results: {result, arms}.

    `valid` is the share of the last iteration's samples that ran (copies are none), `updates` the distinct ones of
    all iterations, `mean` their mean dev score in the last one, `above_best_baseline` and `linear` shares of the
    updates, `margin` the last training's holdout margin in nats, `dev_to_test` the mean fall of the best five.
    """
    result = kept["result"]
    turns = {MAIN: result, **result["arms"]}
    return {name: described_arm(arm, kept["arms"][name]) for name, arm in turns.items()}


def described_arm(arm: Mapping[str, Any], reached: Mapping[str, Any]) -> dict[str, Any]:
    last = arm["iterations"][-1]
    margins = [turn.get("training", {}).get("holdout_margin_nats") for turn in arm["iterations"]]
    falls = [one["dev"]["score"] - one["test"]["score"] for one in arm["tested"] if one["test"]]
    return {
        "valid": last["valid"] / last["sampled"],
        "updates": len(reached["scores"]),
        "mean": last["mean"],
        "above_best_baseline": reached["above_best_baseline"],
        "linear": reached["linear"],
        "margin": next((found[0] for found in margins[::-1] if found), None),
        "dev_to_test": fmean(falls) if falls else None,
    }


def over_zoos(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By arm, the mean over zoos of each figure; a zoo without a figure is left out of its mean."""
    if not runs:
        return {}
    return {
        arm: {key: mean_of([run[arm][key] for run in runs]) for key in figures}
        for arm, figures in runs[0].items()
    }


def mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def analyse(outcomes: Outcomes) -> dict[str, Any]:
    """All that is said of the runs: the stated comparisons, the noise floor, and every outcome."""
    stated = {name: compared(outcomes, MAIN, name) for name in STATED}
    shown = {name: row for name, row in stated.items() if row["p"] is not None}
    adjusted = holm([row["p"] for row in shown.values()])
    return {
        "outcomes": {zoo: dict(arms) for zoo, arms in outcomes.items()},
        "stated": {
            name: {**row, "p_holm": dict(zip(shown, adjusted, strict=True)).get(name)}
            for name, row in stated.items()
        },
        "noise": compared(outcomes, *NOISE),
    }


def compared(outcomes: Outcomes, one: str, other: str) -> dict[str, Any]:
    """One arm minus another, over the zoos where both have an outcome; the others are named."""
    pairs = {zoo: (arms.get(one), arms.get(other)) for zoo, arms in outcomes.items()}
    found = {zoo: x - y for zoo, (x, y) in pairs.items() if x is not None and y is not None}
    left_out = [zoo for zoo in pairs if zoo not in found]
    values = list(found.values())
    low, high = interval(values)
    return {
        "zoos": len(values),
        "left_out": left_out,
        "differences": found,
        "difference": fmean(values) if values else None,
        "low": low,
        "high": high,
        "p": sign_flip(values) if values else None,
    }


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the exact sign-flip test of these differences."""
    seen, size = abs(sum(differences)), sum(map(abs, differences))
    # Sums of the same numbers in another order may differ in their last bits.
    bar, ways = seen - 1e-9 * size, itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in ways]
    return sum(total >= bar for total in sums) / len(sums)


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean over zoos, by Student's t; None for fewer than two zoos."""
    if len(values) < 2:
        return None, None
    width = t_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))
    return fmean(values) - width, fmean(values) + width


def in_words(found: Mapping[str, Any]) -> str:
    """The stated comparisons and the noise floor, a line each."""
    rows = [(f"{MAIN} - {name}", row) for name, row in found["stated"].items()]
    rows.append((" - ".join(NOISE), found["noise"]))
    return "\n".join(line(name, row) for name, row in rows)


def line(name: str, row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return f"{name}: no zoo has both"
    p = "" if row.get("p_holm") is None else f", {row['p_holm']:.4f} after Holm"
    span = "" if row["low"] is None else f" [{row['low']:+.4f}, {row['high']:+.4f}]"
    without = f"; without {', '.join(map(str, row['left_out']))}" if row["left_out"] else ""
    return (
        f"{name}: {row['difference']:+.4f}{span}, p {row['p']:.4f}{p}, {row['zoos']} zoos{without}"
    )
