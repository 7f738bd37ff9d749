"""Samples programs from the resident generator in waves. Every sample has its own seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.records.store import Store
from ..engine.resident.client import Client
from ..engine.resident.messages import Sampling
from ..engine.weights.fingerprint import folder_fingerprint
from .config import RunConfig
from .prompts import program_text, stops

# The key of the model that writes programs, in a worker, where the base's engine cannot hold it.
GENERATOR = "generator"
# A program's text and its stop reason (`Completion.finish_reason`).
Drawn = tuple[str, str]


@dataclass(frozen=True)
class SamplingPlan:
    """Everything that decides the samples of one iteration."""

    prompt: str
    iteration: int
    samples: int
    wave: int  # samples per transaction
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int  # the seed of the run


@dataclass(frozen=True)
class Writer:
    """The model that writes the programs of an iteration: where workers find it.

    It is held under `key` as `model`, the given generator, with the weights of `folder`. `files` are those
    of a folder that this run has made: a worker elsewhere may need copies.
    """

    key: str
    model: str
    folder: str
    files: tuple[str, ...]
    fingerprint: str

    @staticmethod
    def of(key: str, model: str, folder: Path | None) -> Writer:
        """Return the given generator itself, or with the weights of a trained one's folder."""
        if folder is None:
            return Writer(key, model, model, (), folder_fingerprint(model))
        folder = folder.absolute()
        files = tuple(sorted(str(file) for file in folder.iterdir() if file.is_file()))
        return Writer(key, model, str(folder), files, folder_fingerprint(folder))


def sampling_plan(config: RunConfig, prompt: str, iteration: int) -> SamplingPlan:
    return SamplingPlan(
        prompt=prompt,
        iteration=iteration,
        samples=config.samples,
        wave=config.generation.wave,
        temperature=config.temperature_of(iteration),
        top_p=config.generation.top_p,
        max_new_tokens=config.generation.max_new_tokens,
        seed=config.seed,
    )


def waves(total: int, wave: int, done: int) -> Iterator[range]:
    """Ranges of sample numbers that are still to be drawn, `wave` numbers in each."""
    for start in range(done, total, wave):
        yield range(start, min(start + wave, total))


def sample_wave(
    writer: Writer,
    plan: SamplingPlan,
    numbers: Sequence[int],
    client: Client,
) -> list[Drawn]:
    """Draw these samples on a worker; their program texts and how each ended, in order.

    TARGET as the writer's key is the base's engine: whoever asks it next finds the base there, or a
    merge of it.
    """
    seeds = [seed_of(plan.seed, plan.iteration, number) for number in numbers]
    stop = tuple(stops(plan.prompt))
    sampling = Sampling(plan.max_new_tokens, plan.temperature, plan.top_p, stop)
    prompts = [plan.prompt] * len(numbers)
    client.hold_model(writer.key, writer.model)
    place, more = (writer.key, writer.folder), (writer.files, writer.fingerprint)
    answers = client.sample(*place, prompts, sampling, seeds, *more)
    return [(program_text(plan.prompt, answer.text), answer.finish_reason) for answer in answers]


def keep_samples(
    store: Store, iteration: int, numbers: Sequence[int], drawn: Sequence[Drawn], fingerprint: str
) -> None:
    """Store these samples in one transaction. `fingerprint` is that of the generator's weights."""
    same = {"iteration": iteration, "generator": fingerprint}
    with store.transaction():
        store.add_candidates(
            {"id": f"i{iteration}-{number}", "source": text, "stop_reason": reason, **same}
            for number, (text, reason) in zip(numbers, drawn, strict=True)
        )


def seed_of(run_seed: int, iteration: int, number: int) -> int:
    """Seed of one sample. It does not depend on how samples are batched or where a run resumes."""
    words = f"{run_seed}/{iteration}/{number}".encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:4], "little")
