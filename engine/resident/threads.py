"""Chooses how many threads a model on the CPU answers with, by trying when a run first opens it.

One thread is faster where matrices are small or other work has the cores; all threads are faster
where the model is large. Neither can be told beforehand. Sums of floats may depend on the number,
so a run keeps the one that its first score was made with.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

# Times up to this ratio to the least one count as equal. Then the fewest threads are chosen, as the
# driver wants a core, too.
NEARLY = 1.05
# A trial takes at least LEAST_S seconds, so that it can tell, or has MOST_PROMPTS prompts.
LEAST_S, MOST_PROMPTS = 0.04, 64
# New rounds of trials begin within these seconds; the first round is always gone through.
TRIALS_S = 0.25


def choose(seconds: Mapping[int, Sequence[float]]) -> int:
    """Return the fewest threads whose median time is at most NEARLY times the least median."""
    medians = {count: median(found) for count, found in seconds.items()}
    least = min(medians.values())
    return min(count for count, found in medians.items() if found <= NEARLY * least)


def try_out(
    counts: Sequence[int],
    answer: Callable[[int, int], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, list[float]]:
    """Time each number of threads in turns, so that other work disturbs all alike.

    `answer(threads, prompts)` answers that number of prompts with that number of threads. Returns
    the seconds of each trial, by threads.
    """

    def timed(threads: int, prompts: int) -> float:
        began = clock()
        answer(threads, prompts)
        return clock() - began

    prompts = 4
    # The first call pays for what is made only once. It must use all threads: a vLLM whose first
    # answers were made by one thread uses one for good.
    answer(max(counts), prompts)
    while prompts < MOST_PROMPTS and timed(counts[0], prompts) < LEAST_S:
        prompts *= 2
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    began = clock()
    while not all(seconds.values()) or clock() - began < TRIALS_S:
        for count in counts:
            seconds[count].append(timed(count, prompts))
    return seconds


def wanted_threads(environment: Mapping[str, str]) -> int | None:
    """Return what the user has set OMP_NUM_THREADS to; None where that is no number of threads."""
    wanted = environment.get("OMP_NUM_THREADS", "")
    return int(wanted) or None if wanted.isdecimal() else None


def threads_of_each(num_workers: int, environment: Mapping[str, str]) -> int:
    """Return the threads of each of several workers: OMP_NUM_THREADS, or an equal share of the cores."""
    return wanted_threads(environment) or max(1, len(os.sched_getaffinity(0)) // num_workers)
