"""Turns the scores of an iteration into preference pairs and settings for its training stage."""

from __future__ import annotations

from pathlib import Path

from ..engine.errors import UsageError
from ..engine.records.candidate import Status
from ..engine.records.store import Store
from .config import RunConfig
from .preferences import Pair, Scored, Sets, elites_of, make_pairs, sets_of
from .prompts import completion_of
from .train import TrainSettings


def scored_programs(store: Store, iteration: int) -> list[Scored]:
    """The distinct programs of an iteration that ran, with their dev scores."""
    found = []
    for c in store.candidates(iteration):
        if c.is_valid and (score := store.score(c.id)):
            found.append(Scored(c.id, c.source or "", score.score))
    return found


def sets_at(store: Store, config: RunConfig, iteration: int) -> Sets:
    """What is chosen and what is rejected in an iteration."""
    earlier = [scored_programs(store, i) for i in range(1, iteration)]
    elites = elites_of(earlier, config.preferences)
    return sets_of(scored_programs(store, iteration), elites, config.preferences)


def prefer(store: Store, config: RunConfig, iteration: int) -> list[Pair]:
    """Make the preference pairs of an iteration and write them to the store."""
    invalid = [c.id for c in store.candidates(iteration) if c.status is Status.REJECTED]
    settings, seed = config.preferences, config.seed * 1000 + iteration
    pairs = make_pairs(sets_at(store, config, iteration), invalid, settings, seed)
    with store.transaction():
        store.set_preferences(iteration, ((p.chosen, p.rejected, p.held_out) for p in pairs))
    return pairs


def train_settings(
    store: Store,
    config: RunConfig,
    iteration: int,
    pairs: list[Pair],
    prompt: str,
    generator: Path,
    out: Path,
) -> TrainSettings:
    """Settings of the stage that trains `generator` on these pairs and writes to `out`.

    Raises UsageError where no pair is left to train on.
    """
    if all(pair.held_out for pair in pairs):
        raise UsageError(
            f"iteration {iteration} gives no preference pairs: too few programs run or all "
            "score alike; raise `samples`, or widen `preferences`"
        )
    completions = {c.id: completion_of(prompt, c.source or "") for c in store.candidates()}

    def texts(held_out: bool) -> list[tuple[str, str]]:
        wanted = [pair for pair in pairs if pair.held_out == held_out]
        return [(completions[pair.chosen], completions[pair.rejected]) for pair in wanted]

    return TrainSettings(
        generator=str(generator),
        out=str(out),
        prompt=prompt,
        pairs=texts(False),
        held_out=texts(True),
        dpo=config.dpo.model_dump(),
        seed=config.seed + iteration,
    )
