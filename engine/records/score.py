"""Scores: counts of right answers, an interval, all answers, and what they were made with."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

from ..tasks.grading import Grade, grade, grader_of
from ..tasks.grading.math_verify import MOST_PROCESSES
from ..tasks.task import Question, Task

Z_95 = 1.959964


@dataclass(frozen=True)
class Score:
    """How many of `n` questions were answered right.

    `correct` counts by the task's metric, `strict` and `flexible` by each way of grading. `low` and
    `high` are Wilson's 95 % interval of `score` = correct / n.
    """

    correct: int
    n: int
    score: float
    low: float
    high: float
    strict: int
    flexible: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """One question with its answer and grades."""

    index: int
    question: str
    prompt: str
    response: str
    extracted: str | None
    correct: bool
    strict: bool
    flexible: bool

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def score_of(grades: Sequence[Grade | Sample], metric: str) -> Score:
    """Return the Score of graded answers, of which there must be at least one."""
    n, strict, flexible = (
        len(grades),
        sum(g.strict for g in grades),
        sum(g.flexible for g in grades),
    )
    correct = strict if metric == "strict" else flexible
    low, high = wilson(correct, n)
    return Score(correct, n, correct / n, low, high, strict, flexible)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval; it contains correct / n and stays within [0, 1]."""
    p, z2 = correct / n, Z_95**2
    middle, width = p + z2 / (2 * n), Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (middle - width) / (1 + z2 / n), (middle + width) / (1 + z2 / n)
    return max(0.0, min(low, p)), min(1.0, max(high, p))


def judge(task: Task, question: Question, response: str) -> Sample:
    """Grade one answer to a question of the task.

    An answer that breaks the grader counts as wrong, and `extracted` says why: a bug of ours then costs
    one grade, and not all answers of a candidate.
    """
    try:
        found = grade(task.grading, response, question.answer)
    except Exception as error:
        traceback.print_exception(error)
        why = f"[the grader failed: {type(error).__name__}: {error}]"
        found = Grade(strict=False, flexible=False, extracted=why)
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


def judge_all(task: Task, questions: Sequence[Question], responses: Sequence[str]) -> list[Sample]:
    """Grade answers in their order; LaTeX side by side, since other processes compare it."""
    one = partial(judge, task)
    if task.grading != "math":
        return list(map(one, questions, responses))
    with ThreadPoolExecutor(MOST_PROCESSES) as pool:
        return list(pool.map(one, questions, responses))


def provenance(task: Task, engine: str, decoding: str) -> dict[str, str]:
    """Return what a score was made with: engine, decoding, task version and grader.

    Only scores with equal ones may be compared. `engine` is a name with its version, `decoding` says how
    the model was asked.
    """
    return {
        "engine": engine,
        "decoding": decoding,
        "task_version": task.version,
        "grader": grader_of(task.grading),
    }
