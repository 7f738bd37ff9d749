"""Writes a merged model: the merged tensors, and everything else that belongs to it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ...kernels.compiler.clock import OutOfTime, limited
from ...kernels.execution.backend import Backend
from ..errors import Rejection, UsageError
from ..plans.apply import merge_tensors
from ..plans.plan import Plan
from ..weights.bank import Bank
from ..weights.checkpoint import Checkpoint
from ..weights.files import INDEX, SINGLE
from ..weights.fingerprint import TensorPrint, new_digest
from ..weights.headers import Entry
from ..weights.stream import make_slots, stream
from .companions import Companions
from .disk import Disk, write_all

COPY_BYTES = 8 << 20
# What all tensors may take to compute: so long, and a second more for so many bytes of the result.
MERGE_S, MERGE_BYTES_A_SECOND = 600.0, 16 << 20
# Called with the number of tensors that are merged, and of all that will be.
Progress = Callable[[int, int], None]


class Writer:
    """Writes the merged tensors into a new folder and copies all else. `merge_to_folder` makes it.

    Files have the base's layout, so places are known before anything is computed. `memory` bounds
    the bytes of tensors in flight; UsageError where the largest tensor does not fit.
    """

    def __init__(
        self,
        bank: Bank,
        plan: Plan,
        backend: Backend,
        folder: Path,
        memory: int | None,
        companions: Companions,
    ) -> None:
        self.bank, self.plan, self.backend, self.folder = bank, plan, backend, folder
        self.companions = companions
        self.slots = make_slots(bank.residency, list(plan.tensors), memory)
        self.prints: dict[str, TensorPrint] = {}
        self.disk = Disk()
        # Whether a merged tensor differs from the base's; no more are compared then.
        self.has_moved = False

    def write(self, progress: Progress) -> dict[str, TensorPrint] | Rejection:
        """Write all files but the model card. Returns the fingerprints of all tensors by name.

        Returns a Rejection instead where the plan's result cannot be used.
        """
        base = self.bank.selection.base
        self.companions.copy(self.folder)
        write_index(base, self.folder)
        with ExitStack() as stack:
            files = {file: stack.enter_context(self._open(file)) for file in base.files}
            stack.enter_context(self.disk)
            with ThreadPoolExecutor(2, "writer") as writer:
                copied = writer.submit(self._copy_others, files)
                why = self._merge(files, writer, progress)
                copied.result()
            if why:
                return why
            self.disk.finish(files.values())
        return self.prints

    @property
    def bytes_written(self) -> int:
        """Bytes of all tensors, which have the base's sizes."""
        return sum(entry.size_bytes for entry in self.bank.selection.base.entries.values())

    @property
    def bytes_read(self) -> int:
        """Bytes of the whole base, and of the experts' tensors that are merged."""
        experts = self.bank.selection.experts.values()
        merged = sum(e.entries[name].size_bytes for e in experts for name in self.plan.tensors)
        return self.bytes_written + merged

    @contextmanager
    def _open(self, file: Path) -> Iterator[int]:
        """Create the new file, with the old one's size and header, and yield its descriptor."""
        descriptor = os.open(self.folder / file.name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            base, size = self.bank.selection.base, file.stat().st_size
            os.posix_fallocate(descriptor, 0, size)
            starts = (entry.start for entry in base.entries.values() if entry.file == file)
            with base.reading(file) as source:
                write_all(descriptor, os.pread(source, min(starts, default=size), 0), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def _merge(
        self, files: Mapping[Path, int], writer: ThreadPoolExecutor, progress: Progress
    ) -> Rejection | None:
        """Compute the merged tensors one by one, and have each written by another thread."""
        base, names = self.bank.selection.base, list(self.plan.tensors)
        sizes_bytes = sum(base.entries[name].size_bytes for name in names)
        allowed_s = left_s = MERGE_S + sizes_bytes / MERGE_BYTES_A_SECOND
        for done, (tensors, slot) in enumerate(stream(self.bank.residency, names, self.slots)):
            entry = base.entries[tensors.name]
            out = slot.out(entry.shape, base.dtype(tensors.name))
            began = time.monotonic()
            try:
                with limited(f"merging took more than {allowed_s:.0f} s", wall_s=left_s):
                    why = merge_tensors(
                        self.plan.tensors, [tensors], self.bank, self.backend, [out]
                    )
            except OutOfTime as error:
                return Rejection("timeout", f"{error}; {tensors.name} was reached")
            left_s -= time.monotonic() - began
            self.bank.selection.check_unchanged([tensors.name])
            if why:
                return why
            self.has_moved = self.has_moved or not torch.equal(out, tensors.base.to(out.device))
            slot.written = writer.submit(self._keep, tensors.name, out, files)
            progress(done + 1, len(names))
        return None

    def _keep(self, name: str, tensor: torch.Tensor, files: Mapping[Path, int]) -> None:
        """Write a merged tensor at its place, and at that of a tied head. Runs in a writer's thread."""
        data, printed = tensor.reshape(-1).view(torch.uint8).numpy(), TensorPrint.of(tensor)
        for place in (name, *self._tied_to(name)):
            entry = self.bank.selection.base.entries[place]
            self.disk.write(files[entry.file], data, entry.start)
            self.prints[place] = printed

    def _tied_to(self, name: str) -> list[str]:
        """Return the heads that are one tensor with this embedding."""
        return [head for head, embedding in self.bank.selection.ties.items() if embedding == name]

    def _copy_others(self, files: Mapping[Path, int]) -> None:
        """Copy the base's other tensors, one after the other. Runs in a writer's thread."""
        buffer, ties = memoryview(bytearray(COPY_BYTES)), self.bank.selection.ties
        for name, entry in self.bank.selection.base.entries.items():
            if ties.get(name, name) not in self.plan.tensors:
                digest = self._copy(entry, files[entry.file], buffer)
                self.prints[name] = TensorPrint(entry.dtype, entry.shape, digest)

    def _copy(self, entry: Entry, descriptor: int, buffer: memoryview) -> str:
        """Copy a tensor's bytes to the same place of another file, and return their digest.

        UsageError where the source file is cut off or changed.
        """
        digest, done = new_digest(), 0
        with self.bank.selection.base.reading(entry.file) as source:
            while done < entry.size_bytes:
                piece = buffer[: entry.size_bytes - done]
                count = os.preadv(source, [piece], entry.start + done)
                if not count:
                    raise UsageError(f"{entry.file}: cut off while it was read")
                digest.update(buffer[:count])
                self.disk.write(descriptor, buffer[:count], entry.start + done)
                done += count
        return digest.hexdigest()


def write_index(base: Checkpoint, folder: Path) -> None:
    """Write which file holds which tensor. Loaders need it unless all lie in `model.safetensors`."""
    if [file.name for file in base.files] == [SINGLE]:
        return
    size_bytes = sum(entry.size_bytes for entry in base.entries.values())
    where = {name: entry.file.name for name, entry in base.entries.items()}
    index = {"metadata": {"total_size": size_bytes}, "weight_map": where}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
