"""Samples programs from the resident generator in waves. Every sample has its own seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..engine.resident.client import Client
from ..engine.resident.messages import Folding, Sampling
from ..engine.weights.fingerprint import folder_fingerprint
from .arms import Arm
from .config import RunConfig
from .prompts import program_text, stops

# Reads all weights, once: a run changes no generator after it has made it.
fingerprint_of = cache(folder_fingerprint)
# The key of the model that writes programs, in a worker, where the base's engine cannot hold it.
GENERATOR = "generator"
# A program's text and its stop reason (`Completion.finish_reason`).
Answer = tuple[str, str]


@dataclass(frozen=True)
class SamplingPlan:
    """Everything that decides the samples of one iteration."""

    prompt: str
    iteration: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int  # the seed of the arm


@dataclass(frozen=True)
class Writer:
    """The model that writes the programs of an iteration: where workers find it.

    It is held under `key` as `model`, the given generator, with the weights of `folder`. `files` are those
    of a folder that this run has made: a worker elsewhere may need copies, or no more than what `folding` has.
    """

    key: str
    model: str
    folder: str
    files: tuple[str, ...]
    fingerprint: str
    folding: Folding | None = None

    @staticmethod
    def of(key: str, model: str, folder: Path | None, adapter: Path | None = None) -> Writer:
        """Return the given generator itself, or with the weights of a trained one's folder, which has this adapter."""
        if folder is None:
            return Writer(key, model, model, (), fingerprint_of(model))
        folder = folder.absolute()
        folding = None
        # A run of an older version kept no adapter.
        if adapter and adapter.is_dir():
            folding = Folding(model, str(adapter.absolute()), files_in(adapter))
        prints = fingerprint_of(str(folder))
        return Writer(key, model, str(folder), files_in(folder), prints, folding)


def files_in(folder: Path) -> tuple[str, ...]:
    """Return the paths of a folder's files."""
    return tuple(sorted(str(file) for file in folder.absolute().iterdir() if file.is_file()))


def sampling_plan(config: RunConfig, arm: Arm, prompt: str, iteration: int) -> SamplingPlan:
    return SamplingPlan(
        prompt=prompt,
        iteration=iteration,
        temperature=arm.temperature.at(iteration),
        top_p=config.generation.top_p,
        max_new_tokens=config.generation.max_new_tokens,
        seed=arm.seed,
    )


def waves(numbers: range, wave: int) -> Iterator[range]:
    """These sample numbers, `wave` of them at a time."""
    for start in range(0, len(numbers), wave):
        yield numbers[start : start + wave]


def sample_wave(
    writer: Writer,
    plan: SamplingPlan,
    numbers: Sequence[int],
    client: Client,
) -> list[Answer]:
    """Draw these samples on a worker; their program texts and how each ended, in order.

    TARGET as the writer's key is the base's engine: whoever asks it next finds the base there, or a
    merge of it.
    """
    seeds = [seed_of(plan.seed, plan.iteration, number) for number in numbers]
    stop = tuple(stops(plan.prompt))
    sampling = Sampling(plan.max_new_tokens, plan.temperature, plan.top_p, stop)
    prompts = [plan.prompt] * len(numbers)
    client.hold_model(writer.key, writer.model)
    place, more = (writer.key, writer.folder), (writer.files, writer.fingerprint, writer.folding)
    answers = client.sample(*place, prompts, sampling, seeds, *more)
    return [(program_text(plan.prompt, answer.text), answer.finish_reason) for answer in answers]


def seed_of(run_seed: int, iteration: int, number: int) -> int:
    """Seed of one sample. It does not depend on how samples are batched or where a run resumes."""
    words = f"{run_seed}/{iteration}/{number}".encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:4], "little")
