"""What the final test says: paired comparisons of the best program with known models, and words.

The best program and the known models are chosen by dev. Test decides nothing but the comparisons, which
are stated here beforehand: base, best expert, best baseline. Their p are Holm's, over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from ..engine.records.compare import Comparison, compare
from ..engine.records.score import Z_95
from ..engine.records.store import Store

SPLIT = "test"
ALPHA = 0.05


def comparisons(store: Store, best: str, known: Mapping[str, str]) -> list[dict[str, Any]]:
    """Compare the best program on test with these known models, given as words -> id."""
    mine = store.answers(best, SPLIT)
    found = list[tuple[str, str, Comparison]]()
    for words, name in known.items():
        theirs = store.answers(name, SPLIT)
        if mine.keys() & theirs.keys():
            found.append((words, name, compare(mine, theirs)))
    adjusted = holm([c.p for _, _, c in found])
    return [
        {
            "a": best,
            "b": name,
            "b_is": words,
            "split": SPLIT,
            "n": c.n,
            "difference": c.difference,
            **dict(zip(("low", "high"), interval(c), strict=True)),
            "p": c.p,
            "p_holm": p,
        }
        for (words, name, c), p in zip(found, adjusted, strict=True)
    ]


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the order given."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def interval(c: Comparison) -> tuple[float, float]:
    """Return the 95 % interval of a paired difference, by Agresti and Min: half a question to each cell."""
    n, one, other = c.n + 2, c.only_first + 0.5, c.only_second + 0.5
    middle = (one - other) / n
    width = Z_95 * sqrt(one + other - (one - other) ** 2 / n) / n
    return max(-1.0, middle - width), min(1.0, middle + width)


def shrinkage(tested: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How much lower the tested programs score on test than on dev, where they were picked."""
    both = [(row["dev"]["score"], row["test"]["score"]) for row in tested if row.get("test")]
    if not both:
        return None
    dev, test = (sum(scores) / len(both) for scores in zip(*both, strict=True))
    return {"programs": len(both), "dev": dev, "test": test, "difference": test - dev}


def verdict(best: Mapping[str, Any] | None, compared: Sequence[Mapping[str, Any]]) -> str:
    """Say in words how the best program did against the known models, also where it lost."""
    if best is None:
        return "No program ran, so the search found nothing."
    if not compared:
        dev = f"{best['dev']['score']:.3f}" if best.get("dev") else "no score"
        return f"Not tested. The best program by dev is {best['id']} ({dev} on dev, where it was picked)."
    parts = [
        f"{outcome(row)} {row['b_is']} ({row['difference']:+.3f} [{row['low']:.3f}, {row['high']:.3f}], "
        f"p {p_text(row['p_holm'])})"
        for row in compared
    ]
    n = compared[0]["n"]
    return (
        f"On {n} test questions the best program by dev, {best['id']}, is {'; '.join(parts)}. "
        f"{conclusion(compared)}"
    )


def of_several(compared: Sequence[object]) -> str:
    """Say why an interval may leave out 0 beside a p that shows nothing; empty for a single comparison."""
    if len(compared) < 2:
        return ""
    return (
        "Each interval is of its comparison alone, and p is corrected for all of them (Holm), so p may show "
        "no difference where the interval leaves out 0."
    )


def outcome(row: Mapping[str, Any]) -> str:
    if row["p_holm"] >= ALPHA:
        return "not shown to differ from"
    return "better than" if row["difference"] > 0 else "worse than"


def conclusion(compared: Sequence[Mapping[str, Any]]) -> str:
    """The last sentence: did the search win, lose, or is neither shown?"""
    lost = [row["b_is"] for row in compared if outcome(row) == "worse than"]
    won = [row["b_is"] for row in compared if outcome(row) == "better than"]
    if lost:
        return f"The search lost to {' and '.join(lost)}."
    if len(won) == len(compared):
        return "The search beat all of them."
    left = [row["b_is"] for row in compared if row["b_is"] not in won]
    return f"The search is not shown to have beaten {' and '.join(left)}."


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
