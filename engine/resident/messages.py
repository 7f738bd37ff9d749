"""What driver and worker say to each other, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EngineSettings:
    """Of all models that a worker holds. `memory_bytes`: of the key-value cache of each, at most.

    A worker that says nothing for `stall_s` hangs and is ended; a plan that takes longer than
    `apply_limit_s` is the rejection `timeout`.
    """

    engine: str = "vllm"  # or "transformers", the slow definition
    memory_bytes: int | None = None
    max_num_seqs: int = 128
    seed: int = 0
    stall_s: float = 300.0
    apply_limit_s: float = 60.0


@dataclass(frozen=True)
class Times:
    """Seconds in calls, and in swaps (weights, cache reset and fingerprint) among them."""

    busy_s: float
    swap_s: float

    def __add__(self, other: Times) -> Times:
        return Times(self.busy_s + other.busy_s, self.swap_s + other.swap_s)

    def __sub__(self, other: Times) -> Times:
        return Times(self.busy_s - other.busy_s, self.swap_s - other.swap_s)


@dataclass(frozen=True)
class Sampling:
    """How to answer; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completion:
    """The answer to one prompt."""

    text: str
    finish_reason: str  # "stop" or "length"
    num_tokens: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Progress = Callable[[int], None]
Finished = list[tuple[int, Completion]]  # by the prompt's number
Feed = Callable[[Finished], list[str] | None]  # what to ask besides; None: enough, drop the rest
