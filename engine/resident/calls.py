"""Numbered calls to a worker's process, answered in the order in which they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Protocol

from ..errors import WorkerLost
from .messages import Completion, Feed, Json, Progress, Times

OPEN_S = 1800.0  # for an engine's imports and a model's weights


class Line(Protocol):
    """The way to a worker, wherever it is: to a process here, or on another machine.

    Messages are JSON and bytes, one answer for each; `files` are read while it is answered.
    """

    @property
    def node(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def is_alive(self) -> bool: ...
    def send(self, header: Json, payload: bytes = b"", files: Sequence[str] = ()) -> None: ...
    def receive(self, timeout_s: float) -> Json: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...


def limit_of(method: str, stall_s: float) -> float:
    """Return how many seconds a worker may be silent during a call."""
    return OPEN_S if method.startswith("open") else stall_s


class Calls:
    """Makes calls; threads may overlap theirs: the next request is sent before the last is answered,
    so that the worker waits for nobody between them."""

    def __init__(self, line: Line, stall_s: float) -> None:
        self._line, self._stall_s = line, stall_s
        self._asking, self._answering = Lock(), Lock()
        self.num_made = 0
        # What the worker has spent, as of its last answer.
        self.times = Times(0.0, 0.0)

    def make(
        self,
        method: str,
        params: Json,
        payload: bytes = b"",
        progress: Progress | None = None,
        feed: Feed | None = None,
        files: Sequence[str] = (),
    ) -> Json:
        """The worker's reply. WorkerLost where it ends or is silent, EngineGone where it had ended."""
        self._asking.acquire()
        try:
            self.num_made += 1
            call = self.num_made
            self._line.send({"id": call, "method": method, "params": params}, payload, files)
            self._answering.acquire()
        finally:
            self._asking.release()
        try:
            reply = self._reply(limit_of(method, self._stall_s), progress, feed)
            if reply["id"] != call:
                raise WorkerLost(f"the worker answered call {reply['id']}, not {call}")
            self.times += Times(**reply["times"])
            return reply
        finally:
            self._answering.release()

    def _reply(self, timeout_s: float, progress: Progress | None, feed: Feed | None) -> Json:
        while True:
            reply = self._line.receive(timeout_s)
            if "finished" in reply:
                assert feed is not None
                told = [(number, Completion(**one)) for number, one in reply["finished"]]
                self._line.send({"more": feed(told)})
            elif "progress" not in reply:
                return reply
            elif progress:
                progress(reply["progress"])
