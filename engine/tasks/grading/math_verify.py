"""Runs math-verify in a process that can be killed: some answers make it hang or fill the memory.

The process starts with the first question and is reused. If an answer takes too long, it is killed
and started again, and the answer counts as not the same. It ends when this process ends, because
its input ends. Without math-verify no process is started, and no two answers are the same.
"""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time

CHILD = f"{__package__}.math_verify_child"
# An answer usually takes 10 ms.
ANSWER_S = 5.0
# The start imports sympy, maybe on a busy machine.
START_S = 60.0
# Characters; longer texts are no answers.
LONGEST = 2000
BUILT_IN = "built in"


class Verifier:
    """Asks the child process about one pair at a time. Any thread may use it."""

    def __init__(self, command: list[str] | None = None, answer_s: float = ANSWER_S) -> None:
        self._command = command or [sys.executable, "-P", "-m", CHILD]
        self._answer_s, self._lock = answer_s, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: dict[tuple[str, str], bool] = {}
        self.num_killed = 0

    @functools.cached_property
    def version(self) -> str:
        """Version of math-verify, or BUILT_IN if it is not installed."""
        if importlib.util.find_spec("math_verify") is None:
            return BUILT_IN
        return f"math-verify {importlib.metadata.version('math-verify')}"

    def same(self, found: str, wanted: str) -> bool:
        """Whether both mean the same; False if math-verify does not answer in time."""
        if self.version == BUILT_IN or max(len(found), len(wanted)) > LONGEST:
            return False
        with self._lock:
            pair = (found, wanted)
            if pair not in self._known:
                self._known[pair] = self._ask(json.dumps(pair)) == "true"
            return self._known[pair]

    def _ask(self, line: str) -> str | None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        reply = self._talk(line, self._answer_s)
        if reply is None:
            self.close()
            self.num_killed += 1
        return reply

    def _start(self) -> None:
        self.close()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is for us alone; the child ends when we do.
            start_new_session=True,
        )
        if self._talk(None, START_S) != "ready":
            self.close()
            raise RuntimeError("math-verify does not start: try `python -c 'import math_verify'`")

    def _talk(self, line: str | None, limit_s: float) -> str | None:
        """Send a line, if there is one, and wait for the reply; None if none comes in time."""
        assert self._process and self._process.stdin and self._process.stdout
        try:
            if line is not None:
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
        except OSError:
            return None
        return read_line(self._process.stdout.fileno(), time.monotonic() + limit_s)

    def close(self) -> None:
        """End the child process."""
        if self._process is None:
            return
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.wait()
        self._process = None


def read_line(source: int, until: float) -> str | None:
    """One line of a pipe without its end; None at the deadline or at the end of the pipe."""
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([source], [], [], max(0.0, until - time.monotonic()))
        if not ready or not (part := os.read(source, 4096)):
            return None
        text += part
    return text.decode().rstrip("\n")


@functools.cache
def shared_verifier() -> Verifier:
    """The verifier that all of this process uses."""
    verifier = Verifier()
    atexit.register(verifier.close)
    return verifier
