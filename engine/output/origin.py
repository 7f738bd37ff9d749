"""Says where an exported candidate comes from, and what its weight files are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
    """The run that a candidate comes from. `run` is the name of its folder."""

    run: str
    candidate: str
    scores: Sequence[CardScore] = ()


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each weight file of a folder, by name."""
    files = sorted(folder.glob("*.safetensors"))
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip((file.name for file in files), pool.map(sha256_of, files), strict=True))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
