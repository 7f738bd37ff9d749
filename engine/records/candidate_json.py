"""A candidate as the commands print it with --json. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .candidate import BASE, Candidate, Status
from .compare import answered_by, compare
from .store import Store


def to_json(store: Store, name: str, split: str = "dev") -> dict[str, Any]:
    """Return the candidate as an object of `screen --json`, with its score of a split."""
    candidate = store.candidate(name)
    assert candidate is not None, name
    asked = answered_by(store, candidate)
    score = store.score(asked, split) if asked else None
    numbers = ("correct", "n", "score", "low", "high")
    return {
        "id": name,
        "status": candidate.status,
        "kind": candidate.kind,
        "detail": candidate.detail,
        "line": candidate.line,
        "duplicate_of": candidate.duplicate_of,
        "tier": candidate.tier,
        **{key: getattr(score, key) if score else None for key in numbers},
        "linear": candidate.linear,
        "made_with": store.made_with(name, split),
        "fingerprint": candidate.fingerprint,
        "weights_fingerprint": candidate.weights_fingerprint,
        "seconds": candidate.seconds,
    }


def ranked_json(store: Store, name: str) -> dict[str, Any]:
    """Return a candidate as `screen --json` has it, with where it came from and how it compares."""
    found = store.candidate(name)
    assert found is not None, name
    origin = {"arm": found.arm, "iteration": found.iteration}
    return {**to_json(store, name), **origin, "against_base": against_base(store, found)}


def against_base(store: Store, candidate: Candidate) -> dict[str, Any] | None:
    """Return the paired comparison with the base on dev; None without answers, and for the base itself."""
    asked = answered_by(store, candidate)
    if not asked:
        return None
    # Also where nothing is compared: answers that are lost show when they are read.
    mine, base = store.answers(asked), store.answers(BASE)
    has_both = candidate.id != BASE and mine.keys() & base.keys()
    return compare(mine, base).to_json() if has_both else None


def best_json(store: Store, names: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Return the best `count` of these candidates by dev that were scored for themselves, best first.

    Of equals the earlier one is first.
    """
    found = [(store.candidate(name), store.score(name)) for name in names]
    scored = [(c.id, s.score) for c, s in found if c and s and c.status is Status.SCORED]
    ranked = sorted(scored, key=lambda pair: -pair[1])
    return [ranked_json(store, name) for name, _ in ranked[:count]]
