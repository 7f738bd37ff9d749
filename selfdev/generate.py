"""Sampling programs from the resident generator, in waves, each sample with a seed of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..engine.resident.client import Client
from .prompts import program_text, stops


@dataclass(frozen=True)
class SamplingPlan:
    """What an iteration asks of the generator."""

    prompt: str
    temperature: float
    top_p: float
    max_new_tokens: int
    wave: int
    seed: int


def waves(total: int, wave: int, done: int) -> Iterator[range]:
    """Ranges of sample numbers that are still to be drawn; a wave is repeated whole."""
    for start in range(done, total, wave):
        yield range(start, min(start + wave, total))


def sample_wave(
    worker: Client,
    key: str,
    plan: SamplingPlan,
    iteration: int,
    numbers: Sequence[int],
    progress: Callable[[int], None],
) -> list[tuple[str, str]]:
    """[(completion, program text)] of these sample numbers."""
    seeds = [seed_of(plan.seed, iteration, number) for number in numbers]
    answers = worker.generate(
        key,
        [plan.prompt] * len(numbers),
        max_new_tokens=plan.max_new_tokens,
        temperature=plan.temperature,
        top_p=plan.top_p,
        stop=stops(plan.prompt),
        seeds=seeds,
        progress=progress,
    )
    return [(answer.text, program_text(plan.prompt, answer.text)) for answer in answers]


def seed_of(run_seed: int, iteration: int, number: int) -> int:
    """A request's own seed, so that batches and resumes do not matter."""
    words = f"{run_seed}/{iteration}/{number}".encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:4], "little")
