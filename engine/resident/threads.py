"""How many threads a model on the CPU answers with: tried out when a run first opens it.

One thread is the faster where matrices are small or other work has the cores, all of them where the
model is large; neither can be told beforehand. Sums of floats may depend on the number, so a run
keeps the one that its first score was made with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

NEARLY = 1.05  # as fast as the fastest: then the fewest, as the driver wants a core, too
LEAST_S, MOST_PROMPTS = 0.04, 64  # a trial is long enough to tell, or of this many prompts
TRIALS_S = 0.25  # all of them together, but for the first round, which is always gone through


def choose(seconds: Mapping[int, Sequence[float]]) -> int:
    """The fewest threads whose median time is nearly the least."""
    medians = {count: median(found) for count, found in seconds.items()}
    least = min(medians.values())
    return min(count for count, found in medians.items() if found <= NEARLY * least)


def try_out(
    counts: Sequence[int],
    answer: Callable[[int, int], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, list[float]]:
    """Seconds of each trial, by threads; in turns, so that other work disturbs all alike.

    `answer(threads, prompts)` answers so many prompts with so many threads.
    """

    def timed(threads: int, prompts: int) -> float:
        began = clock()
        answer(threads, prompts)
        return clock() - began

    prompts = 4
    # The first of all pays for what is made once, and with all threads: a vLLM whose first answers
    # were made by one thread uses one for good.
    answer(max(counts), prompts)
    while prompts < MOST_PROMPTS and timed(counts[0], prompts) < LEAST_S:
        prompts *= 2
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    began = clock()
    while not all(seconds.values()) or clock() - began < TRIALS_S:
        for count in counts:
            seconds[count].append(timed(count, prompts))
    return seconds
