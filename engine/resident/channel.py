"""The worker's end of the wire: requests come in, replies and progress go out."""

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

    A thread reads at any time, so the driver can send a request before the last one is answered.
    """

    def __init__(self, descriptor: int) -> None:
        self._wire = Wire(socket.socket(fileno=descriptor))
        self._messages: SimpleQueue[tuple[Json, bytes] | None] = SimpleQueue()
        self._told_at = 0.0
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Put requests in the queue, then None once the driver is gone."""
        while message := self._wire.receive():
            self._messages.put(message)
        self._messages.put(None)

    def receive(self) -> tuple[Json, bytes] | None:
        """Wait for the next request: header and payload. None where the driver is gone."""
        return self._messages.get()

    def send(self, message: Json) -> None:
        """Send one message to the driver."""
        self._wire.send(message)

    def feed(self, finished: Finished) -> list[str] | None:
        """Tell the driver which prompts are finished, and return those that it adds.

        None drops what is not yet answered: the driver asks for that, or is gone.
        """
        self.send({"finished": [[number, answer.to_json()] for number, answer in finished]})
        reply = self.receive()
        return reply[0]["more"] if reply else None

    def progress(self, done: int) -> None:
        """Tell the driver how many prompts are answered, at most ten times a second."""
        if time.monotonic() - self._told_at > PROGRESS_EVERY_S:
            self._told_at = time.monotonic()
            self.send({"progress": done})
