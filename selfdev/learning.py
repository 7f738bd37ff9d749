"""Turns the scores of an iteration into preference pairs and settings for its training stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..engine.records.candidate import MAIN, Candidate, Status
from ..engine.records.store import Store
from .arms import Arm
from .config import RunConfig
from .preferences import (
    Pair,
    Scored,
    Seen,
    Sets,
    draw_holdout,
    elites_of,
    make_pairs,
    permuted,
    quarters,
    sets_of,
)
from .prompts import completion_of, stops
from .train import TrainSettings, log_of


def scored_programs(store: Store, iteration: int, arm: str = MAIN) -> list[Scored]:
    """The distinct programs of an iteration that ran, with their dev scores."""
    return [one for c in store.candidates(iteration, arm) if (one := scored(store, c))]


def scored(store: Store, candidate: Candidate) -> Scored | None:
    """A candidate with its dev score; None where it did not run."""
    score = store.score(candidate.id) if candidate.is_valid else None
    return Scored(candidate.id, candidate.source or "", score.score) if score else None


@dataclass(frozen=True)
class Lesson:
    """What one iteration teaches: its holdout, its chosen and rejected programs, their pairs.

    A sample that was cut by its length is in none of them: it has no ending to learn.
    """

    store: Store
    config: RunConfig
    arm: Arm
    iteration: int

    @property
    def seed(self) -> int:
        return self.arm.seed * 1000 + self.iteration

    def candidates(self, iteration: int) -> list[Candidate]:
        """The samples of an iteration that were not cut."""
        found = self.store.candidates(iteration, self.arm.name)
        return [c for c in found if c.stop_reason != "length"]

    def whole(self, iteration: int) -> list[Scored]:
        """The programs of an iteration that ran and were not cut, with the scores that are learned."""
        found = [one for c in self.candidates(iteration) if (one := scored(self.store, c))]
        return permuted(found, f"{self.arm.seed}/{iteration}") if self.arm.is_permuted else found

    @cached_property
    def seen(self) -> Seen:
        """What earlier iterations trained on, and what they held out."""
        earlier = range(1, self.iteration)
        name = self.arm.name
        found = [c for i in earlier for c in self.store.candidates(i, name)]
        texts = {c.id: c.source or "" for c in found}
        pairs = (pair for i in earlier for pair in self.store.preferences(i, name))
        trained = {texts[name] for *names, held in pairs if not held for name in names}
        return Seen(trained, {texts[c.id] for c in found if c.held_out})

    @cached_property
    def held_out(self) -> list[Scored]:
        share = self.config.preferences.holdout
        return draw_holdout(self.whole(self.iteration), share, self.seen, self.seed)

    @cached_property
    def sets(self) -> Sets:
        """What is chosen and what is rejected, without the holdouts."""
        kept = self.seen.held_out | {s.text for s in self.held_out}
        *earlier, latest = (
            [s for s in self.whole(i) if s.text not in kept] for i in range(1, self.iteration + 1)
        )
        settings = self.config.preferences
        return sets_of(latest, elites_of(earlier, settings), settings)

    def pairs(self) -> list[Pair]:
        found = self.candidates(self.iteration)
        invalid = [c.id for c in found if c.status is Status.REJECTED]
        return make_pairs(self.sets, invalid, self.config.preferences, self.seed)


def prefer(lesson: Lesson) -> list[Pair]:
    """Make the preference pairs of an iteration, and write them and its holdout to the store."""
    store, arm, pairs = lesson.store, lesson.arm.name, lesson.pairs()
    with store.transaction():
        store.hold_out(lesson.iteration, [s.id for s in lesson.held_out], arm)
        store.set_preferences(lesson.iteration, ((*pair, False) for pair in pairs), arm)
    return pairs


def why_no_pairs(lesson: Lesson) -> str:
    """What a user is told of an iteration from which nothing was learned."""
    scored = lesson.whole(lesson.iteration)
    if not scored:
        why = "no program ran"
    elif len({s.score for s in scored}) == 1:
        why = f"all {len(scored)} programs that ran have the same score"
    else:
        why = (
            f"{len(scored)} programs ran, too few for a better and a worse one besides the holdout"
        )
    return (
        f"iteration {lesson.iteration}{lesson.arm.in_words}: nothing was learned: {why}; the same generator goes on. What "
        "helps: more `samples`, a lower `temperature`, wider `preferences`"
    )


def train_settings(
    lesson: Lesson, pairs: Sequence[Pair], prompt: str, generator: Path, places: Places
) -> TrainSettings:
    """Settings of the stage that trains on these pairs. `generator` is the run's first one."""
    store, config = lesson.store, lesson.config
    ends = Ends(store, prompt)
    compared = quarters(lesson.held_out)
    return TrainSettings(
        generator=str(generator),
        adapter=str(places.adapter or ""),
        out=str(places.out),
        adapter_out=str(places.adapter_out),
        prompt=prompt,
        pairs=[(ends.completion(chosen), ends.completion(rejected)) for chosen, rejected in pairs],
        best=[ends.completion(s.id) for s in compared.chosen] if compared else [],
        worst=[ends.completion(s.id) for s in compared.rejected] if compared else [],
        num_chosen=len(lesson.sets.chosen),
        learn=lesson.arm.learn,
        dpo=config.dpo.model_dump(),
        seed=lesson.arm.seed + lesson.iteration,
    )


@dataclass(frozen=True)
class Places:
    """Folders of a stage: the adapter that it goes on from, and what it leaves."""

    adapter: Path | None
    out: Path
    adapter_out: Path


@dataclass(frozen=True)
class Stage:
    """The training of one arm after an iteration: its pairs, and where the generator goes."""

    lesson: Lesson
    pairs: Sequence[Pair]
    places: Places

    @property
    def is_open(self) -> bool:
        """Whether the generator is still to be trained."""
        return bool(self.pairs) and not self.places.out.exists()

    def settings(self, prompt: str, generator: Path) -> TrainSettings:
        return train_settings(self.lesson, self.pairs, prompt, generator, self.places)

    def told(self) -> dict[str, Any]:
        """What the record of the iteration says of it."""
        if not self.pairs:
            return {"note": why_no_pairs(self.lesson)}
        log = log_of(self.places.adapter_out)
        return {"pairs": len(self.pairs), "dpo_steps": log.get("steps", 0), "training": log}


class Ends:
    """Completions as they were sampled, with the text that ended them."""

    def __init__(self, store: Store, prompt: str) -> None:
        self.store, self.prompt = store, prompt

    def completion(self, name: str) -> str:
        """What the model wrote. Of several texts that may have stopped it, the first is taken."""
        found = self.store.candidate(name)
        assert found is not None, name
        text = completion_of(self.prompt, found.source or "")
        return text + "".join(stops(self.prompt)[:1]) if found.stop_reason == "stop" else text
