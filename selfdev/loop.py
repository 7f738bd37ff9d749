"""The loop of Self-Developing (arXiv 2410.15639): `selfdev-engine run CONFIG`.

1. Score the base, the experts and the baselines on dev.
2. For each iteration: sample programs; extract, trace, deduplicate and score them; make preference
   pairs; train the generator on them by DPO. The result writes the programs of the next iteration.
3. Score the best programs on test, once.

Every step is a transaction in run.db, and `resume` goes on after the last one. The search reads dev
questions only.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError, keeping
from ..engine.records.candidate import Candidate, Status
from ..engine.records.store import PRODUCT_VERSION, Store
from ..engine.screen import check_machine, open_screener
from ..engine.screening.folder import open_folder, write_samples
from ..engine.screening.identity import record_inputs
from ..engine.screening.nodes import place_of
from ..engine.screening.pipeline import Screener, score_base
from ..engine.screening.place import DATABASE
from ..engine.screening.session import TARGET
from ..engine.weights.checkpoint import Checkpoint
from .baselines import known_candidates
from .config import RunConfig, completed
from .final_test import Progress, score_on_test
from .generate import GENERATOR, Writer, keep_samples, sample_wave, sampling_plan, waves
from .inputs import RunRequest, run_inputs, writer_of
from .learning import Lesson, Places, prefer, train_settings, why_no_pairs
from .prompts import in_chat, prompt_of
from .report import write_report
from .results import LOOKS, iteration_summary, looks_of, names_to_test, run_result
from .train import log_of, train
from .writers import Writers


def run_loop(request: RunRequest, progress: Progress) -> dict[str, Any]:
    """Run or resume the loop, and return the object that `run --json` prints.

    UsageError where the machine cannot do it; then nothing is half-written.
    """
    config, folder, settings = request.config, request.folder, request.screening
    writer = writer_of(config)
    check_machine(settings, writer)
    with ExitStack() as stack:
        wanted = config.model_dump(mode="json")
        looks = looks_at(folder) if request.existing == "replace" else 0
        begun = stack.enter_context(open_folder(folder, wanted, request.existing, completed))
        store = stack.enter_context(Store.open(folder / DATABASE))
        if looks:
            store.set_setting(LOOKS, looks)
        record_inputs(store, run_inputs(config, settings), folder, settings.accept_engine)
        screener = stack.enter_context(open_screener(settings, store, folder, writer))
        store.set_setting("unsafe_sandbox", settings.unsafe_sandbox)
        screener.session.start()
        progress.stage("base", 1)
        score_base(screener)
        begun()
        with keeping(lambda: run_result(store, config, folder)):
            result = Loop(config, folder, store, screener, progress).run()
            store.set_setting("result", result)
            screener.reader.finish()
            write_samples(store, folder / "samples.jsonl")
    with keeping(lambda: result):
        write_report(folder)
    return result


class Loop:
    """Runs the steps of one run in order. The state of the run is in the store."""

    def __init__(
        self, config: RunConfig, folder: Path, store: Store, screener: Screener, progress: Progress
    ) -> None:
        self.config, self.folder, self.store = config, folder, store
        self.screener, self.progress = screener, progress
        self.task = screener.task
        self.generator = Checkpoint.open(config.generator_place).folder
        place = config.generator_place
        self.generator_place = place_of(place) if config.cluster.address else str(self.generator)
        self.writers = Writers(folder, self.generator)
        # Under which key workers hold it.
        self.writer_key = GENERATOR if writer_of(config) else TARGET
        self.prompt = prompt_of(config, self.generator)
        if config.generation.chat_template == "auto":
            self.prompt = in_chat(self.prompt, self.generator)

    def run(self) -> dict[str, Any]:
        self.score_known()
        for iteration in range(1, self.config.iterations + 1):
            self.iterate(iteration)
        return self.finish()

    # ---- what is known: experts and baselines

    def score_known(self) -> None:
        rows = known_candidates(list(self.config.experts), self.config.baselines)
        known = {c.id for c in self.store.candidates()}
        with self.store.transaction():
            self.store.add_candidates(row for row in rows if row["id"] not in known)
        wanted = {row["id"] for row in rows}
        self.screen("experts and baselines", [c for c in self.store.candidates() if c.id in wanted])

    def screen(self, label: str, candidates: list[Candidate]) -> None:
        """Decide those of these candidates that are not yet decided."""
        waiting = [c for c in candidates if c.is_open(PRODUCT_VERSION)]
        self.progress.stage(label, len(candidates))
        done = len(candidates) - len(waiting)

        def decided() -> None:
            nonlocal done
            done += 1
            self.progress.update(done)

        self.progress.update(done)
        self.screener.screen(waiting, decided)

    # ---- one iteration

    def iterate(self, iteration: int) -> None:
        record = self.store.iterations().get(iteration, {})
        if record.get("done"):
            return
        self.writers.forget_before(iteration)
        fingerprint = self.sample(iteration)
        decide_copies(self.store, iteration)
        unique = [c for c in self.store.candidates(iteration) if c.status is not Status.COPY]
        self.screen(f"iteration {iteration}: score", unique)
        is_last = iteration == self.config.iterations
        trained = {} if is_last or self.config.learn == "none" else self.learn(iteration)
        summary = {
            **iteration_summary(self.store, self.config, iteration, fingerprint),
            **trained,
            "done": True,
        }
        with self.store.transaction():
            self.store.set_iteration(iteration, summary)

    def sample(self, iteration: int) -> str:
        """Draw the samples that the store lacks; returns the fingerprint of the generator."""
        done = len(self.store.candidates(iteration))
        folder = self.writers.of(iteration)
        trained = None if folder == self.generator else folder
        writer = Writer.of(self.writer_key, self.generator_place, trained)
        plan = sampling_plan(self.config, self.prompt, iteration)
        self.progress.stage(f"iteration {iteration}: sample", plan.samples)
        self.progress.update(done)
        draw = partial(sample_wave, writer, plan)
        left = list(waves(plan.samples, plan.wave, done))
        session = self.screener.session
        # All workers draw; waves are kept in their order.
        drawn = [session.submit(f"samples {w[0]} to {w[-1]}", partial(draw, w)) for w in left]
        for numbers, texts in zip(left, drawn, strict=True):
            keep_samples(self.store, iteration, numbers, texts.result(), writer.fingerprint)
            self.screener.note_incidents()
            self.progress.update(numbers[-1] + 1)
        return writer.fingerprint

    # ---- learning

    def learn(self, iteration: int) -> dict[str, Any]:
        """Make preference pairs, train on them, and leave the next generator on disk.

        Training is skipped if that generator is there already. Without pairs nothing is learned, which
        is noted, and the same generator writes the next iteration.
        """
        lesson = Lesson(self.store, self.config, iteration)
        pairs = prefer(lesson)
        if not pairs:
            return {"note": why_no_pairs(lesson)}
        out, adapter = self.writers.trained(iteration + 1), self.writers.adapter(iteration + 1)
        if not out.exists():
            places = Places(self.writers.adapter_of(iteration), out, adapter)
            settings = train_settings(lesson, pairs, self.prompt, self.generator, places)
            self.progress.stage(f"iteration {iteration}: train", self.config.dpo.max_steps)
            self.screener.session.stop()
            train(settings, self.progress.update)
            self.screener.session.start()
        log = log_of(adapter)
        return {"pairs": len(pairs), "dpo_steps": log.get("steps", 0), "training": log}

    # ---- the end

    def finish(self) -> dict[str, Any]:
        """Score the best programs and the known models on test; the result of the run."""
        names = names_to_test(self.store, self.config)
        if names and self.task.has_test:
            score_on_test(self.screener, names, self.progress)
        return run_result(self.store, self.config, self.folder)


def looks_at(folder: Path) -> int:
    """How often the run in this folder, and those before it, scored a model on test."""
    # What is damaged has no record to keep, and may be replaced.
    with suppress(UsageError, sqlite3.Error), Store.read(folder / DATABASE) as store:
        return looks_of(store)
    return 0


def decide_copies(store: Store, iteration: int) -> None:
    """Mark every later program with exactly the same text as a copy of the first one."""
    first: dict[str, str] = {}
    with store.transaction():
        for candidate in store.candidates(iteration):
            original = first.setdefault(candidate.source or "", candidate.id)
            if original != candidate.id and candidate.status is None:
                store.decide(candidate.id, status=Status.COPY, duplicate_of=original)
