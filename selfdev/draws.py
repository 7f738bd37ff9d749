"""Programs that no model writes: the grammar's, and weighted sums.

The weights of a sum are random, from a grid, or searched by CMA-ES. They depend on the arm's seed and the
sample's place alone, for CMA-ES also on the scores before it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from .baselines import RATIOS
from .methods import load_method
from .prompts import IMPORT
from .zoo.grammar import HEAD, program

# A program as a row of the store has it: `source` and `params`.
Drawn = Mapping[str, Any]
Weights = tuple[float, ...]
# The share of random weights that are zero; the others are even between 0.01 and 1.
ZERO_SHARE = 0.25
# Where CMA-ES begins, and how far it first looks.
CMA_START, CMA_STEP = 0.3, 0.3


def from_grammar(seed: int) -> Drawn:
    """A random program of the grammar that the tiny zoo's generator learned."""
    return {"source": f"{IMPORT}{HEAD}\n{program(random.Random(seed))}"}


def weighted_sum(weights: Weights) -> Drawn:
    """Task arithmetic with these weights."""
    text = ",".join(f"{weight:g}" for weight in weights)
    return {"source": load_method("task_arithmetic"), "params": {"weights": text}}


def random_weights(seed: int, num_experts: int) -> Weights:
    """Random weights, of which some are zero and at least one is not."""
    draw = random.Random(seed)
    while True:
        found = tuple(
            0.0 if draw.random() < ZERO_SHARE else draw.randint(1, 100) / 100
            for _ in range(num_experts)
        )
        if any(found):
            return found


def grid_weights(seed: int, num_experts: int, number: int) -> Weights:
    """The weights at a place of the grid, which is at first the paper's with zero and grows finer.

    Each finer grid has half the step, and only what the coarser ones lack, in random order.
    """
    return grid_points(seed, num_experts)(number)


def drawn(writer: str, num_experts: int, seed: int, place: int, own_seed: int) -> Drawn:
    """What a writer draws for a sample: the one at this place of the arm, with a seed of its own."""
    if writer == "grammar":
        return from_grammar(own_seed)
    if writer == "coefficients":
        return weighted_sum(random_weights(own_seed, num_experts))
    assert writer == "grid", writer
    return weighted_sum(grid_weights(seed, num_experts, place))


@cache
def grid_points(seed: int, num_experts: int) -> Callable[[int], Weights]:
    points, found = grid(seed, num_experts), list[Weights]()

    def point(number: int) -> Weights:
        found.extend(itertools.islice(points, max(0, number + 1 - len(found))))
        return found[number]

    return point


def grid(seed: int, num_experts: int) -> Iterator[Weights]:
    for level in itertools.count():
        last = len(RATIOS) << level
        places = [
            place
            for place in itertools.product(range(last + 1), repeat=num_experts)
            if any(place) and (level == 0 or any(i % 2 for i in place))
        ]
        random.Random(f"{seed}/{level}").shuffle(places)
        for place in places:
            yield tuple(round(RATIOS[-1] * i / last, 6) for i in place)


class Evolution:
    """CMA-ES over the weights of a sum. Its state is made anew from the scores so far.

    `seed` is of the whole search. MissingExtra where the package `cma` is not installed.
    """

    def __init__(self, seed: int, num_experts: int) -> None:
        import cma
        import numpy as np

        draw = np.random.default_rng(seed)
        options = {
            "seed": np.nan,  # numpy's own state is left alone
            "randn": lambda *shape: draw.standard_normal(shape),
            "verbose": -9,
        }
        self.search = cma.CMAEvolutionStrategy([CMA_START] * num_experts, CMA_STEP, options)
        self.asked: Sequence[Any] = []

    @property
    def size(self) -> int:
        """How many programs are scored before the search learns from them."""
        return self.search.popsize

    def ask(self) -> list[Weights]:
        """The weights of the next programs."""
        self.asked = self.search.ask()
        return [tuple(round(float(x), 4) for x in one) for one in self.asked]

    def tell(self, scores: Sequence[float]) -> None:
        """Learn from the scores of those that were asked last."""
        self.search.tell(self.asked, [-score for score in scores])


def evolved(seed: int, num_experts: int, scores: Sequence[float]) -> list[Weights]:
    """The weights that go on from these scores of all earlier ones: to the end of a generation."""
    search = Evolution(seed, num_experts)
    whole = len(scores) // search.size * search.size
    for start in range(0, whole, search.size):
        search.ask()
        search.tell(scores[start : start + search.size])
    return search.ask()[len(scores) - whole :]
