"""`--plan`: the memory, time and disk that a run or a screening needs on a machine, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError
from ..engine.resident.alike import are_alike
from ..engine.screening.room import demand_of
from ..engine.weights.capacity import Models, plan_capacity
from ..engine.weights.checkpoint import Checkpoint
from ..engine.weights.durations import Amounts, Assumed, estimate
from ..engine.weights.locate import here
from ..engine.weights.machine import GIB, Machine, machine_for
from ..engine.weights.shapes import ModelShapes, published_shapes, shapes_of
from ..engine.weights.training import Training

# Assumed of a prompt and a program.
PAIR_TOKENS = 1000
# What `plan_of` returns; all else in a plan are counts.
FIELDS = (
    *("devices", "host", "disk", "sequences", "kv_tokens", "bank", "stages", "seconds", "assumed"),
    "notes",
)


@dataclass(frozen=True)
class Request:
    """What is planned: places of models by role, what is merged, on which cards, and how much."""

    base: str
    experts: Mapping[str, str]
    generator: str
    include: str
    gpus: str | None
    folder: Path
    amounts: Amounts
    training: Training | None = None
    max_model_len: int | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    assumed: Assumed = field(default_factory=Assumed)
    workers: int | None = None  # None: one on each card, or one


def plan_of(request: Request) -> dict[str, Any]:
    """Return the fields of the plan; without the base's shapes only a note.

    UsageError where something cannot fit.
    """
    notes: list[str] = []
    machine = machine_for(request.gpus, request.folder)
    count = num_workers(request, machine)
    base = shapes_at(request.base)
    if base is None:
        return {"workers": count, "notes": [unknown("base", request.base)]}
    models = models_of(request, base, notes)
    demand = demand_of(
        base,
        request.include,
        request.max_model_len,
        request.memory_bytes,
        request.gpu_memory_bytes,
        request.training,
        request.workers,
    )
    capacity = plan_capacity(models, machine, demand)
    if capacity.sequences is None:
        notes.append(
            "the key-value cache of this model is not known: its layers are of several kinds, "
            "or its config does not tell their sizes"
        )
    times = estimate(models, machine, capacity, request.amounts, request.assumed)
    if not machine.gpus:
        notes.append("no card: nothing is assumed of its speed, so seconds are not known")
    planned = {**capacity.to_json(), **(times.to_json() if times else {}), "notes": notes}
    return {"workers": count, **planned}


def num_workers(request: Request, machine: Machine) -> int:
    """Return the number of engines at a time. UsageError where the machine has fewer cards."""
    cards = len(machine.gpus)
    if request.workers and cards and request.workers > cards:
        which = "this machine" if request.gpus is None else f"--gpus {request.gpus}"
        raise UsageError(f"--workers {request.workers}: each takes a GPU, and {which} has {cards}")
    return request.workers or max(1, cards)


def models_of(request: Request, base: ModelShapes, notes: list[str]) -> Models:
    """Return the shapes of all models. One that is not known is counted as the base, with a note."""
    experts = dict[str, ModelShapes]()
    for name, place in request.experts.items():
        found = shapes_at(place)
        if found is None:
            notes.append(f"{unknown(f'expert {name}', place)}: counted as the base")
        experts[name] = found or base
    if request.generator in ("", request.base) or are_alike_here(request):
        return Models(base, experts)
    generator = shapes_at(request.generator)
    if generator is None:
        notes.append(f"{unknown('generator', request.generator)}: counted as the base")
    return Models(base, experts, generator or base)


def are_alike_here(request: Request) -> bool:
    """Tell whether base and generator are here, and differ in their weights alone."""
    if not (here(request.base) and here(request.generator)):
        return False
    return are_alike(Checkpoint.open(request.base), Checkpoint.open(request.generator))


def shapes_at(place: str) -> ModelShapes | None:
    """Return the shapes of a model by its headers, or by its published config; None if not known."""
    folder = here(place)
    return published_shapes(place) if folder is None else shapes_of(Checkpoint.open(str(folder)))


def unknown(role: str, place: str) -> str:
    return f"{role} ({place}) is not downloaded, and its shapes are not known"


# ---- as text


def render_plan(plan: Mapping[str, Any]) -> str:
    """Return the counts of a plan, and then the fields that `plan_of` gives, one a line."""
    lines = [f"{key:<27} {value}" for key, value in plan.items() if key not in FIELDS]
    if devices := plan.get("devices"):
        counted = {repr(d): devices.count(d) for d in devices}
        for device in {repr(d): d for d in devices}.values():
            lines += rows(f"{counted[repr(device)]} x {device['name']}", device)
            if "training" in device:
                terms = device["training"]
                lines.append(f"  {'while training':<26}{text_of(terms)}")
        lines += rows("host", plan["host"]) + rows("disk", plan["disk"])
        lines.append(f"{'sequences at once':<28}{shown(plan['sequences'])}")
        lines.append(f"{'tokens in the cache':<28}{shown(plan['kv_tokens'])}")
    for name, seconds in plan.get("stages", {}).items():
        lines.append(f"{f'minutes of {name}':<28}{seconds / 60:.1f}")
    if "seconds" in plan:
        lines.append(f"{'minutes together':<28}{plan['seconds'] / 60:.1f} (estimated)")
        assumed = ", ".join(f"{k} {v:g}" for k, v in plan["assumed"].items())
        lines.append(f"{'assumed':<28}{assumed}")
    lines += [f"{'note':<28}{note}" for note in plan.get("notes", ())]
    return "\n".join(lines)


def rows(title: str, device: Mapping[str, Any]) -> list[str]:
    used = sum(device["terms"].values())
    head = f"{title:<27} {used / GIB:.2f} of {device['bytes'] / GIB:.2f} GiB"
    return [head, f"  {'':<26}{text_of(device['terms'])}"]


def text_of(terms: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size / GIB:.2f}" for name, size in terms.items())


def shown(number: int | None) -> str:
    return "not known" if number is None else str(number)
