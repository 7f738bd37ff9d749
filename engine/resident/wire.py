"""Sends messages over a socket.

A message is a JSON header in one line, then as many payload bytes as the header states.
"""

from __future__ import annotations

import json
import socket

from .messages import Json

PAYLOAD = "payload_bytes"


class Wire:
    """One end of the socket.

    A payload is bytes that were made while the other end was busy, and is not parsed here.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.socket = channel
        # Each way has its own stream: a single one would forget what it has read when it is
        # written to.
        self._sink, self._source = channel.makefile("wb"), channel.makefile("rb")

    def send(self, header: Json, payload: bytes = b"") -> None:
        """Send a message. Raises OSError or ValueError where the other end is gone."""
        line = json.dumps({**header, PAYLOAD: len(payload)})
        self._sink.write(line.encode() + b"\n")
        self._sink.write(payload)
        self._sink.flush()

    def receive(self) -> tuple[Json, bytes] | None:
        """Return the next message, or None where the other end is gone. Raises TimeoutError."""
        line = self._source.readline()
        if not line.endswith(b"\n"):
            return None
        header = json.loads(line)
        size = header.pop(PAYLOAD)
        payload = self._source.read(size) if size else b""
        return (header, payload) if len(payload) == size else None
