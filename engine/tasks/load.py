"""Loads a task by its name: `gsm8k`, `math` or `jsonl:PATH`."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError, did_you_mean
from ..given import at_home
from ..weights.small_file import check_regular
from .jsonl import is_yaml, load_jsonl, read_task_file
from .published import load_published
from .task import Task

PUBLISHED = ("gsm8k", "math")
KNOWN = (*PUBLISHED, "jsonl:PATH")


def load_task(spec: str, data: Path | None = None, shots: str = "auto") -> Task:
    """The task of that name, sealed. UsageError names the wrong task, file or line."""
    if spec in PUBLISHED:
        return load_published(spec, data, shots)
    return load_jsonl(spec, path_of(spec))


def grading_of(spec: str) -> str:
    """How answers of a task are graded. Reads its YAML file, but no questions."""
    if spec in PUBLISHED:
        return spec
    path = path_of(spec)
    try:
        check_regular(path)
    except UsageError as error:
        raise UsageError(f"--task {spec}: {str(error).removeprefix(f'{path}: ')}") from None
    return read_task_file(path).extract if is_yaml(path) else "numbers"


def path_of(spec: str) -> Path:
    kind, colon, path = spec.partition(":")
    if kind != "jsonl" or not (colon and path):
        is_file = at_home(spec).is_file()
        hint = f"; write jsonl:{spec}" if is_file else did_you_mean(spec, PUBLISHED)
        raise UsageError(f"--task {spec}: no such task{hint} (there are {', '.join(KNOWN)})")
    return at_home(path)
