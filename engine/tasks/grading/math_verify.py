"""Runs math-verify in processes that can be killed: some answers make it hang or fill the memory.

A process starts with its first question and is reused. If an answer takes too long, it is killed
and started again, and the answer counts as not the same. It ends when this process ends, because
its input ends. The time is the process's own, so that a busy machine changes no grade. As many answers are
compared at once as there are processes. Without math-verify no process is started, and no two answers are
the same.
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
from collections.abc import Sequence
from pathlib import Path
from queue import LifoQueue

CHILD = f"{__package__}.math_verify_child"
# Seconds of CPU for an answer, which usually takes 0.01; it is late after WAITS times as many
# seconds, since a process that sleeps spends none.
ANSWER_S, WAITS = 5.0, 12
# Seconds between two looks at the CPU time.
LOOK_S = 0.1
# The start imports sympy, maybe on a busy machine.
START_S = 60.0
# Characters; longer texts are no answers.
LONGEST = 2000
BUILT_IN = "built in"
# The verdicts of at most this many pairs are kept: a run of thousands of candidates has millions.
MOST_KNOWN = 100_000
# Bytes of the longest line that the process writes: "false", "ready".
MOST_REPLY = 16
# Half of the cores at most: the engine and the sandbox need theirs.
MOST_PROCESSES = max(1, min(8, len(os.sched_getaffinity(0)) // 2))


class Verifier:
    """Asks the child process about one pair at a time. Any thread may use it."""

    def __init__(self, command: list[str] | None = None, answer_s: float = ANSWER_S) -> None:
        self._command = command or [sys.executable, "-P", "-m", CHILD]
        self._answer_s, self._lock = answer_s, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.num_killed = 0

    @functools.cached_property
    def version(self) -> str:
        """Version of math-verify, or BUILT_IN if it is not installed."""
        if importlib.util.find_spec("math_verify") is None:
            return BUILT_IN
        return f"math-verify {importlib.metadata.version('math-verify')}"

    def same(self, found: str, wanted: str) -> bool | None:
        """Whether both mean the same; None if math-verify does not answer in time."""
        if self.version == BUILT_IN or max(len(found), len(wanted)) > LONGEST:
            return False
        with self._lock:
            reply = self._ask(json.dumps((found, wanted)))
        return None if reply is None else reply == "true"

    def _ask(self, line: str) -> str | None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        reply = self._talk(line, self._answer_s)
        if reply not in ("true", "false"):
            # It is late, or an answer has taken it over: it must not grade the next one.
            self.close()
            self.num_killed += 1
            return None
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
        return read_line(self._process, limit_s)

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


def read_line(process: subprocess.Popen[bytes], limit_s: float) -> str | None:
    """Return a line that a process writes, without its end.

    None where it has spent `limit_s` of CPU, where it is late, where the line is longer than any
    that it should write, or at the end of the pipe.
    """
    assert process.stdout
    source, until, text = process.stdout.fileno(), time.monotonic() + WAITS * limit_s, b""
    most_s = cpu_s(process.pid) + limit_s
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([source], [], [], LOOK_S)
        if ready:
            part = os.read(source, MOST_REPLY + 1)
            text += part
            if not part or len(text) > MOST_REPLY:
                return None
        if cpu_s(process.pid) > most_s or time.monotonic() > until:
            return None
    return text.decode(errors="replace").rstrip("\n")


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process of ours has spent."""
    # The name of the process, in brackets, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class VerifierPool:
    """Verifiers with a process each. Any thread may ask; it waits where all of them are at work."""

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        self.verifiers = tuple(verifiers)
        # The last one used is the first to be asked again, so few processes start where few are needed.
        self._idle: LifoQueue[Verifier] = LifoQueue()
        for verifier in self.verifiers:
            self._idle.put(verifier)
        self._known: dict[tuple[str, str], bool] = {}
        # By thread: whether a part of the answer that it grades was too slow.
        self._answer = threading.local()

    @property
    def version(self) -> str:
        """Version of math-verify, or BUILT_IN if it is not installed."""
        return self.verifiers[0].version

    @property
    def num_killed(self) -> int:
        return sum(verifier.num_killed for verifier in self.verifiers)

    def begin_answer(self) -> None:
        """Grade another answer from now on in this thread. Its parts are asked until one is too slow."""
        self._answer.was_slow = False

    def same(self, found: str, wanted: str) -> bool:
        """Whether both mean the same; False if math-verify does not answer in time."""
        pair = (found, wanted)
        if (known := self._known.get(pair)) is not None:
            return known
        if getattr(self._answer, "was_slow", False):
            return False
        verifier = self._idle.get()
        try:
            verdict = verifier.same(found, wanted)
        finally:
            self._idle.put(verifier)
        self._answer.was_slow = verdict is None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[pair] = bool(verdict)
        return bool(verdict)

    def close(self) -> None:
        """End the processes."""
        for verifier in self.verifiers:
            verifier.close()


@functools.cache
def shared_verifier() -> VerifierPool:
    """The verifiers that all of this process uses."""
    pool = VerifierPool([Verifier() for _ in range(MOST_PROCESSES)])
    atexit.register(pool.close)
    return pool
