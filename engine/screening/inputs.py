"""Checks what a screening is given before anything is started. Nothing here loads torch.

A wrong path, tensor, task or backend is reported in the first second.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ...kernels.backends import NAMES, check_name
from ...kernels.errors import BackendError
from ..errors import UsageError, did_you_mean
from ..given import at_home
from ..resident.client import check_engine, choose_engine
from ..resident.runnable import check_runnable
from ..resident.sizes import cache_bytes
from ..tasks.jsonl import is_yaml, read_task_file
from ..tasks.load import PUBLISHED, load_task, path_of
from ..tasks.task import Task
from ..weights.budget import bank_share, cache_share, choose_homes, tensor_share
from ..weights.checkpoint import Checkpoint
from ..weights.locate import check_utf8, here
from ..weights.machine import GIB, devices_here, host_bytes
from ..weights.selection import Selection
from ..workers.cluster import connect
from .place import model_places
from .room import shares_here
from .settings import ScreenSettings

# Memory of a worker beside its models, with Python, torch and an engine: 0.4 GiB were seen.
PROCESS_BYTES = 1 << 28


def check_inputs(
    settings: ScreenSettings,
    writer: Checkpoint | None = None,
    offline: bool = False,
    elsewhere: bool = False,
) -> None:
    """Raise UsageError where models, task, engine, backend, context or memory are wrong.

    `writer` is a model that each worker has open beside the base. With `offline` nothing is downloaded;
    with `elsewhere` the screening is for another machine.
    """
    check_backend(settings.backend)
    check_engine(settings.engine)
    if not offline or models_are_here(settings):
        check_models(settings, writer)
        if not elsewhere:
            check_workers(settings, writer)
    if not offline or not is_on_hub(settings):
        check_task(settings)


def models_are_here(settings: ScreenSettings) -> bool:
    """Tell whether no model would be downloaded. UsageError for a place that is no model at all."""
    found = [here(place) for place in (settings.base, *settings.experts.values())]
    return None not in found


def is_on_hub(settings: ScreenSettings) -> bool:
    """Tell whether the task's questions are the hub's."""
    return settings.task in PUBLISHED and settings.data is None


def default_workers(address: str | None = None) -> int:
    """Return the number of workers where none is given: one for each GPU, or one without GPUs.

    With the address of a cluster it is one for each of its GPUs, or for each of its nodes.
    """
    return connect(address).slots.default_workers if address else max(1, len(devices_here()))


def check_workers(settings: ScreenSettings, writer: Checkpoint | None) -> None:
    """Raise UsageError where there are more workers than GPUs, or than the memory holds.

    With GPUs it is the plan that says so, for base, experts and `writer`. In a cluster workers may wait
    for nodes that join, but some place must be free.
    """
    if settings.address:
        connect(settings.address).check_free()
        shares_here(settings, open_selection(settings), writer)
        return
    count, num_gpus = settings.workers, len(devices_here())
    if num_gpus and count > num_gpus:
        raise UsageError(f"--workers {count}: each takes a GPU, and this machine has {num_gpus}")
    models = [Checkpoint.open(settings.base), *([writer] if writer else [])]
    sizes = [entry.size_bytes for model in models for entry in model.entries.values()]
    each = sum(sizes) + PROCESS_BYTES
    if not num_gpus and count > 1 and count * each > host_bytes():
        raise UsageError(
            f"--workers {count}: each takes {each / GIB:.1f} GiB at least, and this machine has "
            f"{host_bytes() / GIB:.1f} GiB: give fewer"
        )
    shares_here(settings, open_selection(settings), writer)


def check_models(settings: ScreenSettings, writer: Checkpoint | None = None) -> None:
    """Raise UsageError where base or experts are wrong, or do not fit into --memory."""
    selection = open_selection(settings)
    for expert in selection.experts.values():
        check_utf8(expert.folder)
    check_model(selection.base, settings)
    share = bank_share(settings.memory_bytes, 1 if writer is None else 2)
    if share is not None:
        choose_homes(selection.sizes(selection.names), tensor_share(share))


def check_model(checkpoint: Checkpoint, settings: ScreenSettings) -> int:
    """Return the tokens of a model's context. UsageError where the model cannot be asked questions.

    It may lack a tokenizer, be of a kind that the engine does not run, read too short a context, or have no
    room for its key-value cache.
    """
    engine = choose_engine(settings.engine)
    context = check_runnable(checkpoint, engine, settings.max_model_len)
    if engine == "vllm":
        share = cache_share(settings.memory_bytes, settings.workers)
        # On a GPU the cache is there, and --memory is about the host.
        cache_bytes(checkpoint, context, 1, None if devices_here() else share)
    return context


def check_task(settings: ScreenSettings) -> None:
    """Raise UsageError where the task cannot be read, or has no questions to search on."""
    check_split(open_task(settings), "dev")


def check_split(task: Task, split: str) -> None:
    """Raise UsageError where a task has no questions of a split; it says which it has."""
    counts = Counter(question.split for question in task.rows)
    if not counts:
        raise UsageError(f"--task {task.name}: has no questions")
    if not counts[split]:
        there = " and ".join(f"{number} {name}" for name, number in counts.items())
        raise UsageError(f"--task {task.name}: has no {split} questions; it has {there} questions")


def check_backend(name: str) -> None:
    """Raise UsageError where no backend has this name."""
    try:
        check_name(name)
    except BackendError as error:
        near = did_you_mean(name, NAMES)
        raise UsageError(f"--backend {name}: {error}{near}") from None


def open_selection(settings: ScreenSettings) -> Selection:
    """Read the headers of base and experts. UsageError for bad input."""
    return Selection.open(settings.base, settings.experts, settings.include)


def open_task(settings: ScreenSettings) -> Task:
    """Load the questions of a run. UsageError where they cannot be read."""
    return load_task(settings.task, Path(settings.data) if settings.data else None, settings.shots)


def places_read(settings: ScreenSettings) -> dict[str, Path]:
    """Files and folders of a screening's inputs, by what they are."""
    places = model_places(settings.base, settings.experts)
    if settings.data:
        places["--data"] = Path(settings.data)
    if settings.task.startswith("jsonl:"):
        places["the task"] = file = path_of(settings.task)
        if is_yaml(file):
            places["the task's questions"] = file.parent / at_home(read_task_file(file).path)
    return places
