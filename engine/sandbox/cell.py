"""A locked child that serves one candidate's requests, one after another, on mapped files.

Nothing of it is used for another candidate: what a hostile candidate does to it, it does to itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Rejection
from .mailbox import Mailbox
from .protocol import BadFrame, Json, Map, Setup, decode, how_it_ended
from .zygote_process import ZygoteLost, ZygoteProcess


@dataclass(frozen=True)
class MappedFiles:
    """Open files, and the parts of them that a child maps. Who made it closes the files."""

    descriptors: Sequence[int]
    maps: Sequence[Map]


class Cell:
    """Calls one child; a context manager, whose end kills the child.

    The calls together may take `limit_s` seconds; then the child is killed. Threads must not share one.
    """

    def __init__(
        self, zygote: ZygoteProcess, setup: Setup, descriptors: Sequence[int], limit_s: float
    ) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._pid, self._pidfd = zygote.fork([theirs.fileno(), *descriptors])
        self._zygote, self._mail = zygote, Mailbox(ours)
        self.limit_s, self.left_s = limit_s, limit_s
        self._mail.send(setup.to_json())
        self._failed: Rejection | None = None
        self._status: int | None = None  # as wait() gives it, once the child has ended

    @property
    def is_lost(self) -> bool:
        """Whether its zygote has died and was replaced, so that no call is answered any more."""
        return self._zygote.is_closed

    def call(self, request: Json) -> Json | Rejection:
        """Returns the child's reply, or how it failed; then every later call fails so. ZygoteLost."""
        began = time.monotonic()
        if self._failed is None:
            self._mail.frames.renew()
            self._mail.send({**request, "more": True})
            reply = self._reply(began + self.left_s)
            self.left_s -= time.monotonic() - began
            if not isinstance(reply, Rejection):
                return reply
            self._failed = reply
            self.kill()
        return self._failed

    def _reply(self, deadline: float) -> Json | Rejection:
        channel = self._mail.channel.fileno()
        poll = select.poll()
        while (wait_s := deadline - time.monotonic()) > 0:
            poll.register(channel, select.POLLIN | (select.POLLOUT if self._mail.unsent else 0))
            for _, event in poll.poll(wait_s * 1000 + 1):
                if event & select.POLLOUT:
                    self._mail.flush()
                if event & ~select.POLLOUT and (reply := self._heard()) is not None:
                    return reply
        return Rejection("timeout", f"torch was still running after {self.limit_s:g} s")

    def _heard(self) -> Json | Rejection | None:
        """Reads what has come: a whole reply, the child's end, or None for a part of a reply."""
        data = self._mail.receive()
        if data is None:
            return None
        if not data:
            return how_it_ended(self._ended())
        try:
            bodies = self._mail.frames.feed(data)
            return done_of(decode(bodies[0])) if bodies else None
        except BadFrame as error:
            return Rejection("violation", f"malformed reply: {error}")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _ended(self) -> int:
        """Kills the child, if it still runs, and waits for its end; returns its status."""
        self.kill()
        if self._status is None:
            self._status = self._zygote.end_of(self._pid).status
        return self._status

    def close(self) -> None:
        """Ends the child, so that its memory is free."""
        with contextlib.suppress(ZygoteLost):
            self._ended()
        self._mail.channel.close()
        os.close(self._pidfd)

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def done_of(message: Json) -> Json:
    """The reply in a message. Raises BadFrame where there is none."""
    done = message.get("done")
    if not isinstance(done, dict):
        raise BadFrame("not a reply")
    return done
