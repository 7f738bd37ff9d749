"""Asks a live model all questions of a split, and grades its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import UsageError
from ..records.score import Sample, Score, judge, score_of
from ..tasks.task import Task
from .client import Client
from .messages import Completion, Sampling


def greedy(task: Task) -> Sampling:
    """How a task's questions are answered."""
    return Sampling(task.max_new_tokens, stop=tuple(task.stop))


def evaluate(
    client: Client,
    key: str,
    task: Task,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Score, list[Sample]]:
    """Ask all questions of a split, and grade the answers."""
    return graded(task, split, ask(client, key, task, split, progress))


def ask(
    client: Client,
    key: str,
    task: Task,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """All questions of a split, greedily, as one batch. UsageError where there are none."""
    questions = task.split(split)
    if not questions:
        raise UsageError(f"--task {task.name}: has no {split} questions")
    prompts = [question.prompt for question in questions]
    told = (lambda done: progress(done, len(questions))) if progress else None
    return client.generate(key, prompts, greedy(task), progress=told)


def graded(task: Task, split: str, answers: Sequence[Completion]) -> tuple[Score, list[Sample]]:
    """Grade the answers to all questions of a split, in their order."""
    pairs = zip(task.split(split), answers, strict=True)
    samples = [judge(task, question, answer.text) for question, answer in pairs]
    return score_of(samples, task.metric), samples
