"""Merges to disk: the result is a complete Hugging Face folder, streamed tensor by tensor.

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

from .errors import Rejected, Rejection
from .given import checked, given_experts, instance
from .output.card import model_card
from .output.companions import Companions
from .output.folder import check_out, put_in_place, scratch_beside
from .output.licence import CARD
from .output.origin import Origin, digests_of
from .output.owned import PROGRAM, write_marker
from .output.read_back import read_back
from .output.writer import Progress, Writer
from .plans.backends import driver_backend, open_backend
from .plans.cells import Cells
from .plans.cost import Cost, cost_of
from .plans.plan import Plan, TensorPlan
from .plans.planner import Planner
from .plans.updates import Updates, available_cores
from .program import Program
from .resident.check import Check, check_askable, check_folder
from .sandbox.box import Sandbox
from .trace.settings import TraceSettings
from .trace.tracer import Tracer
from .weights.bank import Bank
from .weights.fingerprint import weights_fingerprint


@dataclass(frozen=True)
class MergeReport:
    """What a merge did, as `merge --json` prints it.

    `ops` and `passes` are the most of any tensor, `bytes` the plan's cost over all tensors.
    `bytes_read`, `bytes_written` and `seconds` are of the whole command's work.
    """

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
    # What people should know, such as files of the base that were left out.
    notes: list[str]
    # What `check` found, where it was asked for.
    check: Check | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@checked(
    program=instance(Program, "a Program, as sd.extract returns it"),
    sandbox=instance(Sandbox, "an open Sandbox"),
    origin=instance(Origin, "an Origin"),
)
def merge_to_folder(
    program: Program,
    *,
    base: str | Path,
    experts: Mapping[str, str | Path],
    out: str | Path,
    include: str = "mlp",
    backend: str = "auto",
    overwrite: bool = False,
    seed: int = 0,
    unsafe_sandbox: bool = False,
    memory_bytes: int | None = None,
    progress: Progress | None = None,
    sandbox: Sandbox | None = None,
    also_read: Mapping[str, Path] | None = None,
    check: bool = False,
    trust_remote_code: bool = False,
    origin: Origin | None = None,
) -> MergeReport:
    """Apply the program and write the merged checkpoint to `out`.

    A `sandbox` that is given was started before, and stays open. `memory_bytes` bounds the tensors in
    flight. `also_read` are inputs besides the models; a key says what the input is. `check` loads the
    result in transformers and asks it one question. `trust_remote_code` copies the base's code, too. `origin`
    is the run that a candidate comes from: the model card tells it. Raises UsageError (input, environment,
    disk) or Rejected (the program); then nothing is left behind. The commands `merge` and `export` call this.
    """
    began, out = time.monotonic(), Path(out)
    kernels, asked = open_backend(backend), open_backend(driver_backend(backend))
    bank = Bank.open(str(base), given_experts("experts", experts), include)
    if check:
        check_askable(bank.selection.base)
    companions = Companions.of(bank.selection.base.folder, trust_remote_code)
    settings = TraceSettings(unsafe=unsafe_sandbox)
    with scratch_beside(out) as scratch, Tracer(settings, sandbox) as tracer:
        replaced = check_out(out, bank.selection, overwrite, also_read)
        cells = Cells.of(bank.selection, tracer, memory_bytes)
        plan = Planner(bank, tracer, asked, seed, cells).plan(program)
        if isinstance(plan, Plan):
            plan = Updates(cells, scratch, available_cores()).computed(plan)
        bank.selection.check_unchanged()
        if isinstance(plan, Rejection):
            raise Rejected(plan)
        bank.residency.release()
        if asked.name != kernels.name:
            bank.memos.forget()
        fresh = scratch / "folder"
        fresh.mkdir()
        writer = Writer(bank, plan, kernels, fresh, memory_bytes, companions)
        told = Told(program, seed, origin)
        digest = write_folder(writer, told, progress or (lambda done, total: None))
        checked = check_folder(fresh, digest, scratch / "check.log") if check else None
        put_in_place(fresh, out, replaced)
    differs = origin and origin.difference(plan.fingerprint, digest)
    seconds = time.monotonic() - began
    return report_of(plan, writer, digest, out, kernels.name, checked, differs, seconds)


@dataclass(frozen=True)
class Told:
    """What a merged folder says of itself besides the models: its program, seed and run."""

    program: Program
    seed: int
    origin: Origin | None


def write_folder(writer: Writer, told: Told, progress: Progress) -> str:
    """Write all of the merged folder and read it back. Returns the weights' fingerprint.

    Raises Rejected where the plan's result cannot be used.
    """
    prints = writer.write(progress)
    writer.bank.selection.check_unchanged()
    if isinstance(prints, Rejection):
        raise Rejected(prints)
    digest, selection = weights_fingerprint(prints), writer.bank.selection
    sums = digests_of(writer.folder) if told.origin else None
    origin = told.origin and told.origin.told(writer.plan.fingerprint, digest)
    how = {"seed": told.seed, "origin": origin, "digests": sums}
    card = model_card(told.program, selection, writer.plan, digest, **how)
    (writer.folder / CARD).write_text(card)
    code = told.program.code.encode("utf-8", "backslashreplace")
    (writer.folder / PROGRAM).write_bytes(code)
    write_marker(writer.folder, {"program": writer.plan.fingerprint, "weights": digest})
    read_back(writer.folder, selection.base, writer.companions)
    return digest


def report_of(
    plan: Plan,
    writer: Writer,
    digest: str,
    out: Path,
    backend: str,
    checked: Check | None,
    differs: str | None,
    seconds: float,
) -> MergeReport:
    """Make the report of a merge from its plan and its writer."""
    costs = [tensor_cost(writer.bank, name, p) for name, p in plan.tensors.items()]
    return MergeReport(
        status="ok",
        tier=plan.tier,
        reason=plan.reason,
        ops=max((cost.ops for cost in costs), default=0),
        passes=max((cost.passes for cost in costs), default=0),
        bytes=sum(cost.bytes for cost in costs),
        fingerprint=plan.fingerprint,
        weights_fingerprint=digest,
        out=str(out),
        backend=backend,
        tensors=len(plan.tensors),
        seconds=seconds,
        bytes_read=writer.bytes_read,
        bytes_written=writer.bytes_written,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        notes=[
            *([differs] if differs else []),
            *unmoved(writer),
            *writer.bank.selection.notes,
            *(f"left out: {what}" for what in writer.companions.left_out),
        ],
        check=checked,
    )


def unmoved(writer: Writer) -> list[str]:
    """Say where a merge changed nothing at all."""
    if writer.has_moved:
        return []
    number = len(writer.plan.tensors)
    why = f"the update is 0, or too small for the dtype, in each of {number} tensors"
    return [f"the result equals the base: {why if number else 'so do all experts'}"]


def tensor_cost(bank: Bank, name: str, plan: TensorPlan) -> Cost:
    """Return the cost of one tensor's plan, with the dtypes of base and experts."""
    models = {"base": bank.selection.base, **bank.selection.experts}
    itemsizes = {model: c.dtype(name).itemsize for model, c in models.items()}
    return cost_of(plan, bank.selection.base.shape(name), itemsizes)
