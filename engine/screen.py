"""Screening: every program is traced, deduplicated, swapped into the live engine, scored and kept.

A run folder holds config.yaml, run.db, engine.log, a scratch folder and, if asked for, samples.jsonl. The
same command on it goes on where it was cut off and pays nothing twice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch

from ..kernels.tensors import Memo
from .errors import keeping
from .given import checked, having, instance
from .plans.backends import driver_backend, open_backend
from .plans.cells import Cells
from .plans.planner import Planner
from .plans.updates import Updates, available_cores
from .records.candidate import BASE
from .records.candidate_json import best_json, to_json
from .records.store import Store
from .screening.asking import LANES, LANES_IN_RACE
from .screening.contents_reader import ContentReader
from .screening.folder import (
    POPULATION,
    add_programs,
    comparable,
    completed,
    keep_labels,
    open_folder,
    state_population,
    write_samples,
)
from .screening.glance import Progress, glance_at
from .screening.identity import inputs_of, record_inputs
from .screening.inputs import check_inputs, open_selection, open_task, places_read
from .screening.kept_statistics import KeptMemo
from .screening.outcomes import Outcomes
from .screening.pipeline import Screener, score_base
from .screening.place import DATABASE, check_inputs_apart
from .screening.prepare import Preparer
from .screening.race_asking import open_race
from .screening.read_programs import given_pairs
from .screening.room import shares_here
from .screening.session import LIMITS, THREADS, EngineSession
from .screening.settings import ScreenSettings
from .trace.settings import TraceSettings
from .trace.tracer import Tracer
from .weights.bank import Bank, Keep
from .weights.budget import bank_share
from .weights.checkpoint import Checkpoint
from .weights.selection import Selection

# So many are compared with the base at the end.
NUM_BEST = 10
# The most programs that are traced at a time. Each may take the memory of a child.
MAX_TRACES = 4
# The longest that a thread waits for the interpreter, in seconds (see `few_threads`).
SWITCH_S = 0.0005


@contextmanager
def open_screener(
    settings: ScreenSettings, store: Store, folder: Path, writer: Checkpoint | None = None
) -> Iterator[Screener]:
    """Open bank, sandbox and engine for one store, yield the Screener, and close them afterwards.

    `writer` is a model that each worker will have open beside the base, with a key-value cache of its
    own. UsageError for bad input.
    """
    task = open_task(settings)
    backend = open_backend(driver_backend(settings.backend))
    selection = open_selection(settings)

    def kept(name: str, cache: Memo) -> Memo:
        return KeptMemo(cache, store, name, lambda: selection.check_unchanged([name]))

    shares = shares_here(settings, selection, writer)
    bank = open_bank(selection, settings, writer, kept)
    # A worker elsewhere has another current folder.
    scratch = folder.absolute() / "scratch"
    scratch.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(few_threads())
        tracer = stack.enter_context(Tracer(trace_settings(settings)))
        cells = Cells.of(bank.selection, tracer, settings.memory_bytes)
        planner = Planner(bank, tracer, backend, settings.seed, cells)
        # The engine needs the other cores.
        updates = Updates(cells, scratch, max(1, available_cores() // 2))
        made_with = {key: store.setting(key) for key in (THREADS, LIMITS)}
        lanes = LANES if settings.race == "full" else LANES_IN_RACE
        log = folder / "engine.log"
        session = EngineSession(settings, bank, task, log, made_with, lanes, shares)
        experts, num_questions = tuple(bank.selection.experts), len(task.split("dev"))
        outcomes = Outcomes(store, settings.task, experts, num_questions)
        population = store.setting(POPULATION, "whole")
        race = open_race(
            store, settings.race, settings.top, settings.seed, task, population, session.sequences
        )
        reader = stack.enter_context(ContentReader(store))
        screener = Screener(
            session, Preparer(planner, store, updates), outcomes, task, race, reader
        )
        stack.callback(screener.close)
        yield screener


@contextmanager
def few_threads() -> Iterator[None]:
    """Leave the cores to the engine: one OpenMP thread, and short turns of the interpreter."""
    threads, switch_s = torch.get_num_threads(), sys.getswitchinterval()
    # The driver's own tensors are small and the kernels have a pool of their own: OpenMP's threads,
    # waiting for each other beside a busy engine, take 14 ms for a conversion that takes 0.1.
    torch.set_num_threads(1)
    # A thread that has the engine's answer waits for the interpreter no longer than this, or the
    # engine idles while the next programs are surveyed (the default is 5 ms, at each message).
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        # A notebook goes on after a screening.
        torch.set_num_threads(threads)
        sys.setswitchinterval(switch_s)


def trace_settings(settings: ScreenSettings) -> TraceSettings:
    """Return the settings of the tracer."""
    return TraceSettings(
        timeout_s=settings.trace_timeout_s,
        eager_tier=settings.eager_tier,
        replay_limit_s=settings.replay_limit_s,
        unsafe=settings.unsafe_sandbox,
        slots=min(MAX_TRACES, available_cores()),
    )


@checked(
    programs=given_pairs,
    settings=instance(ScreenSettings, "ScreenSettings"),
    bar=having("an object with stage, update, facts", "stage", "update", "facts"),
)
def screen_programs(
    programs: Sequence[tuple[str, str]],
    settings: ScreenSettings,
    folder: Path,
    bar: Progress,
    also_read: Mapping[str, Path] | None = None,
) -> dict[str, object]:
    """Screen programs in a run folder, and return the `screen` command's JSON object.

    `programs` are (id, text), as read_programs gives them. `also_read` are inputs besides those of the
    settings; a key says what the input is. UsageError for bad input.
    """
    began = time.monotonic()
    check_machine(settings)
    check_inputs_apart(folder, {**places_read(settings), **(also_read or {})})
    with (
        open_folder(folder, comparable(settings), "resume", completed),
        Store.open(folder / DATABASE) as store,
    ):
        found = inputs_of(settings, open_selection(settings), open_task(settings))
        record_inputs(store, found, folder, settings.accept_engine)
        keep_labels(store, settings)
        state_population(store, len(programs), settings, folder)
        add_programs(store, programs, settings, folder)
        with open_screener(settings, store, folder) as screener:
            screener.session.start()
            names = [name for name, _ in programs]
            with keeping(lambda: result_of(screener, folder, names, began)):
                run_candidates(screener, names, bar)
                screener.reader.finish()
                if settings.log_samples:
                    write_samples(store, folder / "samples.jsonl")
            result = result_of(screener, folder, names, began)
            assert result is not None
            return result


def result_of(
    screener: Screener, folder: Path, names: Sequence[str], began: float
) -> dict[str, object] | None:
    """Return what a screening has found so far; None before its base has a score."""
    if screener.store.score(BASE) is None:
        return None
    return {
        "run": str(folder),
        "seconds": time.monotonic() - began,
        "engine": screener.session.usage.to_json(),
        "notes": [*screener.preparer.planner.bank.selection.notes, *screener.notes],
        "base": to_json(screener.store, BASE),
        "top": best_json(screener.store, names, NUM_BEST),
        "candidates": [to_json(screener.store, name) for name in names],
    }


def run_candidates(screener: Screener, names: Sequence[str], bar: Progress) -> None:
    """Score the base, then decide those of these candidates that are not decided, in order."""
    bar.stage("start the engine, score the base", 1)
    score_base(screener)
    screen_stage(screener, "screen", names, bar)


def screen_stage(screener: Screener, label: str, names: Sequence[str], bar: Progress) -> None:
    """Decide those of these candidates that are not decided, in order, as a stage of the bar."""
    bar.stage(label, len(names))
    done = len(names) - sum(1 for _ in screener.store.undecided(names))

    def decided() -> None:
        nonlocal done
        done += 1
        bar.update(done, len(names))
        bar.facts(partial(glance_at, screener))

    bar.update(done, len(names))
    screener.screen(screener.store.undecided(names), decided)


def open_bank(
    selection: Selection,
    settings: ScreenSettings,
    writer: Checkpoint | None,
    keep: Keep | None = None,
) -> Bank:
    """Open the driver's bank, within its share of --memory. UsageError for bad input."""
    on_gpu = driver_backend(settings.backend) != settings.backend and torch.cuda.is_available()
    # On a GPU a copy is pinned beside the driver's: one for all workers here, one for each on Ray's nodes.
    num_pinned = settings.workers if settings.address else 1
    num_copies = 1 + num_pinned if on_gpu else 1
    share = bank_share(settings.memory_bytes, 1 if writer is None else 2, num_copies)
    return Bank.within(selection, share, keep=keep)


def check_machine(settings: ScreenSettings, writer: Checkpoint | None = None) -> None:
    """Raise UsageError for wrong inputs, a backend that is not here, or too little memory.

    It is called before a run's folder is made.
    """
    check_inputs(settings, writer)
    # Look here whether the worker's backend exists; this makes no context on a device.
    open_backend(settings.backend)
    open_bank(open_selection(settings), settings, writer)
