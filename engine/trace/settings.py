"""Budgets of a trace, and its sandbox. Without torch: a command that starts the sandbox first has it
import torch beside its own import, on another core."""

from __future__ import annotations

from dataclasses import dataclass

from ..sandbox.box import Sandbox

HANDLER = "selfdev_engine.engine.trace.inside.serve"


@dataclass(frozen=True)
class TraceSettings:
    """Budgets of one trace; DESIGN 4."""

    timeout_s: float = 10.0
    memory_bytes: int = 1 << 30
    eager_tier: bool = True
    slots: int = 2  # traces in flight
    unsafe: bool = False  # go on below the required sandbox layers


def open_sandbox(settings: TraceSettings) -> Sandbox:
    """Returns at once; whoever traces first waits until it is ready."""
    return Sandbox(
        HANDLER,
        timeout_s=settings.timeout_s,
        memory_bytes=settings.memory_bytes,
        unsafe=settings.unsafe,
    )
