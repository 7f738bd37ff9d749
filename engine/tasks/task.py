"""A task: its questions, how they are asked and judged. Test questions are under seal.

A search works on a sealed task: reading its test questions raises. `eval --split test` and the final
test of a run break the seal, visibly, with `task.unsealed()`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, replace
from functools import cached_property

MAX_NEW_TOKENS = 64


class SealedTest(RuntimeError):
    """Test questions were read in a search: a bug, and no score of that search can be trusted."""


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
    """Questions and how they are asked and judged; `rows` are all of them, read through the seal."""

    name: str
    rows: tuple[Question, ...]
    stop: tuple[str, ...] = ()
    max_new_tokens: int = MAX_NEW_TOKENS
    metric: str = "flexible"
    grading: str = "numbers"
    form: str = "jsonl 1"  # whose prompts these are, and their version there
    sealed: bool = True

    @property
    def questions(self) -> tuple[Question, ...]:
        """Those that may be read: dev, and test where the seal is broken."""
        return tuple(q for q in self.rows if q.split == "dev" or not self.sealed)

    def split(self, name: str) -> tuple[Question, ...]:
        """The questions of "dev" or "test", in a fixed order. SealedTest under the seal."""
        if name == "test" and self.sealed:
            raise SealedTest(f"--task {self.name}: test questions are not for a search")
        return tuple(q for q in self.rows if q.split == name)

    @property
    def has_test(self) -> bool:
        """Whether there are test questions; tells nothing of them."""
        return any(q.split == "test" for q in self.rows)

    def unsealed(self) -> Task:
        """The same task, with its test questions readable: for final tests only."""
        return replace(self, sealed=False)

    @cached_property
    def version(self) -> str:
        """The form, and a hash of all that decides a score: prompts, answers, stops, grading."""
        rules = (self.stop, self.max_new_tokens, self.metric, self.grading)
        said = json.dumps([rules, [astuple(q) for q in self.rows]])
        return f"{self.form}, {hashlib.sha256(said.encode()).hexdigest()[:16]}"
