"""Settings of a screening."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ScreenSettings:
    """What decides the scores; a run folder belongs to one of these."""

    base: str
    experts: dict[str, str]
    task: str
    include: str = "mlp"
    backend: str = "auto"
    params: dict[str, Any] = field(default_factory=dict)
    race: str = "full"
    top: int | None = None  # how many the race is for
    engine: str = "auto"
    seed: int = 0
    data: str | None = None
    shots: str = "auto"  # of gsm8k and math: dev as fixed, test as harness
    memory_bytes: int | None = None
    log_samples: bool = False
    unsafe_sandbox: bool = False
    trace_timeout_s: float = 10.0
    eager_tier: bool = True
