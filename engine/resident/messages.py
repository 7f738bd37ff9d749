"""Messages between driver and worker, as plain data. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

# An object in a message. Whoever reads it checks its fields.
Json = dict[str, Any]
# Key of a request: where files and folders lie on the worker's machine, by the names in the request.
PLACES = "places"


@dataclass(frozen=True)
class EngineSettings:
    """Settings of a worker, for all models that it holds.

    `cache_bytes` bounds the key-value cache of each model, and `second_cache_bytes`, where it is given, that
    of a model which is opened beside another; `max_model_len` bounds the tokens of prompt and answer
    together. `max_num_seqs` answers are made at once, and one step reads at most `max_num_batched_tokens`:
    the last bits of an answer may depend on both. A worker that says nothing for `stall_s` counts as hung
    and is ended. A plan that takes longer than `apply_limit_s` gets the rejection `timeout`.
    """

    engine: str = "vllm"  # or "transformers", the slow definition
    cache_bytes: int | None = None
    second_cache_bytes: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 8192
    seed: int = 0
    stall_s: float = 300.0
    apply_limit_s: float = 60.0

    def to_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True)
class Times:
    """Seconds that a worker spent.

    `busy_s` counts all calls, `swap_s` the swaps among them: weights, cache reset and fingerprint.
    """

    busy_s: float
    swap_s: float

    def __add__(self, other: Times) -> Times:
        return Times(self.busy_s + other.busy_s, self.swap_s + other.swap_s)

    def __sub__(self, other: Times) -> Times:
        return Times(self.busy_s - other.busy_s, self.swap_s - other.swap_s)


@dataclass(frozen=True)
class Sampling:
    """How prompts are answered. Temperature 0 is greedy.

    An answer ends before the first of the texts in `stop`.
    """

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
class Folding:
    """How a model's weights come from smaller things: of `base`, a place that every machine knows, with an adapter.

    `adapter` is the folder with the `files`, which are the driver's machine's alone.
    """

    base: str
    adapter: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Completion:
    """The answer to one prompt; `num_tokens` is its length.

    `finish_reason` is "stop" where it ended before a text of `Sampling.stop`, "end" at the model's own
    end token, "length" where it was cut.
    """

    text: str
    finish_reason: str
    num_tokens: int

    def to_json(self) -> Json:
        return asdict(self)


# Called with the number of prompts that are answered.
Progress = Callable[[int], None]
# Answers that have just finished, each with its prompt's number.
Finished = list[tuple[int, Completion]]
# Called with what has finished; returns further prompts, or None to drop what is not answered.
Feed = Callable[[Finished], list[str] | None]
