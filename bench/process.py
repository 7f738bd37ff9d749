"""Measures a command from outside: seconds, CPU seconds and the memory of its process tree."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# One busy thread; every command of ours takes at least as long.
IMPORT = [sys.executable, "-c", "import torch"]
SAMPLE_S = 0.02
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What one run of a command used.

    `peak_rss_bytes` is the highest sampled sum of the resident pages of its processes. A page that
    two processes share counts twice. Pages of mapped files that were touched count, too.
    """

    seconds: float
    cpu_s: float
    peak_rss_bytes: int


def usage_of(words: Sequence[str]) -> Usage:
    """Run a command to its end. If it fails, RuntimeError holds the end of its error output."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    before, began, peak = children_cpu_s(), time.perf_counter(), 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said, env=env)
        while process.poll() is None:
            peak = max(peak, tree_rss_bytes(process.pid))
            time.sleep(SAMPLE_S)
        seconds = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace").strip()[-300:]
            raise RuntimeError(f"{Path(words[0]).name}: exit {process.returncode}: {text}")
    return Usage(seconds, children_cpu_s() - before, peak)


def children_cpu_s() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tree_rss_bytes(pid: int) -> int:
    """Resident bytes of a process and all its descendants; 0 for those that ended meanwhile."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        below = [int(c) for t in threads for c in (t / "children").read_text().split()]
    except (OSError, IndexError):
        return 0
    return PAGE_BYTES * pages + sum(map(tree_rss_bytes, below))


def engine_command(*words: object) -> list[str]:
    """Command line of this installation's selfdev-engine with these arguments."""
    code = "from selfdev_engine.selfdev.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, words)]
