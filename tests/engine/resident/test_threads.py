"""The number of threads is chosen from what trials took; the clock is ours."""

from __future__ import annotations

import pytest
from selfdev_engine.engine.resident.threads import MOST_PROMPTS, choose, try_out


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: [1.0, 1.0, 1.0], 4: [0.5, 0.5, 9.0]}, 4),  # one disturbed trial decides nothing
        ({1: [1.0], 4: [1.3]}, 1),
        ({1: [1.04], 2: [1.0], 4: [1.01]}, 1),  # nearly as fast: the fewest
        ({2: [1.0]}, 2),
    ],
)
def test_the_fewest_of_the_fastest(seconds, chosen):
    assert choose(seconds) == chosen


@pytest.mark.parametrize(("seconds_each", "prompts"), [(1e-6, MOST_PROMPTS), (3e-3, 16), (60.0, 4)])
def test_trials_take_turns_and_are_as_long_as_the_model_needs(seconds_each, prompts):
    now, asked = 0.0, []

    def answer(threads: int, count: int) -> None:
        nonlocal now
        now += seconds_each * count / threads
        asked.append((threads, count))

    seconds = try_out([1, 2], answer, lambda: now)
    rounds = len(seconds[1])
    assert asked[-2 * rounds :] == [(1, prompts), (2, prompts)] * rounds
    assert seconds[1] == pytest.approx([seconds_each * prompts] * rounds)
    assert (rounds == 1) == (seconds_each == 60.0)
    assert choose(seconds) == 2
