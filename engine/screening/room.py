"""Plans what the workers of a screening may take of this machine's cards. Nothing here loads torch."""

from __future__ import annotations

from pathlib import Path

from ..resident.messages import EngineSettings
from ..resident.sizes import MAX_MODEL_LEN
from ..weights.capacity import Demand, Models, Shares, plan_capacity
from ..weights.checkpoint import Checkpoint
from ..weights.machine import Machine, machine_for
from ..weights.selection import Selection
from ..weights.shapes import ModelShapes, shapes_of
from ..weights.training import Training
from ..workers.cluster import connect
from .settings import ScreenSettings

# Assumed of a question with its shots, beside its answer.
PROMPT_TOKENS, ANSWER_TOKENS = 1100, 256
# A pattern that is in no name of a tensor.
NOTHING = "(?!)"


def demand_of(
    base: ModelShapes,
    include: str,
    max_model_len: int | None,
    memory_bytes: int | None,
    gpu_memory_bytes: int | None,
    training: Training | None = None,
    workers: int | None = None,
) -> Demand:
    """Return what a run or a screening asks of a machine, apart from its models."""
    longest = base.number("max_position_embeddings") or MAX_MODEL_LEN
    context = min(longest, max_model_len or MAX_MODEL_LEN)
    return Demand(
        include=include,
        sequences=EngineSettings().max_num_seqs,
        context=context,
        tokens=min(context, PROMPT_TOKENS + ANSWER_TOKENS),
        training=training,
        host_bytes=memory_bytes,
        gpu_bytes=gpu_memory_bytes,
        workers=workers,
    )


def shares_here(
    settings: ScreenSettings, selection: Selection, writer: Checkpoint | None
) -> Shares | None:
    """Return what each worker may take of its machine; None without cards. UsageError where it cannot fit.

    That is this machine, or a node of the cluster. `writer` is the model that writes programs in an
    engine of its own.
    """
    if settings.address:
        machine = connect(settings.address).machine
        return machine and shares_on(machine, settings, selection, writer)
    return shares_on(machine_for(None, Path.cwd()), settings, selection, writer)


def shares_on(
    machine: Machine, settings: ScreenSettings, selection: Selection, writer: Checkpoint | None
) -> Shares | None:
    """Return what each worker may take of a machine, on a card each; None without cards."""
    if not machine.gpus:
        return None
    experts = {name: shapes_of(expert) for name, expert in selection.experts.items()}
    base = shapes_of(selection.base)
    models = Models(base, experts, shapes_of(writer) if writer else None)
    taken = Machine(machine.gpus[: settings.workers], machine.host_bytes, machine.disk_bytes)
    demand = demand_of(
        base,
        selection.include,
        settings.max_model_len,
        settings.memory_bytes,
        settings.gpu_memory_bytes,
    )
    # Ray starts each worker of a node apart from the others, so none has a bank that it could share.
    num_banks = len(taken.gpus) if settings.address else 1
    return Shares.of(plan_capacity(models, taken, demand), num_banks)


def cache_alone(model: Checkpoint, memory_bytes: int | None) -> int | None:
    """Return the bytes of the cache of a model that is asked alone, with no bank beside it.

    On a card it is what the plan leaves; without one `memory_bytes`. UsageError where it cannot fit.
    """
    machine, shapes = machine_for(None, Path.cwd()), shapes_of(model)
    if not machine.gpus:
        return memory_bytes
    one = Machine(machine.gpus[:1], machine.host_bytes, machine.disk_bytes)
    demand = demand_of(shapes, NOTHING, None, memory_bytes, None)
    return Shares.of(plan_capacity(Models(shapes, {}), one, demand)).cache
