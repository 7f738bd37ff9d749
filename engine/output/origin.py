"""Says where an exported candidate comes from, and what its weight files are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..weights.fingerprint import is_comparable

# Files are read side by side, on as many threads.
THREADS = 4


@dataclass(frozen=True)
class CardScore:
    """A score of the candidate, as the card tells it: its interval is one of 95 %."""

    task: str
    split: str
    score: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Origin:
    """The run that a candidate comes from. `run` is the name of its folder.

    `plan` and `weights` are the fingerprints of what was scored, where the run keeps them.
    """

    run: str
    candidate: str
    scores: Sequence[CardScore] = ()
    plan: str | None = None
    weights: str | None = None

    def difference(self, plan: str, weights: str) -> str:
        """Say that merged weights are not those that were scored; "" where they are, or none are known."""
        if self.weights in (None, weights) or not is_comparable(self.weights or ""):
            return ""
        both = f"the weights ({weights}) are not those that were scored ({self.weights})"
        if plan == self.plan:
            return f"{both}, though the plan is: another processor or backend may round otherwise"
        return f"{both}, so the card tells no score: the program in run.db merges to something else here"

    def told(self, plan: str, weights: str) -> Origin:
        """Return what a card may tell of merged weights: no score where another plan made others."""
        differs = self.difference(plan, weights) and plan != self.plan
        return replace(self, scores=()) if differs else self


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each weight file of a folder, by name."""
    files = sorted(folder.glob("*.safetensors"))
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip((file.name for file in files), pool.map(sha256_of, files), strict=True))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
