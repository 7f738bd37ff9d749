"""A merge to disk: a complete Hugging Face folder, streamed tensor by tensor.

The new files have the base's layout (same shards, same order, same header), so every tensor's place
is known and files are preallocated. All is written beside `out` under a temporary name, synced, and
renamed at the end: a folder of that name is complete, or not there.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import Rejected, Rejection
from .output.card import model_card
from .output.folder import check_out, put_in_place, scratch_beside
from .output.writer import Progress, Writer
from .plans.backends import driver_backend, open_backend
from .plans.cost import cost
from .plans.plan import Plan
from .plans.planner import Planner
from .program import Program
from .sandbox.box import Sandbox
from .trace.settings import TraceSettings
from .trace.tracer import Tracer
from .weights.bank import Bank
from .weights.fingerprint import weights_fingerprint


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


# ---- what is said ------------------------------------------------------------------------------------


def report_of(
    plan: Plan, writer: Writer, digest: str, out: Path, backend: str, seconds: float
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
