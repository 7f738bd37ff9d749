"""Checks what a screening is given before anything is started. Nothing here loads torch.

A wrong path, tensor, task or backend is reported in the first second.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ...kernels.backends import check_name
from ...kernels.errors import BackendError
from ..errors import UsageError
from ..resident.client import check_engine, choose_engine
from ..resident.runnable import check_runnable
from ..resident.sizes import cache_bytes
from ..tasks.jsonl import is_yaml, read_task_file
from ..tasks.load import load_task, path_of
from ..tasks.task import Task
from ..weights.budget import bank_share, cache_share, choose_homes, tensor_share
from ..weights.checkpoint import Checkpoint
from ..weights.selection import Selection
from .place import model_places
from .settings import ScreenSettings


def check_inputs(settings: ScreenSettings, num_engines: int = 1) -> None:
    """Raise UsageError where models, task, engine, backend, context or --memory are wrong."""
    check_backend(settings.backend)
    check_engine(settings.engine)
    check_models(settings, num_engines)
    check_task(settings)


def check_models(settings: ScreenSettings, num_engines: int = 1) -> None:
    """Raise UsageError where base or experts are wrong, or do not fit into --memory."""
    selection = open_selection(settings)
    check_model(selection.base, settings)
    share = bank_share(settings.memory_bytes, num_engines)
    if share is not None:
        choose_homes(selection.sizes(selection.names), tensor_share(share))


def check_model(checkpoint: Checkpoint, settings: ScreenSettings) -> None:
    """Raise UsageError where a model cannot be asked questions.

    It may lack a tokenizer, be of a kind that the engine does not run, read too short a context, or have no
    room for its key-value cache.
    """
    engine = choose_engine(settings.engine)
    context = check_runnable(checkpoint, engine, settings.max_model_len)
    if engine == "vllm":
        cache_bytes(checkpoint, context, 1, cache_share(settings.memory_bytes))


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
            places["the task's questions"] = (
                file.parent / Path(read_task_file(file).path).expanduser()
            )
    return places
