"""The settings of a screening."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..given import check_fields, given_place


@dataclass(frozen=True)
class ScreenSettings:
    """All settings of a screening. A run folder belongs to one set of them, but for `FREE` in folder.py.

    Models are folders or hub ids. `params` are keyword arguments of every program. `memory_bytes` bounds
    the host's memory, `gpu_memory_bytes` that of each card; None: what is free. `shots` is for gsm8k and
    math: "auto" asks dev with fixed examples and test as lm-evaluation-harness does.
    """

    base: str
    experts: dict[str, str]
    task: str
    include: str = "mlp"
    backend: str = "auto"
    params: dict[str, Any] = field(default_factory=dict)
    race: str = "full"
    top: int | None = None  # K: how many of the best a race is for
    workers: int = 1  # engines at a time, each a process of its own
    address: str | None = None  # the head of the cluster that has the workers; None: this machine
    engine: str = "auto"
    # Tokens of prompt and answer together; None means 4096, or fewer where the model reads fewer.
    max_model_len: int | None = None
    seed: int = 0
    data: str | None = None
    shots: str = "auto"
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    log_samples: bool = False
    unsafe_sandbox: bool = False
    accept_engine: bool = False  # go on with a run that another version of the engine began
    name: str | None = None  # what the user calls the run
    note: str | None = None
    trace_timeout_s: float = 10.0
    replay_limit_s: float = 120.0  # for all updates of one candidate that torch computes
    eager_tier: bool = True

    def __post_init__(self) -> None:
        check_fields(self, data=given_place)
