"""A candidate as the commands print it with --json. Nothing here loads torch."""

from __future__ import annotations

from .store import Store


def to_json(store: Store, name: str, split: str = "dev") -> dict[str, object]:
    """Return the candidate as an object of `screen --json`, with its score of a split."""
    candidate = store.candidate(name)
    assert candidate is not None, name
    score = store.score(name, split) if candidate.has_score else None
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
