"""Decides which programs are preferred to which, from their scores alone.

The rule is that of the paper (arXiv 2410.15639, section 2.3). Chosen are the programs at or above
the (100 - p_w) percentile of this iteration's scores, and the elites of earlier iterations.
Rejected are those at or below the p_l percentile. Each chosen program makes pairs with S rejected
programs. Programs of the holdout are drawn before, and take no part in this.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from .config import Preferences


@dataclass(frozen=True)
class Scored:
    """A program that ran, with its dev score. `text` is the whole program."""

    id: str
    text: str
    score: float


Pair = tuple[str, str]  # ids of a chosen and of a rejected program


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

    `invalid` are ids of programs that do not run. Two programs with equal scores make no pair.
    """
    draw = random.Random(seed)
    pairs = list[Pair]()
    for one in sets.chosen:
        count = settings.rejected_per_chosen
        broken = min(round(count * settings.invalid_share), len(invalid))
        lower = [w.id for w in sets.rejected if w.score < one.score and w.id != one.id]
        picked = draw.sample(lower, min(count - broken, len(lower)))
        picked += draw.sample(list(invalid), broken)
        pairs += [(one.id, other) for other in picked]
    draw.shuffle(pairs)
    return pairs


def permuted(scored: Sequence[Scored], seed: str) -> list[Scored]:
    """The same programs with their scores shuffled among them; the same for the same seed."""
    scores = [s.score for s in scored]
    random.Random(seed).shuffle(scores)
    return [replace(s, score=score) for s, score in zip(scored, scores, strict=True)]


@dataclass(frozen=True)
class Seen:
    """Texts of earlier iterations: what training saw, and what is kept from it for good."""

    trained: Set[str] = frozenset()
    held_out: Set[str] = frozenset()


def draw_holdout(scored: Sequence[Scored], share: float, seen: Seen, seed: int) -> list[Scored]:
    """Draw the programs that no training sees, `share` of them; the same for the same seed.

    A text that was held out before is held out again, and one that was trained on is not.
    """
    kept = [s for s in scored if s.text in seen.held_out]
    free = [s for s in scored if s.text not in seen.held_out and s.text not in seen.trained]
    count = max(0, round(share * len(scored)) - len(kept))
    drawn = random.Random(seed).sample(free, min(count, len(free)))
    names = {s.id for s in (*kept, *drawn)}
    return [s for s in scored if s.id in names]


QUARTER = 25.0


def quarters(held_out: Sequence[Scored]) -> Sets | None:
    """The best and the worst quarter of a holdout; None where they do not differ in their scores."""
    best, worst = chosen_of(held_out, QUARTER), rejected_of(held_out, QUARTER)
    if len(held_out) < 2 or best[-1].score <= worst[-1].score:
        return None
    return Sets(best, worst)


def elites_of(earlier: Sequence[Sequence[Scored]], settings: Preferences) -> list[Scored]:
    """The best `settings.elites` chosen programs of each earlier iteration."""
    found: dict[str, Scored] = {}
    for scored in earlier:
        for one in chosen_of(scored, settings.chosen_percent)[: settings.elites]:
            found[one.id] = one
    return list(found.values())
