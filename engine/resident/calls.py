"""Numbered calls to a worker's process, answered in the order in which they are sent."""

from __future__ import annotations

from threading import Lock

from ..errors import WorkerLost
from .messages import Completion, Feed, Json, Progress, Times
from .process import WorkerProcess

OPEN_S = 1800.0  # for an engine's imports and a model's weights


class Calls:
    """Makes calls; threads may overlap theirs: the next request is sent before the last is answered,
    so that the worker waits for nobody between them."""

    def __init__(self, process: WorkerProcess, stall_s: float) -> None:
        self._process, self._stall_s = process, stall_s
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
    ) -> Json:
        """The worker's reply. WorkerLost where it ends or is silent, EngineGone where it had ended."""
        self._asking.acquire()
        try:
            self.num_made += 1
            call = self.num_made
            self._process.send({"id": call, "method": method, "params": params}, payload)
            self._answering.acquire()
        finally:
            self._asking.release()
        try:
            timeout_s = OPEN_S if method.startswith("open") else self._stall_s
            reply = self._reply(timeout_s, progress, feed)
            if reply["id"] != call:
                raise WorkerLost(f"the worker answered call {reply['id']}, not {call}")
            self.times += Times(**reply["times"])
            return reply
        finally:
            self._answering.release()

    def _reply(self, timeout_s: float, progress: Progress | None, feed: Feed | None) -> Json:
        while True:
            reply = self._process.receive(timeout_s)
            if "finished" in reply:
                assert feed is not None
                told = [(number, Completion(**one)) for number, one in reply["finished"]]
                self._process.send({"more": feed(told)})
            elif "progress" not in reply:
                return reply
            elif progress:
                progress(reply["progress"])
