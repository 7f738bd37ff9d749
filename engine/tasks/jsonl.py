"""Tasks `jsonl:PATH`: a user's own questions in a file of JSON lines, or in a YAML file.

The YAML file names a file of JSON lines and says how to ask.

A line has "question" and "answer", and may have "prompt" and "split" ("dev" or "test"; "dev" is the
default). The prompt is "prompt", else the template of the YAML file, else the question.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import UsageError, did_you_mean
from ..given import at_home
from ..weights.headers import shown
from ..weights.small_file import check_inside, read_text
from ..weights.strict_yaml import in_yaml, load_yaml
from .grading import check_reference
from .rows import Row, rows_of, text_of
from .task import MAX_NEW_TOKENS, Question, Task

SPLITS = ("dev", "test")
KEYS = ("question", "answer", "prompt", "split")
# From this similarity on, an unknown key is taken for a misspelt one ("spilt").
ALIKE = 0.8


EXTRACT = ", or a TASK.yaml with `path` and `extract: gsm8k`"


class TaskFile(BaseModel):
    """The content of a task's YAML file. `path` is relative to that file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    template: str = Field(default="{question}", pattern=r"\{question\}")
    stop: str | list[str] = []
    max_new_tokens: int = Field(default=MAX_NEW_TOKENS, ge=1)
    extract: Literal["numbers", "gsm8k", "math"] = "numbers"
    metric: Literal["strict", "flexible"] = "flexible"


def is_yaml(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml")


def load_jsonl(spec: str, path: Path) -> Task:
    file = read_task_file(path) if is_yaml(path) else TaskFile(path=path.name)
    place = path.parent / at_home(file.path)
    if is_yaml(path):
        # Whoever wrote the task chose this path, and not whoever runs it.
        check_inside(place, path.parent, "`path`")
    questions = questions_of(rows_of(place), file.template, file.extract)
    stop = (file.stop,) if isinstance(file.stop, str) else tuple(file.stop)
    if "" in stop:
        raise UsageError(f"{path}: an empty stop string would end every answer at once")
    return Task(spec, questions, stop, file.max_new_tokens, file.metric, file.extract)


def read_task_file(path: Path) -> TaskFile:
    """Read and check a YAML file. UsageError names the file and the wrong key."""
    try:
        data = load_yaml(read_text(path), path)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {in_yaml(error)}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: not a task: a mapping with `path` is wanted")
    try:
        return TaskFile(**{str(key): value for key, value in data.items()})
    except ValidationError as error:
        raise UsageError(f"{path}: {fault_of(error)}") from None


def fault_of(error: ValidationError) -> str:
    found = error.errors()
    # A misspelt `path` is both unknown and missing.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    key, keys = str(first["loc"][0]), TaskFile.model_fields
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; there are {', '.join(keys)}{did_you_mean(key, keys)}"
    if first["type"] == "string_pattern_mismatch":
        return f"{key}: must contain {{question}}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}"


def questions_of(rows: Iterable[Row], template: str, extract: str) -> tuple[Question, ...]:
    numbered = enumerate(rows)
    return tuple(question_of(i, row, template, extract, place) for i, (place, row) in numbered)


def question_of(
    index: int, row: dict[str, object], template: str, extract: str, place: str
) -> Question:
    check_keys(place, row)
    question, answer = text_of(place, row, "question"), text_of(place, row, "answer")
    if why := check_reference(extract, answer):
        raise UsageError(f"{place}: 'answer' {why}{EXTRACT if '####' in why else ''}")
    split = row.get("split", "dev")
    if split not in SPLITS:
        raise UsageError(f"{place}: split is {shown(repr(split))}, not dev or test")
    given = row.get("prompt") is not None
    prompt = text_of(place, row, "prompt") if given else template.replace("{question}", question)
    return Question(index, question, answer, prompt, split)


def check_keys(place: str, row: dict[str, object]) -> None:
    """UsageError for a key that is nearly one of ours: a misspelt `split` would move test to dev.

    Data sets have many other keys, which are not read; nor are similar ones beside ours ("answers").
    """
    for key in row.keys() - set(KEYS):
        near = difflib.get_close_matches(key.lower(), KEYS, 1, ALIKE)
        if near and near[0] not in row:
            raise UsageError(f"{place}: unknown key {key!r}; did you mean {near[0]!r}?")
