"""Many random calls in processes that may die: what became of them, and each kind of fault once.

A fuzzer has a function `attempt(seed, backend)` that makes one call from a number alone and says what
became of it. `run` calls it for a range of numbers, in forked children of bounded memory and time.
"""

from __future__ import annotations

import json
import mmap
import os
import platform
import resource
import signal
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch

CALL_S, CHUNK, SPACE_BYTES = 30, 2000, 8 << 30
RESULTS = Path(__file__).parents[1] / "bench" / "results"


@dataclass
class Outcome:
    """What became of one call. `fault` is a finding."""

    ended: str
    graph: str = ""
    fault: str = ""


Attempt = Callable[[int, Any], Outcome]


@dataclass
class Tally:
    ended: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str, str]] = field(default_factory=dict)  # by kind of fault
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, seed: int, outcome: Outcome) -> None:
        self.ended[outcome.ended] += 1
        if outcome.fault:
            kind = kind_of(outcome.fault)
            self.counts[kind] += 1
            self.findings.setdefault(kind, (seed, outcome.graph, outcome.fault))


def kind_of(fault: str) -> str:
    """The last line of a traceback and the place that it names."""
    lines = fault.strip().split("\n")
    places = [line.strip() for line in lines if line.strip().startswith("File ")]
    place = places[-1].split("/")[-1] if places else ""
    return f"{lines[-1][:160]} | {place}"


@dataclass(frozen=True)
class Fuzz:
    """A range of calls: `share` of them, by number, are run by the backend too."""

    attempt: Attempt
    first: int
    calls: int
    share: float = 0.0
    backend: str = "cpu"

    def run(self) -> Tally:
        tally = Tally()
        for first in range(self.first, self.first + self.calls, CHUNK):
            self.watched(first, min(CHUNK, self.first + self.calls - first), tally)
        return tally

    def watched(self, first: int, count: int, tally: Tally) -> None:
        """Runs a chunk in a child. If it dies, that is a finding, and another one goes on behind it."""
        while count > 0:
            memory = mmap.mmap(-1, 8)
            readable, writable = os.pipe()
            if (pid := os.fork()) == 0:
                os.close(readable)
                code = 1
                try:
                    self.chunk(first, count, memory, writable)
                    code = 0
                finally:
                    os._exit(code)
            os.close(writable)
            taken = read_outcomes(readable, tally)
            _, status = os.waitpid(pid, 0)
            if status == 0:
                return
            (seed,) = struct.unpack("<q", memory[:8])
            number = status & 127
            word = signal.Signals(number).name if number else f"exit {status >> 8}"
            tally.add(seed, Outcome("died", fault=f"{word} at call {seed}"))
            tally.ended["lost in a pipe"] += max(0, seed - first - taken)
            count -= seed - first + 1
            first = seed + 1

    def chunk(self, first: int, count: int, memory: mmap.mmap, out: int) -> None:
        """The child: makes calls, and notes in shared memory which one it is at."""
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_AS, (SPACE_BYTES, SPACE_BYTES))
        backend = None
        if self.share:
            from selfdev_engine.kernels.backends import get_backend

            backend = get_backend(self.backend)
        with os.fdopen(out, "w") as file:
            for seed in range(first, first + count):
                memory[:8] = struct.pack("<q", seed)
                signal.alarm(CALL_S)
                outcome = self.attempt(seed, backend if seed % 1000 < 1000 * self.share else None)
                signal.alarm(0)
                graph = outcome.graph if outcome.fault else ""
                file.write(json.dumps([seed, outcome.ended, graph, outcome.fault]) + "\n")


def read_outcomes(descriptor: int, tally: Tally) -> int:
    """Adds what a child writes, until it ends; returns how many outcomes came."""
    taken = 0
    with os.fdopen(descriptor) as file:
        for line in file:
            if line.endswith("\n"):
                seed, ended, graph, fault = json.loads(line)
                tally.add(seed, Outcome(ended, graph, fault))
                taken += 1
    return taken


def report(name: str, fuzz: Fuzz, record: Path | None, **said: Any) -> int:
    """Runs and prints findings, then a summary as one JSON object, which `record` adds to a file."""
    began = time.monotonic()
    tally = fuzz.run()
    for kind, (seed, graph, fault) in tally.findings.items():
        print(f"--- {tally.counts[kind]} times: {kind}\ncall {seed}: {graph}\n{fault}")
    summary = {
        **said,
        "first": fuzz.first,
        "calls": fuzz.calls,
        "share": fuzz.share,
        "backend": fuzz.backend if fuzz.share else None,
        "seconds": round(time.monotonic() - began, 1),
        "ended": dict(sorted(tally.ended.items())),
        "findings": {k: [n, tally.findings[k][0]] for k, n in tally.counts.items()},
    }
    print(json.dumps(summary))
    if record:
        keep(name, summary, record)
    return 1 if tally.findings else 0


def keep(name: str, summary: dict[str, Any], file: Path) -> None:
    """Adds a piece of a run to its file, which says once where and with what it ran."""
    said = {
        "what": name,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "total": {},
        "pieces": [],
    }
    data = json.loads(file.read_text()) if file.exists() else said
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS
    )
    data["pieces"].append({"commit": commit.stdout.strip(), **summary})
    ended, found = Counter[str](), Counter[str]()
    for piece in data["pieces"]:
        ended.update(piece["ended"])
        found.update({kind: count for kind, (count, _) in piece["findings"].items()})
    calls = sum(piece["calls"] for piece in data["pieces"])
    data["total"] = {"calls": calls, "ended": dict(ended), "findings": dict(found)}
    file.write_text(json.dumps(data, indent=1) + "\n")
