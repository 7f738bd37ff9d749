"""A worker's process as the driver sees it: it is started, listened to, and noticed when it dies.

A worker runs in a session of its own and ends with its driver (by a parent-death signal, or when
the socket ends), so nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import EngineGone, WorkerLost
from ..weights.small_file import end_of
from .messages import Json
from .wire import Wire

MODULE = f"{__package__}.worker"
# Seconds to wait for a worker's end: an idle one ends at once; one that imports its engine is
# killed.
STOP_S = 1.0
LOG_LINES = 12
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # OpenMP's threads must not spin between an engine's steps: they would take the cores from the
    # driver and from the kernels that swap. Measured: twice the candidates a second on 2 cores.
    "OMP_WAIT_POLICY": "passive",
}


class WorkerProcess:
    """A worker's process and the wire to it. Once it is lost it stays lost.

    It has the descriptors that it `inherits` under their numbers here.
    """

    def __init__(
        self, log: Path | None, environment: Mapping[str, str], inherits: Sequence[int] = ()
    ) -> None:
        self.log, self._keeps_log = log or temporary_log(), log is not None
        ours, theirs = socket.socketpair()
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=[theirs.fileno(), *inherits],
                start_new_session=True,
                env={**os.environ, **ENVIRONMENT, **environment},
            )
        theirs.close()
        self._wire, self._is_lost = Wire(ours), False

    @property
    def node(self) -> str:
        """No name: it is on this machine."""
        return ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._is_lost and self._process.poll() is None

    def send(self, header: Json, payload: bytes = b"", files: Sequence[str] = ()) -> None:
        """Send a message. The files that it names are on this machine, as the process is.

        No error is raised where the worker is gone: the call whose turn it was learns it from
        `receive`.
        """
        with contextlib.suppress(OSError, ValueError):
            self._wire.send(header, payload)

    def receive(self, timeout_s: float) -> Json:
        """Return the header of the next message.

        WorkerLost where the process ends or is silent for `timeout_s`; EngineGone where it had
        ended before.
        """
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
        """End the process, and return the WorkerLost to raise, with the log's last lines."""
        self._is_lost = True
        self._end()
        lines = end_of(self.log).split("\n")[-LOG_LINES:]
        return WorkerLost(f"the engine's process {how}; its last words:\n" + "\n".join(lines))

    def kill(self) -> None:
        """Kill the process, without waiting for its end."""
        self._process.kill()

    def stop(self) -> None:
        """End the process; its log stays only where the caller named one, or where it was lost."""
        self._end()
        if not (self._keeps_log or self._is_lost):
            self.log.unlink(missing_ok=True)

    def _end(self) -> None:
        """End the process, by force where it does not end within STOP_S seconds."""
        # OSError means that the worker is gone already.
        with contextlib.suppress(OSError):
            self._wire.socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def temporary_log() -> Path:
    """Make an empty log file in the system's folder for temporary files."""
    descriptor, name = tempfile.mkstemp(prefix="selfdev-worker-", suffix=".log")
    os.close(descriptor)
    return Path(name)
