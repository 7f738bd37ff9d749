"""The zygote as the driver sees it: a process, and a socket over which it is asked to fork."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ..errors import UsageError
from .guard import ENVIRONMENT

START_S = 120.0  # limit of the start, most of which is the import of torch
STOP_S = 5.0  # limit of the end, once the socket is closed


class ZygoteLost(Exception):
    """The zygote has died."""


@dataclass(frozen=True)
class ChildEnd:
    """The zygote's report about a child that has ended."""

    pid: int
    status: int  # as wait() gives it
    cpu_s: float


class ZygoteProcess:
    """Starts a zygote and asks it to fork. It is ready some seconds after the start.

    Threads may share it: ends of children are kept until who started the child takes them.
    """

    def __init__(self, handler: str, layers: Sequence[str]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ready = False
        self._ends = dict[int, ChildEnd]()  # by pid
        self._speaking = Lock()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        words = [str(theirs.fileno()), handler, ",".join(layers) or "none"]
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-m", f"{__package__}.zygote", *words],
            env=ENVIRONMENT,
            cwd="/",
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )
        theirs.close()

    def wait_ready(self) -> None:
        """Waits until it can fork. Raises UsageError if it cannot start: no program is to blame."""
        with self._speaking:
            if not self._ready:
                self._wait_ready()

    def _wait_ready(self) -> None:
        self.control.settimeout(START_S)
        try:
            assert "ready" in self._message()[0]
        except ZygoteLost as lost:
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace").strip().splitlines() or [str(lost)]
            raise UsageError(f"the sandbox does not start on this host: {said[-1]}") from None
        self.control.settimeout(None)
        self._ready = True

    def fork(self, descriptors: Sequence[int]) -> tuple[int, int]:
        """Forks a child with these descriptors. Returns its pid and its pidfd. Raises ZygoteLost."""
        with self._speaking:
            try:
                socket.send_fds(self.control, [b"f"], list(descriptors))
            except OSError as error:
                raise ZygoteLost(str(error)) from None
            while "forked" not in (reply := self._message())[0]:
                self._keep(reply[0])
        message, (pidfd,) = reply
        return message["forked"], pidfd

    def ends(self, pids: Collection[int]) -> list[ChildEnd]:
        """Returns those of these children that have ended, each once. It does not wait."""
        with self._speaking:
            while select.select([self.control], [], [], 0)[0]:
                self._keep(self._message()[0])
            return [self._ends.pop(pid) for pid in list(self._ends) if pid in pids]

    def end_of(self, pid: int) -> ChildEnd:
        """Waits for the end of a child that was killed or hung up. Raises ZygoteLost."""
        with self._speaking:
            while pid not in self._ends:
                self._keep(self._message()[0])
            return self._ends.pop(pid)

    def _keep(self, message: dict[str, Any]) -> None:
        end = ChildEnd(message["exited"], message["status"], message["cpu_s"])
        self._ends[end.pid] = end

    def _message(self) -> tuple[dict[str, Any], list[int]]:
        """The zygote's next message, and descriptors that came with it."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, 4096, 1)
        except OSError as error:
            raise ZygoteLost(str(error)) from None
        if not data:
            raise ZygoteLost("the zygote died")
        return json.loads(data), descriptors

    @property
    def is_closed(self) -> bool:
        """Whether it was ended, or found dead and replaced."""
        return self.control.fileno() < 0

    def close(self) -> None:
        """Ends the zygote and all children. One that is still importing is not waited for."""
        self.control.close()
        if not self._ready:
            self.process.kill()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
