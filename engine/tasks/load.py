"""Where questions come from: a .jsonl file, a YAML that points to one, GSM8K or MATH.

A line is {"question", "answer"} with optional "prompt" and "split" ("dev" unless said). The prompt
is "prompt", else the YAML's template, else the question. Search reads dev only.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError
from .grading import GRADINGS, final_answer

MAX_NEW_TOKENS = 64
KNOWN = ("gsm8k", "math", "jsonl:PATH")
YAML_KEYS = {"path", "template", "stop", "max_new_tokens", "extract", "metric"}
METRICS = ("strict", "flexible")
SPLIT_SEED = 0
GSM8K_DEV, MATH_DEV, NUM_SHOTS = 100, 600, 5
LONG_ANSWER_TOKENS = 512


@dataclass(frozen=True)
class Question:
    """One question; `index` is its position in the task."""

    index: int
    question: str
    answer: str
    prompt: str
    split: str


@dataclass(frozen=True)
class Task:
    """Questions and how they are asked and judged."""

    name: str
    questions: tuple[Question, ...]
    stop: tuple[str, ...] = ()
    max_new_tokens: int = MAX_NEW_TOKENS
    metric: str = "flexible"
    grading: str = "numbers"

    def split(self, name: str) -> tuple[Question, ...]:
        """The questions of "dev" or "test"; a fixed order."""
        return tuple(q for q in self.questions if q.split == name)


def load_task(spec: str, data: Path | None = None) -> Task:
    """The task of that name. UsageError names the task, file or line at fault."""
    if spec.startswith("jsonl:"):
        return load_jsonl(spec, Path(spec.removeprefix("jsonl:")))
    if spec == "gsm8k":
        return load_gsm8k(data)
    if spec == "math":
        return load_math(data)
    raise UsageError(f"--task {spec}: no such task; there are {', '.join(KNOWN)}")


def grading_of(spec: str) -> str:
    """How answers of a task are graded; needs no data."""
    if spec.startswith("jsonl:"):
        return "numbers"
    if spec in GRADINGS and spec != "numbers":
        return spec
    raise UsageError(f"--task {spec}: no such task; there are {', '.join(KNOWN)}")


def load_jsonl(spec: str, path: Path) -> Task:
    if path.suffix in (".yaml", ".yml"):
        return load_yaml(spec, path)
    questions = tuple(
        question_of(i, row, None, place) for i, (place, row) in enumerate(rows_of(path))
    )
    return Task(spec, questions)


def load_yaml(spec: str, path: Path) -> Task:
    try:
        settings: dict[str, Any] = yaml.safe_load(read(path))
        assert isinstance(settings, dict)
        assert isinstance(settings.get("path"), str)
    except (yaml.YAMLError, AssertionError) as error:
        raise UsageError(f"{path}: not a task: a mapping with `path` is wanted ({error})") from None
    if unknown := settings.keys() - YAML_KEYS:
        known = ", ".join(sorted(YAML_KEYS))
        raise UsageError(f"{path}: unknown key {sorted(unknown)[0]!r}; there are {known}")
    metric, extract = settings.get("metric", "flexible"), settings.get("extract", "numbers")
    if metric not in METRICS or extract not in GRADINGS:
        raise UsageError(f"{path}: metric is one of {METRICS}, extract one of {GRADINGS}")
    rows = rows_of(path.parent / settings["path"])
    template = settings.get("template")
    questions = tuple(question_of(i, row, template, place) for i, (place, row) in enumerate(rows))
    stop = settings.get("stop") or ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    limit = int(settings.get("max_new_tokens", MAX_NEW_TOKENS))
    return Task(spec, questions, stops, limit, metric, extract)


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, object) of each line; at least one. Lines end at \\n only: U+2028 is text."""
    empty = True
    for number, line in enumerate(read(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}:{number}: not a JSON object")
        empty = False
        yield f"{path}:{number}", row
    if empty:
        raise UsageError(f"{path}: holds no questions")


def question_of(index: int, row: dict[str, Any], template: str | None, place: str) -> Question:
    for key in ("question", "answer"):
        if key not in row:
            raise UsageError(f"{place}: lacks {key!r}")
    question, split = str(row["question"]), row.get("split", "dev")
    if split not in ("dev", "test"):
        raise UsageError(f"{place}: split is {split!r}, not dev or test")
    prompt = row.get("prompt") or (
        template.replace("{question}", question) if template else question
    )
    return Question(index, question, str(row["answer"]), str(prompt), split)


# ---- the paper's tasks ----------------------------------------------------------------------------------


def local(data: Path | None, name: str, file: str) -> Path:
    if data is None:
        raise UsageError(
            f"--task {name}: give --data DIR with {name}/{file} "
            "(lines as published; there is no download here)"
        )
    return data / name / file


def split_names(count: int, dev: int) -> list[str]:
    """`dev` of the questions are the search's, by a fixed draw; the rest is the test."""
    chosen = set(random.Random(SPLIT_SEED).sample(range(count), min(dev, count)))
    return ["dev" if i in chosen else "test" for i in range(count)]


def load_gsm8k(data: Path | None) -> Task:
    """GSM8K: 5 fixed shots of train, 100 of the test lines for dev, greedy, "####" form."""
    shots = [
        row
        for _, (_, row) in zip(
            range(NUM_SHOTS), rows_of(local(data, "gsm8k", "train.jsonl")), strict=False
        )
    ]
    head = "".join(f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in shots)
    rows = [row for _, row in rows_of(local(data, "gsm8k", "test.jsonl"))]
    splits = split_names(len(rows), GSM8K_DEV)
    questions = tuple(
        Question(
            i,
            r["question"],
            final_answer(r["answer"]),
            f"{head}Question: {r['question']}\nAnswer:",
            s,
        )
        for i, (r, s) in enumerate(zip(rows, splits, strict=True))
    )
    stops = ("Question:", "</s>", "<|im_end|>")
    return Task("gsm8k", questions, stops, LONG_ANSWER_TOKENS, "strict", "gsm8k")


def load_math(data: Path | None) -> Task:
    """MATH: shots of train, 600 of the test lines for dev, boxed answers."""
    shots = [
        row
        for _, (_, row) in zip(
            range(NUM_SHOTS - 1), rows_of(local(data, "math", "train.jsonl")), strict=False
        )
    ]
    head = "".join(f"Problem:\n{r['problem']}\n\nSolution: {r['solution']}\n\n" for r in shots)
    rows = [row for _, row in rows_of(local(data, "math", "test.jsonl"))]
    splits = split_names(len(rows), MATH_DEV)
    questions = tuple(
        Question(i, r["problem"], r["solution"], f"{head}Problem:\n{r['problem']}\n\nSolution:", s)
        for i, (r, s) in enumerate(zip(rows, splits, strict=True))
    )
    return Task("math", questions, ("Problem:",), LONG_ANSWER_TOKENS, "strict", "math")
