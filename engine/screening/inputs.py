"""Checks what a screening is given before anything is started. Nothing here loads torch.

A wrong path, tensor, task or backend is reported in the first second.
"""

from __future__ import annotations

from pathlib import Path

from ...kernels.backends import check_name
from ...kernels.errors import BackendError
from ..errors import UsageError
from ..resident.client import choose_engine
from ..resident.runnable import check_runnable
from ..resident.sizes import cache_bytes
from ..tasks.jsonl import is_yaml, read_task_file
from ..tasks.load import load_task, path_of
from ..tasks.task import Task
from ..weights.budget import cache_share
from ..weights.selection import Selection
from .place import model_places
from .settings import ScreenSettings


def check_inputs(settings: ScreenSettings) -> None:
    """Raise UsageError where models, task, backend, context or --memory are wrong."""
    check_backend(settings.backend)
    selection = open_selection(settings)
    open_task(settings)
    engine = choose_engine(settings.engine)
    context = check_runnable(selection.base, engine, settings.max_model_len)
    if engine == "vllm":
        cache_bytes(selection.base, context, 1, cache_share(settings.memory_bytes))


def check_backend(name: str) -> None:
    """Raise UsageError where no backend has this name."""
    try:
        check_name(name)
    except BackendError as error:
        raise UsageError(f"--backend {name}: {error}") from None


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
            places["the task's questions"] = file.parent / read_task_file(file).path
    return places
