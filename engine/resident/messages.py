"""What driver and worker say to each other, as plain data. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Json = dict[str, Any]  # an object of a message; its fields are checked by whoever reads them


@dataclass(frozen=True)
class EngineSettings:
    """Settings of a worker, for all models that it holds.

    `memory_bytes` is the most that the key-value cache of each may take; `max_model_len` bounds the
    tokens of prompt and answer together. A worker that says nothing for `stall_s` hangs and is ended;
    a plan that takes longer than `apply_limit_s` is the rejection `timeout`.
    """

    engine: str = "vllm"  # or "transformers", the slow definition
    memory_bytes: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 128
    seed: int = 0
    stall_s: float = 300.0
    apply_limit_s: float = 60.0

    def to_json(self) -> Json:
        return asdict(self)


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
    """How to answer; temperature 0 is greedy. An answer ends before the first of `stop`."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def to_json(self) -> Json:
        return asdict(self)

    @staticmethod
    def from_json(data: Json) -> Sampling:
        return Sampling(**{**data, "stop": tuple(data["stop"])})


@dataclass(frozen=True)
class Completion:
    """The answer to one prompt."""

    text: str
    finish_reason: str  # "stop" or "length"
    num_tokens: int

    def to_json(self) -> Json:
        return asdict(self)


Progress = Callable[[int], None]  # is told how many prompts are answered
Finished = list[tuple[int, Completion]]  # by the prompt's number
Feed = Callable[[Finished], list[str] | None]  # gives what to ask besides; None drops the rest
