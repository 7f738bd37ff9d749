"""A task: its questions, how they are asked, and how answers are graded.

A search works on a sealed task, and reading test questions of a sealed task raises SealedTest.
`eval --split test` and the final test of a run use `task.unsealed()`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, replace
from functools import cached_property

MAX_NEW_TOKENS = 64


class SealedTest(RuntimeError):
    """A search read test questions. This is a bug, and no score of that search can be trusted."""


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
    """Questions, how they are asked, and how answers are graded.

    `rows` holds all questions, also those of a sealed test; read `questions` or `split` instead.
    """

    name: str
    rows: tuple[Question, ...]
    stop: tuple[str, ...] = ()
    max_new_tokens: int = MAX_NEW_TOKENS
    metric: str = "flexible"
    grading: str = "numbers"
    form: str = "jsonl 1"  # the source of the prompts, with its version
    sealed: bool = True

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions that may be read: dev, and test if the task is unsealed."""
        return tuple(q for q in self.rows if q.split == "dev" or not self.sealed)

    def split(self, name: str) -> tuple[Question, ...]:
        """Questions of "dev" or "test" in a fixed order. SealedTest for "test" of a sealed task."""
        if name == "test" and self.sealed:
            raise SealedTest(f"--task {self.name}: test questions are not for a search")
        return tuple(q for q in self.rows if q.split == name)

    @property
    def has_test(self) -> bool:
        """Whether there are test questions. A sealed task tells this, too."""
        return any(q.split == "test" for q in self.rows)

    def unsealed(self) -> Task:
        """The same task with readable test questions; for final tests only."""
        return replace(self, sealed=False)

    @cached_property
    def version(self) -> str:
        """The form, and a hash of all that decides a score: prompts, answers, stops, grading."""
        rules = (self.stop, self.max_new_tokens, self.metric, self.grading)
        said = json.dumps([rules, [astuple(q) for q in self.rows]])
        return f"{self.form}, {hashlib.sha256(said.encode()).hexdigest()[:16]}"
