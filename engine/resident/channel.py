"""The worker's end of the wire to the driver."""

from __future__ import annotations

import json
import socket
import time
from queue import SimpleQueue
from threading import Thread
from typing import Any, TextIO

from .messages import Finished


class Channel:
    """JSON lines over a socket; progress is told at most ten times a second.

    A thread reads, so that whoever sends the next request does not wait until this one is answered.
    """

    def __init__(self, descriptor: int) -> None:
        channel = socket.socket(fileno=descriptor)
        self._sink = channel.makefile("w", encoding="utf-8")
        self._lines: SimpleQueue[str] = SimpleQueue()
        source = channel.makefile("r", encoding="utf-8")
        Thread(target=self._read, args=(source,), daemon=True).start()
        self._told_at = 0.0

    def _read(self, source: TextIO) -> None:
        while line := source.readline():
            self._lines.put(line)
        self._lines.put("")

    def receive(self) -> dict[str, Any] | None:
        line = self._lines.get()
        return json.loads(line) if line else None

    def send(self, message: dict[str, Any]) -> None:
        self._sink.write(json.dumps(message) + "\n")
        self._sink.flush()

    def feed(self, finished: Finished) -> list[str] | None:
        self.send({"finished": [[number, answer.to_json()] for number, answer in finished]})
        reply = self.receive()
        return reply["more"] if reply else None

    def progress(self, done: int) -> None:
        if time.monotonic() - self._told_at > 0.1:
            self._told_at = time.monotonic()
            self.send({"progress": done})
