"""Prompts, stops and shots of lm-evaluation-harness (0.4.13) for `gsm8k` and `hendrycks_math`.

Its random draw is repeated here: for each task, a generator with seed 1234 draws five shots for
each question, in the order of the test set. In the harness MATH is seven tasks, one for each
subject, each with its own generator and training set.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

NUM_SHOTS = 5
SHOTS_SEED = 1234
# What the harness's engines generate at most, unless a task says otherwise.
MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class Form:
    """The prompt of a task: shots with their answers, then "LEAD QUESTION\\nAnswer:"."""

    lead: str
    stop: tuple[str, ...]
    version: str

    def ask(self, question: str) -> str:
        return f"{self.lead} {question}\nAnswer:"

    def prompt(self, question: str, shots: Sequence[tuple[str, str]]) -> str:
        """The whole prompt. `shots` are (question, answer) pairs."""
        head = "".join(f"{self.ask(q)} {a}\n\n" for q, a in shots)
        return head + self.ask(question)


GSM8K = Form("Question:", ("Question:", "</s>", "<|im_end|>"), "gsm8k 3.0")
MATH = Form("Problem:", ("Problem:",), "hendrycks_math 1.0")


def draw_shots(num_pool: int, num_questions: int) -> list[list[int]]:
    """For each question in order, the places of its shots in the pool."""
    generator = random.Random(SHOTS_SEED)
    return [generator.sample(range(num_pool), NUM_SHOTS) for _ in range(num_questions)]
