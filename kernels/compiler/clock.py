"""Ends work on a graph that somebody else wrote, where it takes too long.

    with limited("takes more than 10 s to plan", cpu_s=10.0):
        ...  # loops call `check`, which raises OutOfTime

Limits may lie in each other, and hold for the thread that set them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Limit:
    """When work must end: by the thread's CPU clock, and by the wall clock."""

    words: str
    cpu_until: float
    wall_until: float


class OutOfTime(Exception):
    """Work took longer than a limit allows. `limit` is the outermost one that is over."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.words)
        self.limit = limit


LIMITS: ContextVar[tuple[Limit, ...]] = ContextVar("LIMITS", default=())


@contextmanager
def limited(words: str, cpu_s: float = math.inf, wall_s: float = math.inf) -> Iterator[Limit]:
    """Let `check` raise OutOfTime with these words once either time is over."""
    limit = Limit(words, time.thread_time() + cpu_s, time.monotonic() + wall_s)
    token = LIMITS.set((*LIMITS.get(), limit))
    try:
        yield limit
    finally:
        LIMITS.reset(token)


def wall_until() -> float:
    """Return when the first limit is over by the wall clock, as `time.monotonic` counts; else infinity."""
    return min((limit.wall_until for limit in LIMITS.get()), default=math.inf)


def check() -> None:
    """Raise OutOfTime where a limit is over. It costs half a microsecond."""
    limits = LIMITS.get()
    if not limits:
        return
    cpu, wall = time.thread_time(), time.monotonic()
    for limit in limits:
        if cpu > limit.cpu_until or wall > limit.wall_until:
            raise OutOfTime(limit)
