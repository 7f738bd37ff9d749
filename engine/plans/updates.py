"""Computes the updates that torch must compute: each once, in locked children, into a file.

Survey, comparison with other candidates, merge and worker all read that file. It goes when its candidate
is settled. The file is safetensors: its size and the place of every update are known before the first one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from ..errors import Rejection, UsageError
from ..sandbox.zygote_process import ZygoteLost
from .cells import Cells, TensorCell
from .plan import Computed, Eager, Hybrid, Plan

# A candidate is refused after its first tensor where that took this long and all would be too late.
WORTH_PRICING_S = 1.0
ALIGNMENT_BYTES = 64
# Candidates in flight may take 1 / QUOTA_SHARE of the free disk.
QUOTA_SHARE = 2


def available_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass
class Updates:
    """The files of updates of the plans that are in flight, in the folder `scratch`."""

    cells: Cells
    scratch: Path
    num_cores: int
    files: dict[str, Path] = field(default_factory=dict)  # by the plan's fingerprint

    def __post_init__(self) -> None:
        """Remove what a process that was killed has left; a folder has one writer."""
        for file in self.scratch.glob("*.safetensors"):
            file.unlink()
        self.quota_bytes = shutil.disk_usage(self.scratch).free // QUOTA_SHARE

    def computed(self, plan: Plan) -> Plan | Rejection:
        """Return the plan with every update computed that torch must compute.

        A file that is here for the same plan is used again. Returns the rejection where torch or a limit
        refuses one. UsageError where the disk is full.
        """
        waiting = {n: p for n, p in plan.tensors.items() if isinstance(p, (Hybrid, Eager))}
        if not waiting:
            return plan
        if plan.fingerprint not in self.files:
            made = self._made(waiting)
            if isinstance(made, Rejection):
                return made
            self.files[plan.fingerprint] = made
        file = str(self.files[plan.fingerprint])
        shared = {id(p): Computed.of(p, file) for p in waiting.values()}
        found = {name: shared.get(id(p), p) for name, p in plan.tensors.items()}
        return replace(plan, tensors=found)

    def keep_only(self, fingerprints: Collection[str]) -> None:
        """Remove the files of all other plans."""
        for name in [name for name in self.files if name not in fingerprints]:
            self.files.pop(name).unlink(missing_ok=True)

    @property
    def is_full(self) -> bool:
        """Return whether one more file of their size would be more than the quota."""
        sizes = [file.stat().st_size for file in self.files.values()]
        return bool(sizes) and sum(sizes) + max(sizes) > self.quota_bytes

    def _made(self, waiting: Mapping[str, Hybrid | Eager]) -> Path | Rejection:
        """Compute the updates into a new file; once more where the sandbox itself died."""
        for _ in range(2):
            file, starts = self._new_file(list(waiting))
            try:
                batch = Batch(self.cells, dict(waiting), file, starts)
                why = batch.run(self.cells.num_at_once(list(waiting), self.num_cores))
                if why is None:
                    return file
                file.unlink()
                return why
            except ZygoteLost:
                file.unlink()
                self.cells.sandbox.restart()
            except BaseException:
                file.unlink(missing_ok=True)
                raise
        return Rejection("runtime", "the sandbox died twice under this program")

    def _new_file(self, names: list[str]) -> tuple[Path, dict[str, int]]:
        """Make a file with room for the updates; return it and where each one starts."""
        header, places, end = dict[str, object](), dict[str, int](), 0
        for name in names:
            parts = self.cells.parts[name]
            places[name], start, end = end, end, end + parts.update_bytes
            shape = list(parts.base.shape)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
        before = 8 + len(text)
        descriptor, path = tempfile.mkstemp(
            suffix=".safetensors", prefix="updates-", dir=self.scratch
        )
        try:
            os.posix_fallocate(descriptor, 0, before + end)
            os.pwrite(descriptor, len(text).to_bytes(8, "little") + text, 0)
        except OSError as error:
            Path(path).unlink()
            size = f"{(before + end) / 2**20:.0f} MiB"
            raise UsageError(
                f"{self.scratch}: no room for {size} of updates: {error.strerror}"
            ) from None
        finally:
            os.close(descriptor)
        return Path(path), {name: before + start for name, start in places.items()}


class Batch:
    """The updates of one candidate, computed side by side; `run` is called once."""

    def __init__(
        self,
        cells: Cells,
        waiting: dict[str, Hybrid | Eager],
        file: Path,
        starts: Mapping[str, int],
    ) -> None:
        self.cells, self.plans, self.file, self.starts = cells, waiting, file, starts
        self.left = deque(waiting)
        self.began = time.monotonic()
        self.why: Rejection | None = None
        self._deciding = Lock()

    def run(self, num_cells: int) -> Rejection | None:
        """Compute all; return the first rejection. Raises ZygoteLost."""
        if num_cells == 1:
            self._work(1)
        else:
            with ThreadPoolExecutor(num_cells, "updates") as pool:
                for done in [pool.submit(self._work, num_cells) for _ in range(num_cells)]:
                    done.result()
        return self.why

    def _work(self, num_cells: int) -> None:
        """Compute tensors with a cell of one's own, until none is left or one is rejected."""
        if not self.left:
            return
        descriptor = os.open(self.file, os.O_WRONLY)
        try:
            with self.cells.open(list(self.plans), self.cells.update_s) as cell:
                while (name := self._next()) is not None:
                    self._compute(name, cell, descriptor, num_cells)
        finally:
            os.close(descriptor)

    def _next(self) -> str | None:
        with self._deciding:
            return self.left.popleft() if self.left and self.why is None else None

    def _compute(self, name: str, cell: TensorCell, descriptor: int, num_cells: int) -> None:
        why = cell.update(name, self.plans[name]) or self._priced(name, num_cells)
        if why is None:
            cell.copy_update(name, descriptor, self.starts[name])
            return
        with self._deciding:
            self.why = self.why or why

    def _priced(self, name: str, num_cells: int) -> Rejection | None:
        """Return `timeout` where the time of the tensors so far says that all would take too long."""
        spent = time.monotonic() - self.began
        limit = self.cells.update_s
        if spent > limit:
            return Rejection("timeout", f"torch was still computing its updates after {limit:g} s")
        parts = self.cells.parts
        total = sum(parts[n].update_bytes for n in self.plans)
        left = sum(parts[n].update_bytes for n in list(self.left))
        done = max(1, total - left - (num_cells - 1) * parts[name].update_bytes)
        expected = spent * total / done
        if spent < WORTH_PRICING_S or expected <= limit:
            return None
        words = f"its updates would take about {expected:.0f} s in torch, at most {limit:g} s"
        return Rejection("timeout", f"{words}: {name} and those before it took {spent:.1f} s")
