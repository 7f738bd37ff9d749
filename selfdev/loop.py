"""The loop of Self-Developing, top to bottom: `selfdev-engine run CONFIG`.

base, experts, baselines on dev
for each iteration: sample -> extract, trace, deduplicate, score -> prefer -> DPO -> new writer
the best on test, once

Every step is a transaction in run.db; `resume` goes on after the last one. Search reads dev only.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import yaml

from ..engine.errors import UsageError
from ..engine.records.candidate import BASE, Candidate
from ..engine.records.score import Score
from ..engine.records.store import Store
from ..engine.resident.ask import evaluate
from ..engine.screen import check_inputs, open_screener
from ..engine.screening.folder import write_samples
from ..engine.screening.pipeline import Screener
from ..engine.screening.settings import ScreenSettings
from ..engine.weights.checkpoint import Checkpoint
from ..engine.weights.fingerprint import folder_fingerprint
from .baselines import baseline_candidates, expert_candidates
from .config import RunConfig
from .generate import SamplingPlan, sample_wave, waves
from .preferences import Pair, Scored, elites_of, make_pairs
from .prompts import in_chat, load_prompt, program_text
from .report import write_report
from .train import TrainSettings, check_extra, train

GENERATOR = "generator"
NUM_ENGINES = 2  # what is screened, and what writes


class Progress(Protocol):
    """`stage(label, total)`, then `update(done)`."""

    def stage(self, label: str, total: int | None = None) -> Any: ...
    def update(self, done: int, total: int | None = None) -> None: ...


def run_loop(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    memory_bytes: int | None = None,
    data: Path | None = None,
    unsafe_sandbox: bool = False,
    progress: Progress,
) -> dict[str, Any]:
    """The `run` command's object. UsageError for bad input; nothing is half-written."""
    check_extra()
    settings = screen_settings(config, memory_bytes, data, unsafe_sandbox)
    check_inputs(settings, NUM_ENGINES)
    load_prompt(config.generation.prompt, Checkpoint.open(config.generator_place).folder)
    open_run(config, folder, resume, overwrite)
    with (
        Store.open(folder / "run.db") as store,
        open_screener(settings, store, folder, NUM_ENGINES) as screener,
    ):
        store.set_setting("unsafe_sandbox", unsafe_sandbox)
        loop = Loop(config, folder, store, screener, progress)
        result = loop.run()
        store.set_setting("result", result)
        write_samples(store, folder / "samples.jsonl")
    write_report(folder)
    return result


def screen_settings(
    config: RunConfig, memory_bytes: int | None, data: Path | None, unsafe: bool
) -> ScreenSettings:
    return ScreenSettings(
        base=config.base,
        experts=dict(config.experts),
        task=config.task,
        include=config.include,
        seed=config.seed,
        data=str(data) if data else None,
        shots=config.shots,
        memory_bytes=memory_bytes,
        unsafe_sandbox=unsafe,
        trace_timeout_s=config.trace.timeout_s,
        eager_tier=config.trace.eager_tier,
    )


def open_run(config: RunConfig, folder: Path, resume: bool, overwrite: bool) -> None:
    """Make the run folder, or see that it may be gone on with."""
    wanted = config.model_dump(mode="json")
    path = folder / "config.yaml"
    if path.exists() and overwrite and not resume:
        shutil.rmtree(folder)
    if path.exists() and not resume:
        raise UsageError(f"--run {folder}: holds a run; give --resume to go on, or --overwrite")
    if path.exists() and yaml.safe_load(path.read_text()) != wanted:
        raise UsageError(f"--run {folder}: holds a run of another config; name another folder")
    if folder.exists() and not path.exists() and any(folder.iterdir()):
        raise UsageError(f"--run {folder}: holds files that are no run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(wanted, sort_keys=False))
    except OSError as error:
        raise UsageError(f"--run {folder}: cannot be written: {error.strerror}") from None


class Loop:
    """One run. State is in the store; this object only walks."""

    def __init__(
        self, config: RunConfig, folder: Path, store: Store, screener: Screener, progress: Progress
    ) -> None:
        self.config, self.folder, self.store = config, folder, store
        self.screener, self.progress = screener, progress
        self.task = screener.task
        self.generator = Checkpoint.open(config.generator_place).folder
        self.prompt = load_prompt(config.generation.prompt, self.generator)
        if config.generation.chat_template == "auto":
            self.prompt = in_chat(self.prompt, self.generator)
        self.writer: Path | None = None  # whose weights the generator's engine holds

    def run(self) -> dict[str, Any]:
        self.screener.start_engine()
        self.score_known()
        for iteration in range(1, self.config.iterations + 1):
            self.iterate(iteration)
        return self.finish()

    # ---- what is known: base, experts, baselines

    def score_known(self) -> None:
        self.progress.stage("base", 1)
        self.screener.score_base()
        rows = expert_candidates(list(self.config.experts))
        for name in self.config.baselines:
            rows += baseline_candidates(name, len(self.config.experts))
        known = {c.id for c in self.store.candidates()}
        with self.store.transaction():
            self.store.add_candidates(row for row in rows if row["id"] not in known)
        wanted = {row["id"] for row in rows}
        self.screen("experts and baselines", [c for c in self.store.candidates() if c.id in wanted])

    def screen(self, label: str, candidates: list[Candidate]) -> None:
        """Decide those of these candidates that are not yet decided."""
        waiting = [c for c in candidates if c.status is None]
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
        fingerprint = self.sample(iteration)
        candidates = self.store.candidates(iteration)
        first = first_of_each_text(candidates)
        with self.store.transaction():
            for candidate in candidates:
                twin = first[candidate.source or ""]
                if twin != candidate.id and candidate.status is None:
                    self.store.decide(candidate.id, status="copy", duplicate_of=twin)
        unique = [c for c in self.store.candidates(iteration) if c.status != "copy"]
        self.screen(f"iteration {iteration}: score", unique)
        trained = self.learn(iteration) if iteration < self.config.iterations else {}
        summary = {**self.summary(iteration, fingerprint), **trained, "done": True}
        with self.store.transaction():
            self.store.set_iteration(iteration, summary)

    def sample(self, iteration: int) -> str:
        """All samples of an iteration are in the store; the fingerprint of who wrote them."""
        config = self.config
        done = len(self.store.candidates(iteration))
        writer = self.writer_folder(iteration)
        fingerprint = folder_fingerprint(writer)
        plan = SamplingPlan(
            self.prompt,
            config.temperature_of(iteration),
            config.generation.top_p,
            config.generation.max_new_tokens,
            config.generation.wave,
            config.seed,
        )
        self.progress.stage(f"iteration {iteration}: sample", config.samples)
        for numbers in waves(config.samples, plan.wave, done):
            self.hold(writer)
            texts = sample_wave(
                self.screener.worker,
                GENERATOR,
                plan,
                iteration,
                numbers,
                lambda n, start=numbers[0]: self.progress.update(start + n),
            )
            with self.store.transaction():
                self.store.add_candidates(
                    {
                        "id": f"i{iteration}-{number}",
                        "source": text,
                        "iteration": iteration,
                        "generator": fingerprint,
                    }
                    for number, (_, text) in zip(numbers, texts, strict=True)
                )
        return fingerprint

    def hold(self, writer: Path) -> None:
        """The generator's engine is up and holds these weights."""
        if self.screener.open_model(GENERATOR, self.generator):
            self.writer = self.generator
        if self.writer != writer:
            self.screener.worker.load_weights(GENERATOR, str(writer))
            self.writer = writer

    def writer_folder(self, iteration: int) -> Path:
        """Who writes in an iteration: the generator as given, then each stage's result."""
        return self.generator if iteration == 1 else self.folder / "generators" / str(iteration)

    # ---- learning

    def learn(self, iteration: int) -> dict[str, Any]:
        """Preferences of this iteration, a DPO stage on them, the next writer on disk."""
        out = self.writer_folder(iteration + 1)
        pairs = self.prefer(iteration)
        if out.exists():
            log = self.store.setting(f"training {iteration}") or {}
            return {"pairs": len(pairs), "dpo_steps": log.get("steps", 0), "training": log}
        if not any(not pair.held_out for pair in pairs):
            raise UsageError(
                f"iteration {iteration} gives no preference pairs: too few programs run or all "
                "score alike; raise `samples`, or widen `preferences`"
            )
        self.progress.stage(f"iteration {iteration}: train", self.config.dpo.max_steps)
        self.screener.stop_engine()
        log = train(self.train_settings(iteration, pairs, out), self.progress.update)
        with self.store.transaction():
            self.store.set_setting(f"training {iteration}", log)
        self.screener.start_engine()
        return {"pairs": len(pairs), "dpo_steps": log["steps"], "training": log}

    def prefer(self, iteration: int) -> list[Pair]:
        """The pairs, kept in the store."""
        scored = self.scored(iteration)
        earlier = [self.scored(i) for i in range(1, iteration)]
        invalid = [c.id for c in self.store.candidates(iteration) if c.status == "rejected"]
        settings, seed = self.config.preferences, self.config.seed * 1000 + iteration
        pairs = make_pairs(scored, elites_of(earlier, settings), invalid, settings, seed)
        with self.store.transaction():
            self.store.set_preferences(
                iteration, ((p.chosen, p.rejected, p.held_out) for p in pairs)
            )
        return pairs

    def scored(self, iteration: int) -> list[Scored]:
        """The distinct programs of an iteration that ran, with their dev scores."""
        found = []
        for c in self.store.candidates(iteration):
            if c.status in ("scored", "duplicate") and (score := self.store.score(c.id)):
                found.append(Scored(c.id, c.source or "", score.score))
        return found

    def train_settings(self, iteration: int, pairs: list[Pair], out: Path) -> TrainSettings:
        sources = {c.id: c.source or "" for c in self.store.candidates()}

        def texts(held_out: bool) -> list[tuple[str, str]]:
            return [
                (self.completion(sources[p.chosen]), self.completion(sources[p.rejected]))
                for p in pairs
                if p.held_out == held_out
            ]

        return TrainSettings(
            generator=str(self.writer_folder(iteration)),
            out=str(out),
            prompt=self.prompt,
            pairs=texts(False),
            held_out=texts(True),
            dpo=self.config.dpo.model_dump(),
            seed=self.config.seed + iteration,
        )

    def completion(self, source: str) -> str:
        """What the generator wrote after the prompt."""
        return source.removeprefix(program_text(self.prompt, ""))

    # ---- what is told

    def summary(self, iteration: int, fingerprint: str) -> dict[str, Any]:
        candidates = self.store.candidates(iteration)
        distinct = [c for c in candidates if c.status != "copy"]
        scores = [s.score for s in self.scored(iteration)]
        ran = {c.id for c in distinct if c.status in ("scored", "duplicate")}
        valid = sum(c.id in ran or c.duplicate_of in ran for c in candidates)
        rejected = Counter(c.kind for c in distinct if c.status == "rejected")
        return {
            "iteration": iteration,
            "sampled": len(candidates),
            "unique": len(distinct),
            "valid": valid,
            "rejected": dict(rejected),
            "best": max(scores, default=None),
            "mean": sum(scores) / len(scores) if scores else None,
            "pairs": 0,
            "dpo_steps": 0,
            "generator_fingerprint": fingerprint,
            "temperature": self.config.temperature_of(iteration),
        }

    def finish(self) -> dict[str, Any]:
        """Test scores of the best programs and of what they are compared with."""
        ranked = self.ranked([c for c in self.store.candidates() if c.iteration is not None])
        baselines = {name: self.best_of(name) for name in self.config.baselines}
        experts = {name: f"expert-{name}" for name in self.config.experts}
        top = ranked[: self.config.test.top]
        compared = [BASE, *experts.values(), *(b for b in baselines.values() if b)]
        if self.config.test.top and self.task.has_test:
            self.test(list(dict.fromkeys([*compared, *top])))
        records = [self.store.iterations()[i] for i in sorted(self.store.iterations())]
        return {
            "run": str(self.folder),
            "iterations": [{k: v for k, v in r.items() if k != "done"} for r in records],
            "base": self.row(BASE),
            "experts": {name: self.row(row) for name, row in experts.items()},
            "baselines": {name: self.row(row) for name, row in baselines.items() if row},
            "best": self.row(ranked[0]) if ranked else None,
            "tested": [self.row(name) for name in top],
        }

    def ranked(self, candidates: list[Candidate]) -> list[str]:
        """Scored ones by dev score, best first; the earlier one of equals."""
        scores = {c.id: self.store.score(c.id) for c in candidates if c.status == "scored"}
        return sorted((i for i in scores), key=lambda i: -(s.score if (s := scores[i]) else 0.0))

    def best_of(self, method: str) -> str | None:
        """The method's setting that is best on dev."""
        mine = [c for c in self.store.candidates() if c.id.split("-")[0] == method]
        decided = [c.id for c in mine if c.status in ("scored", "duplicate")]
        scores = {name: self.store.score(name) for name in decided}
        return max(decided, key=lambda n: s.score if (s := scores[n]) else 0.0, default=None)

    def test(self, names: list[str]) -> None:
        """Score on the test split, once each; the only place that reads it."""
        self.progress.stage("test", len(names))
        for done, name in enumerate(names):
            self.progress.update(done)
            if self.store.score(name, "test"):
                continue
            candidate = self.store.candidate(name)
            assert candidate is not None
            target = candidate.duplicate_of or name
            if self.store.score(target, "test") is None:
                score, samples = self.ask_test(target)
                with self.store.transaction():
                    self.screener.add_score(target, "test", score, samples)
        self.progress.update(len(names))

    def ask_test(self, name: str) -> tuple[Score, list[Any]]:
        worker, candidate = self.screener.worker, self.store.candidate(name)
        assert candidate is not None
        if name == BASE:
            worker.restore()
        else:
            plan = self.screener.preparer.plan(candidate)
            worker.apply(plan)  # type: ignore[arg-type]  # it was scored before: it has a plan
        return evaluate(worker, "target", self.task.unsealed(), "test")

    def row(self, name: str) -> dict[str, Any]:
        """{id, dev, test} with scores or null."""
        dev, test = self.store.score(name), self.store.score(name, "test")
        return {
            "id": name,
            "dev": asdict(dev) if dev else None,
            "test": asdict(test) if test else None,
        }


def first_of_each_text(candidates: list[Candidate]) -> dict[str, str]:
    """The first id of every distinct program text, spaces at line ends aside."""
    first: dict[str, str] = {}
    for candidate in candidates:
        first.setdefault(candidate.source or "", candidate.id)
    return first
