"""Scores: counts, an interval, every answer that they rest on, and what they were made with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..tasks.grading import Grade, grade, grader_of
from ..tasks.task import Question, Task

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
