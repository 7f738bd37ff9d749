"""Budgets of a trace, and how its sandbox is opened.

Imports no torch. So a command can open the sandbox first, and the zygote imports torch on another
core while the command does.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..sandbox.box import Sandbox

HANDLER = "selfdev_engine.engine.trace.inside.serve"


@dataclass(frozen=True)
class TraceSettings:
    """Budgets of one trace. docs/sandbox.md lists all of its limits."""

    timeout_s: float = 10.0
    memory_bytes: int = 768 << 20
    eager_tier: bool = True
    replay_limit_s: float = 120.0  # for all updates of one program that torch computes
    slots: int = 2  # traces in flight
    unsafe: bool = False  # run even if required sandbox layers are missing


def open_sandbox(settings: TraceSettings) -> Sandbox:
    """Opens the sandbox and returns at once. The first trace waits until it is ready."""
    return Sandbox(
        HANDLER,
        timeout_s=settings.timeout_s,
        memory_bytes=settings.memory_bytes,
        unsafe=settings.unsafe,
    )
