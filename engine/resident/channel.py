"""The worker's end of the wire to the driver."""

from __future__ import annotations

import socket
import time
from queue import SimpleQueue
from threading import Thread

from .messages import Finished, Json
from .wire import Wire

PROGRESS_EVERY_S = 0.1


class Channel:
    """Receives requests, sends replies and progress.

    A thread reads, so that whoever sends the next request does not wait until this one is answered.
    """

    def __init__(self, descriptor: int) -> None:
        self._wire = Wire(socket.socket(fileno=descriptor))
        self._messages: SimpleQueue[tuple[Json, bytes] | None] = SimpleQueue()
        self._told_at = 0.0
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while message := self._wire.receive():
            self._messages.put(message)
        self._messages.put(None)

    def receive(self) -> tuple[Json, bytes] | None:
        """The next request; None where the driver is gone."""
        return self._messages.get()

    def send(self, message: Json) -> None:
        self._wire.send(message)

    def feed(self, finished: Finished) -> list[str] | None:
        """Tell the driver what finished; it says what else to ask."""
        self.send({"finished": [[number, answer.to_json()] for number, answer in finished]})
        reply = self.receive()
        return reply[0]["more"] if reply else None

    def progress(self, done: int) -> None:
        """Tell the driver how many prompts are answered, at most ten times a second."""
        if time.monotonic() - self._told_at > PROGRESS_EVERY_S:
            self._told_at = time.monotonic()
            self.send({"progress": done})
