"""Messages between driver and child: bounded frames of JSON, never pickles.

A frame is a 4-byte little-endian length and that many bytes of JSON. The child sends any number of
{"ask": ...} and one {"done": ...}. The driver answers each value question with {"answer": ...}.
No torch is imported here, because the zygote needs this before it enters its namespaces.
"""

from __future__ import annotations

import json
import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

from ..errors import REJECTION_KINDS, Rejection, printable

Json = dict[str, object]

FRAME_BYTES = 8 << 20  # one frame; a graph with its bounded constants fits
TOTAL_BYTES = 32 << 20  # all frames of one job
OUTPUT_CHARACTERS = 4096  # kept of what a program printed
MAX_ASKS = 256  # value questions in one job
MAX_LINE = 1_000_000
HEADER = struct.Struct("<I")


@dataclass(frozen=True)
class Map:
    """A part of a file that a child maps before it is locked. `offset` is a multiple of a page."""

    file: int  # number of a descriptor that came with the request to fork
    offset: int
    size_bytes: int
    # The child writes and the driver reads; otherwise the child only reads.
    shared: bool = False


@dataclass(frozen=True)
class Setup:
    """The driver's first message to a child, which reads it before it is locked.

    `memory_bytes` is what the child may take beside the zygote's memory and its maps; `cpu_s` is its
    time on a processor, in seconds.
    """

    memory_bytes: int
    cpu_s: int
    maps: Sequence[Map] = ()

    @staticmethod
    def of(message: Any) -> Setup:
        maps = tuple(Map(**one) for one in message["maps"])
        return Setup(message["memory_bytes"], message["cpu_s"], maps)

    def to_json(self) -> Json:
        return asdict(self)


class BadFrame(ValueError):
    """A child sent something that is no frame or no message."""


def encode(message: Json) -> bytes:
    data = json.dumps(message).encode()
    return HEADER.pack(len(data)) + data


def decode(body: bytes) -> Json:
    """The message in a frame's body. Raises BadFrame unless it is a JSON object without NaN."""

    def refuse(word: str) -> None:
        raise BadFrame(f"{word} is not JSON")

    try:
        message = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"not JSON: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise BadFrame("not a JSON object")
    return message


class Frames:
    """Cuts a stream of bytes into bodies. Raises BadFrame if a frame or the total is too long."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._total_bytes = 0

    def renew(self) -> None:
        """Starts the total of another job."""
        self._total_bytes = len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        self._total_bytes += len(data)
        if self._total_bytes > TOTAL_BYTES:
            raise BadFrame("reply flood")
        bodies = []
        while len(self._buffer) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer)
            if size > FRAME_BYTES:
                raise BadFrame(f"a frame of {size} bytes")
            if len(self._buffer) < HEADER.size + size:
                break
            bodies.append(bytes(self._buffer[HEADER.size : HEADER.size + size]))
            del self._buffer[: HEADER.size + size]
        return bodies


def send(descriptor: int, message: Json) -> None:
    """The child's side: sends all of a message."""
    data = memoryview(encode(message))
    while data:
        data = data[os.write(descriptor, data) :]


def receive(descriptor: int) -> Json:
    """The child's side: waits for one message."""
    (size,) = HEADER.unpack(read_exactly(descriptor, HEADER.size))
    return decode(read_exactly(descriptor, size))


def read_exactly(descriptor: int, size: int) -> bytes:
    parts, missing = [], size
    while missing:
        data = os.read(descriptor, min(missing, 1 << 20))
        if not data:
            os._exit(71)  # The driver is gone.
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def reply_rejection(reply: Json) -> Rejection | None:
    """The rejection in a child's reply, or None. A malformed reply is a `violation`."""
    if reply.get("status") == "ok":
        return None
    kind, line = reply.get("kind"), reply.get("line")
    if reply.get("status") == "internal":
        return Rejection("runtime", f"the sandbox failed: {printable(reply.get('detail'))}")
    if isinstance(kind, str) and kind in REJECTION_KINDS and (line is None or is_line(line)):
        return Rejection(kind, printable(reply.get("detail")), line)
    return Rejection("violation", "malformed reply: kind or line")


def is_line(line: object) -> TypeGuard[int]:
    return type(line) is int and 0 < line < MAX_LINE


def how_it_ended(status: int) -> Rejection:
    """The rejection for an end without a reply. `status` is as wait() gives it."""
    if not (number := status & 127):
        return Rejection("runtime", f"the process ended without a reply (exit {status >> 8})")
    if number == signal.SIGSYS:
        return Rejection(
            "violation", "a system call by another gate than this machine's own (SIGSYS)"
        )
    if number == signal.SIGXCPU:
        return Rejection("timeout", "its CPU time was used up (SIGXCPU)")
    name = signal.Signals(number).name
    return Rejection("runtime", f"the process ended without a reply ({name})")
