"""What a command costs, from outside: seconds, CPU seconds and the memory of its process tree."""

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

IMPORT = [sys.executable, "-c", "import torch"]  # one busy thread, and a floor of every command
SAMPLE_S = 0.02
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Of one run. `peak_rss_bytes`: the tree's resident pages at their highest, sampled; a page that
    two processes share counts twice, and so does a page of a mapped file that was touched."""

    seconds: float
    cpu_s: float
    peak_rss_bytes: int


def usage_of(words: Sequence[str]) -> Usage:
    """Run a command to its end. RuntimeError says what a failed one said."""
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
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tree_rss_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it; those that ended meanwhile count nothing."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        below = [int(c) for t in threads for c in (t / "children").read_text().split()]
    except (OSError, IndexError):
        return 0
    return PAGE_BYTES * pages + sum(map(tree_rss_bytes, below))


def engine_command(*words: object) -> list[str]:
    """This installation's selfdev-engine."""
    code = "from selfdev_engine.selfdev.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, words)]
