"""A worker's process as the driver sees it: started, listened to, noticed when it dies.

A worker is a session of its own that ends with its driver (parent-death signal, end of the socket), so
nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import EngineGone, WorkerLost
from .messages import Json
from .wire import Wire

MODULE = f"{__package__}.worker"
STOP_S = 1.0  # an idle worker ends at once; one that imports its engine is killed
LOG_LINES = 12
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # OpenMP's threads must not spin between an engine's steps: they take the cores from the driver
    # and from the kernels that swap (measured: twice the candidates a second on 2 cores).
    "OMP_WAIT_POLICY": "passive",
}


class WorkerProcess:
    """A process and its wire. Once it is lost it stays lost."""

    def __init__(self, log: Path | None) -> None:
        self.log = log or temporary_log()
        ours, theirs = socket.socketpair()
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, **ENVIRONMENT},
            )
        theirs.close()
        self._wire, self._is_lost = Wire(ours), False

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, header: Json, payload: bytes = b"") -> None:
        """Where it cannot be sent the worker is gone; whose turn it was learns that by receiving."""
        with contextlib.suppress(OSError, ValueError):
            self._wire.send(header, payload)

    def receive(self, timeout_s: float) -> Json:
        """The next message's header. WorkerLost where the process ends, or is silent for too long;
        EngineGone where it had ended before."""
        if self._is_lost:
            raise EngineGone("the engine's process had ended before")
        self._wire.socket.settimeout(timeout_s)
        try:
            message = self._wire.receive()
        except TimeoutError:
            self._process.kill()
            raise self._lost(f"said nothing for {timeout_s:.0f} s") from None
        except OSError as error:
            raise self._lost() from error
        if message is None:
            raise self._lost()
        return message[0]

    def _lost(self, how: str = "ended") -> WorkerLost:
        self._is_lost = True
        self.stop()
        lines = self.log.read_text(errors="replace").strip().split("\n")[-LOG_LINES:]
        return WorkerLost(f"the engine's process {how}; its last words:\n" + "\n".join(lines))

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        """End the process, by force where it does not go within a second."""
        with contextlib.suppress(OSError):  # it is gone already
            self._wire.socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def temporary_log() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="selfdev-worker-", suffix=".log")
    os.close(descriptor)
    return Path(name)
