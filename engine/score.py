"""Scores: counts, an interval, every answer that they rest on, and what they were made with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import UsageError
from .resident.client import Completion, Worker
from .tasks import Grade, Question, Task, grade, grader_of

Z_95 = 1.959964


@dataclass(frozen=True)
class Score:
    """`correct` counts the task's metric; low and high are Wilson's 95 % interval."""

    correct: int
    n: int
    score: float
    low: float
    high: float
    strict: int
    flexible: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """One question, asked and graded."""

    index: int
    question: str
    prompt: str
    response: str
    extracted: str | None
    correct: bool
    strict: bool
    flexible: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def score_of(grades: Sequence[Grade | Sample], metric: str) -> Score:
    """Counts and interval of graded answers; at least one."""
    n, strict, flexible = (
        len(grades),
        sum(g.strict for g in grades),
        sum(g.flexible for g in grades),
    )
    correct = strict if metric == "strict" else flexible
    low, high = wilson(correct, n)
    return Score(correct, n, correct / n, low, high, strict, flexible)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval; it contains correct / n and stays within [0, 1]."""
    p, z2 = correct / n, Z_95**2
    middle, width = p + z2 / (2 * n), Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (middle - width) / (1 + z2 / n), (middle + width) / (1 + z2 / n)
    return max(0.0, min(low, p)), min(1.0, max(high, p))


def evaluate(
    worker: Worker,
    key: str,
    task: Task,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Score, list[Sample]]:
    """Ask all questions of a split, and grade the answers."""
    return graded(task, split, ask(worker, key, task, split, progress))


def ask(
    worker: Worker,
    key: str,
    task: Task,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """All questions of a split, greedily, as one batch. UsageError where there are none."""
    questions = task.split(split)
    if not questions:
        raise UsageError(f"--task {task.name}: has no {split} questions")
    return worker.generate(
        key,
        [q.prompt for q in questions],
        max_new_tokens=task.max_new_tokens,
        stop=task.stop,
        progress=(lambda done: progress(done, len(questions))) if progress else None,
    )


def graded(task: Task, split: str, answers: Sequence[Completion]) -> tuple[Score, list[Sample]]:
    """The answers to all questions of a split, in their order."""
    pairs = zip(task.split(split), answers, strict=True)
    samples = [judge(task, question, answer.text) for question, answer in pairs]
    return score_of(samples, task.metric), samples


def judge(task: Task, question: Question, response: str) -> Sample:
    found = grade(task.grading, response, question.answer)
    correct = found.strict if task.metric == "strict" else found.flexible
    return Sample(
        question.index,
        question.question,
        question.prompt,
        response,
        found.extracted,
        correct,
        found.strict,
        found.flexible,
    )


def provenance(task: Task, engine: str) -> dict[str, str]:
    """With what a score was made: equal ones may be compared. `engine`: with its version."""
    return {
        "engine": engine,
        "task_version": task.version,
        "grader": grader_of(task.grading),
    }
