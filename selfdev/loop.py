"""The loop of Self-Developing (arXiv 2410.15639): `selfdev-engine run CONFIG`.

1. Score the base, the experts and the baselines on dev.
2. For each iteration: sample programs; extract, trace, deduplicate and score them; make preference
   pairs; train the generator on them by DPO. The result writes the programs of the next iteration.
   Control arms (arms.py) do the same beside it, in one store and one engine.
3. Score the best programs on test, once.

Every step is a transaction in run.db, and `resume` goes on after the last one. The search reads dev
questions only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..engine.errors import UsageError, keeping
from ..engine.records.store import Store
from ..engine.screen import check_machine, open_screener
from ..engine.screening.folder import keep_labels, open_folder, write_samples
from ..engine.screening.identity import record_inputs
from ..engine.screening.pipeline import score_base
from ..engine.screening.place import DATABASE
from .arm_run import ArmRun
from .baselines import known_candidates
from .config import RunConfig, completed
from .final_test import score_on_test
from .inputs import RunRequest, run_inputs, writer_of
from .mirror import Mirror
from .report import write_report
from .results import LOOKS, iteration_summary, looks_of, names_to_test, run_result
from .run_context import RunContext
from .train import train
from .watching import Watcher


def run_loop(request: RunRequest, progress: Watcher) -> dict[str, Any]:
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
        keep_labels(store, settings)
        record_inputs(store, run_inputs(config, settings), folder, settings.accept_engine)
        screener = stack.enter_context(open_screener(settings, store, folder, writer))
        store.set_setting("unsafe_sandbox", settings.unsafe_sandbox)
        screener.session.start()
        progress.stage("start the engine, score the base", 1)
        score_base(screener)
        begun()
        with keeping(lambda: run_result(store, config, folder)):
            context = RunContext.of(config, folder, store, screener, progress)
            mirror = Mirror(request.report_to, store, folder, wanted)
            stack.callback(mirror.close)
            result = Loop(context, mirror).run()
            store.set_setting("result", result)
            screener.reader.finish()
            if settings.log_samples:
                write_samples(store, folder / "samples.jsonl")
    with keeping(lambda: result):
        write_report(folder)
    return result


class Loop:
    """Runs the steps of one run in order, its arms side by side. The state of the run is in the store."""

    def __init__(self, context: RunContext, mirror: Mirror) -> None:
        self.context, self.config, self.store = context, context.config, context.store
        self.mirror = mirror
        self.arms = [ArmRun(context, arm) for arm in self.config.all_arms]

    def run(self) -> dict[str, Any]:
        self.context.progress.expect(num_candidates(self.config))
        self.score_known()
        for iteration in range(1, self.config.iterations + 1):
            self.iterate(iteration)
            self.mirror.iteration(iteration, [arm.arm.name for arm in self.arms])
        return self.finish()

    def score_known(self) -> None:
        """Score the experts, and all settings of the baselines."""
        rows = known_candidates(list(self.config.experts), self.config.baselines)
        known = {c.id for c in self.store.candidates()}
        with self.store.transaction():
            self.store.add_candidates(row for row in rows if row["id"] not in known)
        wanted = {row["id"] for row in rows}
        found = [c for c in self.store.candidates() if c.id in wanted]
        self.context.screen("experts and baselines", found)

    def iterate(self, iteration: int) -> None:
        """Sample, score and learn in all arms. Samples come first where they need no scores."""
        left = [arm for arm in self.arms if not arm.is_done(iteration)]
        for arm in left:
            arm.writers.forget_before(iteration)
        together = [arm for arm in left if not arm.is_sequential]
        for arm in together:
            arm.sample(iteration, self.arms[: self.arms.index(arm)])
        found = [c for arm in together for c in arm.texts(iteration)]
        self.context.screen(f"iteration {iteration}: score", found)
        for arm in left:
            if arm.is_sequential:
                arm.search(iteration)
        # The generator that wrote is told, not the one that is trained now.
        summaries = {
            arm: iteration_summary(self.store, self.config, arm.arm, iteration) for arm in left
        }
        is_last = iteration == self.config.iterations
        learners = [] if is_last else [arm for arm in left if arm.arm.learns]
        for arm, learned in self.learn(iteration, learners).items():
            summaries[arm] |= learned
        with self.store.transaction():
            for arm, summary in summaries.items():
                self.store.set_iteration(iteration, {**summary, "done": True}, arm.arm.name)

    def learn(self, iteration: int, arms: Sequence[ArmRun]) -> dict[ArmRun, dict[str, Any]]:
        """Make preference pairs, train on them, and leave the next generator of each arm on disk.

        Training is skipped if that generator is there already. Without pairs nothing is learned, which
        is noted, and the same generator writes the next iteration.
        """
        stages = {arm: arm.stage(iteration) for arm in arms}
        waiting = [stage for stage in stages.values() if stage.is_open]
        session = self.context.screener.session
        if waiting:
            session.stop()
        for stage in waiting:
            label = f"iteration {iteration}: train{stage.lesson.arm.in_words}"
            prompt, generator = self.context.prompt(), self.context.generator
            told = partial(self.tell_training, label)
            train(stage.settings(prompt, generator), self.context.progress.update, stage=told)
        if waiting:
            session.start()
        return {arm: stage.told() for arm, stage in stages.items()}

    def tell_training(self, label: str, part: str) -> None:
        """Begin a part of a training as a stage of its own."""
        total = self.config.dpo.max_steps if part == "steps" else None
        self.context.progress.stage(f"{label}: {part}", total)

    def finish(self) -> dict[str, Any]:
        """Score the best programs and the known models on test; the result of the run."""
        names = names_to_test(self.store, self.config)
        if names and self.context.screener.task.has_test:
            score_on_test(self.context.screener, names, self.context.progress)
        return run_result(self.store, self.config, self.context.folder)


def num_candidates(config: RunConfig) -> int:
    """How many candidates the run will decide: the known models, and the samples of all arms."""
    known = known_candidates(list(config.experts), config.baselines)
    return len(known) + config.iterations * config.samples * len(config.all_arms)


def looks_at(folder: Path) -> int:
    """How often the run in this folder, and those before it, scored a model on test."""
    # What is damaged has no record to keep, and may be replaced.
    with suppress(UsageError, sqlite3.Error), Store.read(folder / DATABASE) as store:
        return looks_of(store)
    return 0
