"""One request to a child of the sandbox, and a child that works on one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import Rejection
from .protocol import Frames

Reply = dict[str, Any]


def nothing_more(reply: Reply) -> Job | None:
    return None


@dataclass(eq=False)
class Job:
    """One request to a child, and in the end its result: the reply's object or a Rejection.

    `follow`: told the reply, says what the same child is to do next, if anything.
    """

    request: dict[str, Any]
    answer: Callable[[dict[str, Any]], dict[str, Any]]  # may raise Rejected
    tag: Any = None
    memory_fd: int | None = None
    follow: Callable[[Reply], Job | None] = nothing_more
    result: dict[str, Any] | Rejection | None = None
    seconds: float = 0.0
    cpu_s: float = 0.0
    num_asks: int = 0
    answers_s: float = 0.0


@dataclass(eq=False)
class Child:
    """A process and its job in flight. A child that has used half of a job's time takes no other, so
    that its limit on CPU time, which is for one, holds for all."""

    job: Job
    channel: socket.socket
    pidfd: int
    deadline: float
    started: float  # the job
    may_follow_until: float
    frames: Frames = field(default_factory=Frames)
    stage: str = "run"  # run -> traceback -> dead, or run -> dead once the reply is in
    unsent: bytearray = field(default_factory=bytearray)
    tail: bytes = b""
