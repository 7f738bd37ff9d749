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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch

CALL_S, CHUNK, SPACE_BYTES = 150, 10_000, 8 << 30
COMMIT = subprocess.run(
    ["git", "rev-parse", "--short", "HEAD"],
    capture_output=True,
    text=True,
    cwd=Path(__file__).parent,
).stdout.strip()
MADE_WITH = {
    "date": date.today().isoformat(),
    "commit": COMMIT,
    "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
    "python": platform.python_version(),
    "torch": torch.__version__,
}


@dataclass
class Outcome:
    """What became of one program. `fault` is a finding, `taken` names the calls that were not refused."""

    ended: str
    graph: str = ""
    fault: str = ""
    calls: int = 1
    taken: list[str] = field(default_factory=list)
    swept: bool = False  # whether a backend computed something of it


Attempt = Callable[[int, Any], Outcome]


@dataclass
class Tally:
    ended: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str, str]] = field(default_factory=dict)  # by kind of fault
    counts: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    swept: int = 0

    def add(self, seed: int, outcome: Outcome) -> None:
        self.ended[outcome.ended] += 1
        self.taken.update(outcome.taken)
        self.calls += outcome.calls
        self.swept += outcome.swept
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
                outcome.graph = outcome.graph if outcome.fault else ""
                file.write(json.dumps([seed, asdict(outcome)]) + "\n")


def read_outcomes(descriptor: int, tally: Tally) -> int:
    """Adds what a child writes, until it ends; returns how many outcomes came."""
    taken = 0
    with os.fdopen(descriptor) as file:
        for line in file:
            if line.endswith("\n"):
                seed, outcome = json.loads(line)
                tally.add(seed, Outcome(**outcome))
                taken += 1
    return taken


def report(name: str, fuzz: Fuzz, record: Path | None, ops: Sequence[str] = (), **said: Any) -> int:
    """Runs and prints findings, then a summary as one JSON object, which `record` adds to a file.

    `ops` are those that the calls are chosen from.
    """
    began = time.monotonic()
    tally = fuzz.run()
    for kind, (seed, graph, fault) in tally.findings.items():
        print(f"--- {tally.counts[kind]} times: {kind}\nprogram {seed}: {graph}\n{fault}")
    summary = {
        **said,
        "first": fuzz.first,
        "programs": fuzz.calls,
        "calls": tally.calls,
        "backend": fuzz.backend if fuzz.share else None,
        "by the backend": tally.swept,
        "seconds": round(time.monotonic() - began, 1),
        "ended": dict(sorted(tally.ended.items())),
        "findings": {k: [n, tally.findings[k][0]] for k, n in tally.counts.items()},
    }
    print(json.dumps(summary))
    if record:
        keep(name, summary, {op: tally.taken[op] for op in ops}, record)
    return 1 if tally.findings else 0


def keep(name: str, summary: dict[str, Any], taken: dict[str, int], file: Path) -> None:
    """Adds a piece of a run to its file, which says once where and with what it ran."""
    said = {"what": name, **MADE_WITH, "total": {}, "pieces": [], "taken": {}}
    data = json.loads(file.read_text()) if file.exists() else said
    data["pieces"].append({"commit": COMMIT, **summary})
    data["taken"] = dict(sorted((Counter(data["taken"]) + Counter(taken)).items()))
    data["total"] = total(data["pieces"])
    if taken:
        data["total"]["overloads"] = {"allowed": len(taken), "taken": len(data["taken"])}
    file.write_text(json.dumps(data, indent=1) + "\n")


def total(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums over all pieces of a run."""
    ended, found, swept = Counter[str](), Counter[str](), Counter[str]()
    for piece in pieces:
        ended.update(piece["ended"])
        found.update({kind: count for kind, (count, _) in piece["findings"].items()})
        swept.update({piece["backend"]: piece["by the backend"]} if piece["backend"] else {})
    sums = {key: sum(piece[key] for piece in pieces) for key in ("programs", "calls", "seconds")}
    return {**sums, "by backend": dict(swept), "ended": dict(ended), "findings": dict(found)}
