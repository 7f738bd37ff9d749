"""How lm-evaluation-harness (0.4.13) asks `gsm8k` and `hendrycks_math`: forms, stops, shots.

Its own random draw is repeated here: one generator a task, seeded 1234, that draws five shots for
each question in the order of the test set. MATH is seven tasks there, one a subject, with a
generator and a training set each.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

NUM_SHOTS = 5
SHOTS_SEED = 1234
MAX_NEW_TOKENS = 256  # what its engines generate where a task does not say


@dataclass(frozen=True)
class Form:
    """One task's prompt: "LEAD: ...\\nAnswer:", shots before it with their answers."""

    lead: str
    stop: tuple[str, ...]
    version: str

    def ask(self, question: str) -> str:
        return f"{self.lead} {question}\nAnswer:"

    def prompt(self, question: str, shots: Sequence[tuple[str, str]]) -> str:
        """(question, answer) shots, then the question."""
        head = "".join(f"{self.ask(q)} {a}\n\n" for q, a in shots)
        return head + self.ask(question)


GSM8K = Form("Question:", ("Question:", "</s>", "<|im_end|>"), "gsm8k 3.0")
MATH = Form("Problem:", ("Problem:",), "hendrycks_math 1.0")


def draw_shots(num_pool: int, num_questions: int) -> list[list[int]]:
    """For each question in order, which of the pool are its shots."""
    generator = random.Random(SHOTS_SEED)
    return [generator.sample(range(num_pool), NUM_SHOTS) for _ in range(num_questions)]
