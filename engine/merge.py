"""A merge to disk: a complete Hugging Face folder, streamed tensor by tensor.

The new files have the base's layout (same shards, same order, same header), so every tensor's place
is known and files are preallocated. All is written beside `out` under a temporary name, synced, and
renamed at the end: a folder of that name is complete, or not there.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..kernels.backend import Backend, BackendError, get_backend, num_passes, plan_bytes
from .apply import merge_tensors
from .bank import Bank
from .card import model_card
from .checkpoint import INDEX, Checkpoint, Entry
from .disk import Disk, write_all
from .errors import Rejected, Rejection, UsageError
from .fingerprint import TensorPrint, new_digest, weights_fingerprint
from .plan import MergePlan, Planner, TensorPlan
from .program import Program
from .sandbox.box import Sandbox
from .stream import make_slots, stream
from .trace.tracer import Tracer, TraceSettings

WEIGHTS = {
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".pkl",
    ".onnx",
}
COPY_BYTES = 8 << 20
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MergeReport:
    """What a merge did; bytes and seconds are of the whole command's work."""

    status: str
    tier: str
    reason: str | None
    ops: int
    passes: int
    bytes: int
    fingerprint: str
    weights_fingerprint: str
    out: str
    backend: str
    tensors: int
    seconds: float
    bytes_read: int
    bytes_written: int
    peak_rss_bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def merge_to_folder(
    program: Program,
    *,
    base: str,
    experts: Mapping[str, str],
    out: str | Path,
    include: str = "mlp",
    backend: str = "auto",
    overwrite: bool = False,
    seed: int = 0,
    unsafe_sandbox: bool = False,
    memory_bytes: int | None = None,
    progress: Progress | None = None,
    sandbox: Sandbox | None = None,
) -> MergeReport:
    """Apply the program and write the merged checkpoint to `out`.

    `sandbox`: one that was started before, and stays open. Raises UsageError (input, environment,
    disk) or Rejected (the program). Nothing is left behind.
    """
    began, out = time.monotonic(), Path(out)
    kernels, asked = open_backend(backend), open_backend(driver_backend(backend))
    bank = Bank.open(base, experts, include)
    check_out(out, bank, overwrite)
    settings = TraceSettings(unsafe=unsafe_sandbox)
    with scratch_beside(out) as scratch, Tracer(settings, sandbox) as tracer:
        plan = Planner(bank, tracer, asked, seed, scratch).plan(program)
        if isinstance(plan, Rejection):
            raise Rejected(plan)
        bank.release()
        if asked.name != kernels.name:
            bank.forget()
        fresh = scratch / "folder"
        fresh.mkdir()
        writer = Writer(bank, plan, kernels, fresh, memory_bytes)
        prints = writer.write(progress or (lambda done, total: None))
        digest = weights_fingerprint(prints)
        (fresh / "README.md").write_text(model_card(program, bank, plan, digest))
        put_in_place(fresh, out)
    return report_of(plan, writer, digest, out, kernels.name, time.monotonic() - began)


def open_backend(name: str) -> Backend:
    """UsageError where the backend does not exist, or not here."""
    try:
        return get_backend(name)
    except BackendError as error:
        raise UsageError(f"--backend {name}: {error}") from None


def driver_backend(chosen: str) -> str:
    """What questions and surveys run on: never a device, which is a worker's alone in a screening.

    In a merge, too: an answer's last bit may decide a plan, which is to be the same everywhere.
    """
    return "cpu" if chosen in ("auto", "triton") else chosen


# ---- where it goes -----------------------------------------------------------------------------------


def check_out(out: Path, bank: Bank, overwrite: bool) -> None:
    """UsageError before anything is paid for."""
    models = {"the base": bank.base, **{f"expert {n}": c for n, c in bank.experts.items()}}
    for model, checkpoint in models.items():
        if out.exists() and checkpoint.folder.samefile(out):
            raise UsageError(f"--out {out}: is the folder of {model} ({checkpoint.folder.name})")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise UsageError(f"--out {out}: holds files already; give --overwrite to replace them")


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, on the same disk; gone afterwards, whatever happens."""
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent, out.name)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.", dir=parent))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write there: {error.strerror}") from None
    try:
        yield scratch
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(parent: Path, name: str) -> None:
    """Temporary folders of merges to the same name whose process is dead."""
    for old in parent.glob(f".{name}.*.*"):
        pid = old.name.removeprefix(f".{name}.").split(".")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(old, ignore_errors=True)


def put_in_place(fresh: Path, out: Path) -> None:
    """Rename; an old folder goes only now that the new one is complete."""
    sync(fresh)
    if out.exists():
        old = fresh.parent / "old"
        out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            old.rename(out)
            raise
    else:
        fresh.rename(out)
    sync(out.absolute().parent)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- what is written ---------------------------------------------------------------------------------


class Writer:
    """Writes the merged tensors and copies all else.

    Files have the base's layout, so places are known before anything is computed.
    """

    def __init__(
        self, bank: Bank, plan: MergePlan, backend: Backend, folder: Path, memory: int | None
    ) -> None:
        self.bank, self.plan, self.backend, self.folder = bank, plan, backend, folder
        self.slots = make_slots(bank, list(plan.tensors), memory)
        self.prints: dict[str, TensorPrint] = {}
        self.disk = Disk()

    def write(self, progress: Progress) -> dict[str, TensorPrint]:
        """All files but the model card; the fingerprints of all tensors."""
        base = self.bank.base
        copy_companions(base.folder, self.folder)
        with ExitStack() as stack:
            files = {file: stack.enter_context(self._open(file)) for file in base.files}
            stack.enter_context(self.disk)
            with ThreadPoolExecutor(2, "writer") as writer:
                copied = writer.submit(self._copy_others, files)
                self._merge(files, writer, progress)
                copied.result()
            self.disk.finish(files.values())
        return self.prints

    @property
    def bytes_written(self) -> int:
        return sum(entry.size_bytes for entry in self.bank.base.entries.values())

    @property
    def bytes_read(self) -> int:
        """Of the files: the whole base, and the experts where they are merged."""
        experts = self.bank.experts.values()
        merged = sum(e.entries[name].size_bytes for e in experts for name in self.plan.tensors)
        return self.bytes_written + merged

    @contextmanager
    def _open(self, file: Path) -> Iterator[int]:
        """The new file, of the old one's size and with its header."""
        descriptor = os.open(self.folder / file.name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            size = file.stat().st_size
            os.posix_fallocate(descriptor, 0, size)
            starts = (e.start for e in self.bank.base.entries.values() if e.file == file)
            with file.open("rb") as source:
                write_all(descriptor, source.read(min(starts, default=size)), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def _merge(
        self, files: Mapping[Path, int], writer: ThreadPoolExecutor, progress: Progress
    ) -> None:
        names = list(self.plan.tensors)
        for done, (tensors, slot) in enumerate(stream(self.bank, names, self.slots)):
            entry = self.bank.base.entries[tensors.name]
            out = slot.out(entry.shape, entry.dtype)
            merge_tensors(self.plan.tensors, [tensors], self.bank, self.backend, [out])
            slot.written = writer.submit(self._keep, tensors.name, out, files[entry.file])
            progress(done + 1, len(names))

    def _keep(self, name: str, tensor: torch.Tensor, descriptor: int) -> None:
        """Write a merged tensor at its place. Runs in a writer's thread."""
        data = tensor.reshape(-1).view(torch.uint8).numpy()
        self.disk.write(descriptor, data, self.bank.base.entries[name].start)
        self.prints[name] = TensorPrint.of(tensor)

    def _copy_others(self, files: Mapping[Path, int]) -> None:
        """The base's other tensors, one after the other. Runs in a writer's thread."""
        buffer = memoryview(bytearray(COPY_BYTES))
        for name, entry in self.bank.base.entries.items():
            if name not in self.plan.tensors:
                digest = self._copy(entry, files[entry.file], buffer)
                self.prints[name] = TensorPrint.named(entry.dtype, entry.shape, digest)

    def _copy(self, entry: Entry, descriptor: int, buffer: memoryview) -> str:
        """A tensor's bytes to the same place of another file; their digest."""
        digest = new_digest()
        with entry.file.open("rb", buffering=0) as source:
            source.seek(entry.start)
            done = 0
            while done < entry.size_bytes:
                count = source.readinto(buffer[: entry.size_bytes - done])
                if not count:
                    raise UsageError(f"{entry.file}: cut off while it was read")
                digest.update(buffer[:count])
                self.disk.write(descriptor, buffer[:count], entry.start + done)
                done += count
        return digest.hexdigest()


def copy_companions(source: Path, target: Path) -> None:
    """Config, tokenizer, templates: every file that is neither weights nor the model card."""
    for path in source.iterdir():
        skipped = path.suffix in WEIGHTS or path.name.startswith(".") or path.name == "README.md"
        if (
            path.is_file()
            and not skipped
            and (path.name == INDEX or ".index.json" not in path.name)
        ):
            shutil.copyfile(path, target / path.name)


# ---- what is said ------------------------------------------------------------------------------------


def report_of(
    plan: MergePlan, writer: Writer, digest: str, out: Path, backend: str, seconds: float
) -> MergeReport:
    costs = [cost(name, p, writer.bank.base) for name, p in plan.tensors.items()]
    return MergeReport(
        status="ok",
        tier=plan.tier,
        reason=plan.reason,
        ops=max((ops for ops, _, _ in costs), default=0),
        passes=max((passes for _, passes, _ in costs), default=0),
        bytes=sum(moved for _, _, moved in costs),
        fingerprint=plan.fingerprint,
        weights_fingerprint=digest,
        out=str(out),
        backend=backend,
        tensors=len(plan.tensors),
        seconds=seconds,
        bytes_read=writer.bytes_read,
        bytes_written=writer.bytes_written,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
    )


def cost(name: str, plan: TensorPlan, base: Checkpoint) -> tuple[int, int, int]:
    """Ops, passes, and bytes that the plan's passes move for one tensor."""
    *rows, cols = base.shape(name) or (1,)
    shape = (rows[0] if rows else 1, cols)
    itemsize = base.dtype(name).itemsize
    if plan.graph is None:
        ops = len(plan.trace.nodes) if plan.trace else 0
        return ops, 1, 2 * itemsize * shape[0] * cols
    kernel = plan.kernel
    sizes = {n.attrs[0]: itemsize for n in plan.graph.nodes if n.op.value == "input"}
    moved = sum(plan_bytes(kernel, shape, {**sizes, "base": itemsize}))
    return len(plan.graph.nodes), num_passes(kernel), moved
