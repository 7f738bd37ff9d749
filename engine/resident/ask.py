"""Asks a live model all questions of a split, and grades its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import UsageError
from ..records.score import Sample, Score, judge_all, score_of
from ..tasks.task import Task
from .client import Client
from .messages import Completion, Sampling


def greedy(task: Task) -> Sampling:
    """Return the sampling of a task: temperature 0, with the task's stops and answer length."""
    return Sampling(task.max_new_tokens, stop=tuple(task.stop))


def evaluate(
    client: Client,
    key: str,
    task: Task,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Score, list[Sample]]:
    """Ask all questions of a split and grade the answers. Returns their score and the samples.

    `key` names a model that is open in the worker. UsageError where the split is empty.
    """
    return graded(task, split, ask(client, key, task, split, progress))


def ask(
    client: Client,
    key: str,
    task: Task,
    split: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """Ask all questions of a split, greedily, as one batch. Returns the answers in their order.

    UsageError where the split is empty.
    """
    questions = task.split(split)
    if not questions:
        raise UsageError(f"--task {task.name}: has no {split} questions")
    prompts = [question.prompt for question in questions]
    told = (lambda done: progress(done, len(questions))) if progress else None
    return client.generate(key, prompts, greedy(task), progress=told)


def graded(task: Task, split: str, answers: Sequence[Completion]) -> tuple[Score, list[Sample]]:
    """Grade the answers to all questions of a split, which come in the questions' order."""
    samples = judge_all(task, task.split(split), [answer.text for answer in answers])
    return score_of(samples, task.metric), samples
