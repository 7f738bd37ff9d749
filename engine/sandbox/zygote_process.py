"""The zygote as the driver sees it: a process, and a socket over which it is asked to fork."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from .guard import ENVIRONMENT

START_S = 120.0  # limit of the start, most of which is the import of torch
STOP_S = 5.0  # limit of the end, once the socket is closed


class ZygoteLost(RuntimeError):
    """The zygote has died."""


@dataclass(frozen=True)
class ChildEnd:
    """The zygote's report about a child that has ended."""

    pid: int
    status: int  # as wait() gives it
    cpu_s: float


class ZygoteProcess:
    """Starts a zygote and asks it to fork. It is ready some seconds after the start."""

    def __init__(self, handler: str, memory_bytes: int, cpu_s: int, layers: Sequence[str]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ready = False
        self._ends: list[ChildEnd] = []
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        words = [str(theirs.fileno()), handler, str(memory_bytes), str(cpu_s)]
        words.append(",".join(layers) or "none")
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
        if self._ready:
            return
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
        """Forks a child with these descriptors. Returns its pid and its pidfd. Raises ZygoteLost.

        Ends of other children that are reported meanwhile are kept for `ends`.
        """
        try:
            socket.send_fds(self.control, [b"f"], list(descriptors))
        except OSError as error:
            raise ZygoteLost(str(error)) from None
        while "forked" not in (reply := self._message())[0]:
            self._ends.append(child_end(reply[0]))
        message, (pidfd,) = reply
        return message["forked"], pidfd

    def ends(self) -> list[ChildEnd]:
        """Returns the ends that were reported during `fork`, each once."""
        ends, self._ends = self._ends, []
        return ends

    def next_end(self) -> ChildEnd:
        """Waits until the zygote reports the end of a child. Raises ZygoteLost."""
        return child_end(self._message()[0])

    def _message(self) -> tuple[dict[str, Any], list[int]]:
        """The zygote's next message, and descriptors that came with it."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, 4096, 1)
        except OSError as error:
            raise ZygoteLost(str(error)) from None
        if not data:
            raise ZygoteLost("the zygote died")
        return json.loads(data), descriptors

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


def child_end(message: dict[str, Any]) -> ChildEnd:
    return ChildEnd(message["exited"], message["status"], message["cpu_s"])
