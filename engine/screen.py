"""Screening: every program traced, deduplicated, swapped into the live engine, scored, kept.

A run folder holds config.yaml, run.db and, if asked for, samples.jsonl. The same command on it goes
on where it was cut off and pays nothing twice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .plans.backends import driver_backend, open_backend
from .plans.planner import Planner
from .records.candidate import BASE
from .records.store import Store
from .resident.client import choose_engine
from .resident.sizes import base_dtype, cache_bytes
from .screening.folder import add_programs, open_folder, state_population, write_samples
from .screening.kept_statistics import KeptMemo
from .screening.pipeline import Screener
from .screening.read_programs import read_programs
from .screening.settings import ScreenSettings
from .tasks.load import load_task
from .tasks.task import Task
from .trace.settings import TraceSettings
from .trace.tracer import Tracer
from .weights.bank import Bank
from .weights.budget import bank_share, cache_share

NUM_LEADERS = 5
SWITCH_S = 0.0005


@contextmanager
def open_screener(
    settings: ScreenSettings, store: Store, folder: Path, num_engines: int = 1
) -> Iterator[Screener]:
    """Bank, sandbox and engine for one store; all closed afterwards. UsageError for bad input.

    `num_engines`: models that will be open at once, each with a key-value cache.
    """
    task = open_task(settings)
    backend = open_backend(driver_backend(settings.backend))
    bank = open_bank(settings, num_engines)
    bank = replace(bank, keeps=lambda name, cache: KeptMemo(cache, store, name))
    trace = TraceSettings(
        timeout_s=settings.trace_timeout_s,
        eager_tier=settings.eager_tier,
        unsafe=settings.unsafe_sandbox,
    )
    # The driver's own tensors are small and the kernels have a pool of their own: OpenMP's threads,
    # waiting for each other beside a busy engine, take 14 ms for a conversion that takes 0.1.
    torch.set_num_threads(1)
    # A thread that has the engine's answer waits for the interpreter no longer than this, or the
    # engine idles while the next programs are surveyed (the default is 5 ms, at each message).
    sys.setswitchinterval(SWITCH_S)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    with ExitStack() as stack:
        tracer = stack.enter_context(Tracer(trace))
        planner = Planner(bank, tracer, backend, settings.seed, scratch)
        screener = Screener(settings, bank, planner, task, store, folder / "engine.log")
        stack.callback(screener.ahead.close)
        stack.callback(screener.stop_engine)
        yield screener


def screen_programs(
    places: Sequence[str], settings: ScreenSettings, folder: Path, bar: Any
) -> dict[str, Any]:
    """The `screen` command: its JSON object."""
    began = time.monotonic()
    programs = read_programs(places)
    check_inputs(settings)
    open_folder(folder, settings)
    with Store.open(folder / "run.db") as store:
        state_population(store, len(programs), settings, folder)
        add_programs(store, programs, settings, folder)
        with open_screener(settings, store, folder) as screener:
            screener.start_engine()
            bar.stage("screen", len(programs))
            run_candidates(screener, [name for name, _ in programs], bar)
            if settings.log_samples:
                write_samples(store, folder / "samples.jsonl")
            return {
                "run": str(folder),
                "seconds": time.monotonic() - began,
                "engine": screener.usage.to_json(),
                "base": screener.result(BASE),
                "candidates": [screener.result(name) for name, _ in programs],
            }


def run_candidates(screener: Screener, names: Sequence[str], bar: Any) -> None:
    """Decide what is not yet decided, in order."""
    screener.score_base()
    done = len(names) - sum(1 for _ in screener.store.undecided(names))

    def decided() -> None:
        nonlocal done
        done += 1
        bar.update(done, len(names))
        bar.leaders(board(screener.store))

    bar.update(done, len(names))
    screener.screen(screener.store.undecided(names), decided)


def board(store: Store) -> list[tuple[str, str, str]]:
    """The best so far, as words for people."""
    return [
        (name, f"{score.score:.3f}", f"[{score.low:.3f}, {score.high:.3f}]")
        for name, score in store.leaders(NUM_LEADERS)
    ]


def open_task(settings: ScreenSettings) -> Task:
    """The questions of a run. UsageError for what cannot be read."""
    return load_task(settings.task, Path(settings.data) if settings.data else None, settings.shots)


def open_bank(settings: ScreenSettings, num_engines: int) -> Bank:
    """The driver's bank, within its share of --memory. UsageError for bad input."""
    on_gpu = driver_backend(settings.backend) != settings.backend and torch.cuda.is_available()
    num_copies = 2 if on_gpu else 1  # the worker's is pinned memory there
    share = bank_share(settings.memory_bytes, num_engines, num_copies)
    return Bank.open(settings.base, settings.experts, settings.include).within(share)


def check_inputs(settings: ScreenSettings, num_engines: int = 1) -> None:
    """What can be wrong is said before a folder is made."""
    open_task(settings)
    open_backend(settings.backend)  # the worker's: looked for here, where it makes no context
    base, most_bytes = open_bank(settings, num_engines).base, cache_share(settings.memory_bytes)
    if choose_engine(settings.engine) == "vllm":
        cache_bytes(base, base_dtype(base), 1, most_bytes)
