"""Decides which programs are preferred to which, from their scores alone.

The rule is that of the paper (arXiv 2410.15639, section 2.3). Chosen are the programs at or above
the (100 - p_w) percentile of this iteration's scores, and the elites of earlier iterations.
Rejected are those at or below the p_l percentile. Each chosen program makes pairs with S rejected
programs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from .config import Preferences


@dataclass(frozen=True)
class Scored:
    """A program that ran, with its dev score. `text` is the whole program."""

    id: str
    text: str
    score: float


@dataclass(frozen=True)
class Pair:
    """Ids of two programs. A held-out pair is for validation, not for training."""

    chosen: str
    rejected: str
    held_out: bool


@dataclass(frozen=True)
class Sets:
    """The chosen programs of an iteration, elites of earlier ones included, and the rejected ones.

    Equal scores may make them larger than their percentages say.
    """

    chosen: Sequence[Scored]
    rejected: Sequence[Scored]


def chosen_of(scored: Sequence[Scored], percent: float) -> list[Scored]:
    """Programs in the best `percent` of the scores, best first; at least one if there are any."""
    ranked = sorted(scored, key=lambda s: (-s.score, s.id))
    if not ranked:
        return []
    bar = ranked[max(1, math.ceil(percent / 100 * len(ranked))) - 1].score
    return [s for s in ranked if s.score >= bar]


def rejected_of(scored: Sequence[Scored], percent: float) -> list[Scored]:
    """Programs in the worst `percent` of the scores, worst first; at least one if there are any."""
    ranked = sorted(scored, key=lambda s: (s.score, s.id))
    if not ranked:
        return []
    bar = ranked[max(1, math.ceil(percent / 100 * len(ranked))) - 1].score
    return [s for s in ranked if s.score <= bar]


def sets_of(scored: Sequence[Scored], elites: Sequence[Scored], settings: Preferences) -> Sets:
    """Choose and reject. `elites` are the best programs of earlier iterations."""
    best = chosen_of(scored, settings.chosen_percent)
    worst = rejected_of(scored, settings.rejected_percent)
    return Sets(list({s.id: s for s in [*best, *elites]}.values()), worst)


def make_pairs(sets: Sets, invalid: Sequence[str], settings: Preferences, seed: int) -> list[Pair]:
    """Pairs of ids, shuffled; the same for the same seed.

    `invalid` are ids of programs that do not run. Two programs with equal scores make no pair. If a
    chosen program is held out for validation, all its pairs are.
    """
    draw = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    for one in sets.chosen:
        count = settings.rejected_per_chosen
        broken = min(round(count * settings.invalid_share), len(invalid))
        lower = [w.id for w in sets.rejected if w.score < one.score and w.id != one.id]
        picked = draw.sample(lower, min(count - broken, len(lower)))
        picked += draw.sample(list(invalid), broken)
        pairs += [(one.id, other) for other in picked]
    held = held_out([one.id for one in sets.chosen], settings.validation, draw)
    made = [Pair(chosen, rejected, chosen in held) for chosen, rejected in pairs]
    draw.shuffle(made)
    return made


def held_out(ids: Sequence[str], share: float, draw: random.Random) -> set[str]:
    """Draw the chosen programs that are kept for validation."""
    if share == 0 or len(ids) < 2:
        return set()
    return set(draw.sample(list(ids), max(1, round(share * len(ids)))))


def elites_of(earlier: Sequence[Sequence[Scored]], settings: Preferences) -> list[Scored]:
    """The best `settings.elites` chosen programs of each earlier iteration."""
    found: dict[str, Scored] = {}
    for scored in earlier:
        for one in chosen_of(scored, settings.chosen_percent)[: settings.elites]:
            found[one.id] = one
    return list(found.values())
