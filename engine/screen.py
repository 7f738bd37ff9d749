"""Screening: every program traced, deduplicated, swapped into the live engine, scored, kept.

    program -> plan (or rejection) -> survey of its update -> duplicate of whom? -> swap -> score -> store

A run folder holds config.yaml, run.db and, if asked for, samples.jsonl. The same command on it goes
on where it was cut off and pays nothing twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .bank import Bank
from .checkpoint import Checkpoint
from .dedup import BASE, Seen
from .errors import Rejected, Rejection, UsageError, WorkerLost
from .merge import open_backend
from .plan import MergePlan, Planner
from .program import extract
from .programs import read_programs
from .resident.client import EngineSettings, Worker
from .score import evaluate
from .store import Candidate, Store
from .tasks import Task, load_task
from .trace.tracer import Tracer, TraceSettings

FREE = ("memory_bytes", "log_samples", "unsafe_sandbox")  # may change between resumes


@dataclass(frozen=True)
class ScreenSettings:
    """What decides the scores; a run folder belongs to one of these."""

    base: str
    experts: dict[str, str]
    task: str
    include: str = "mlp"
    backend: str = "auto"
    params: dict[str, Any] = field(default_factory=dict)
    race: str = "full"
    seed: int = 0
    data: str | None = None
    memory_bytes: int | None = None
    log_samples: bool = False
    unsafe_sandbox: bool = False
    trace_timeout_s: float = 10.0
    eager_tier: bool = True


class Screener:
    """Scores candidates of one store in one live engine. See `open_screener`."""

    def __init__(
        self,
        settings: ScreenSettings,
        bank: Bank,
        planner: Planner,
        task: Task,
        store: Store,
        log: Path,
    ) -> None:
        self.settings, self.bank, self.planner = settings, bank, planner
        self.task, self.store, self._log = task, store, log
        self.seen = Seen(bank, planner.backend)
        self._worker: Worker | None = None
        self._ready = False  # target and bank are open
        self._others: set[str] = set()

    # ---- the engine: started when first needed, stopped for training, started again

    @property
    def worker(self) -> Worker:
        self.start_engine()
        assert self._worker is not None
        if not self._ready:
            self._worker.open_model("target", str(self.bank.base.folder))
            places = {name: str(c.folder) for name, c in self.bank.experts.items()}
            base = str(self.bank.base.folder)
            backend = self.planner.backend.name
            self._worker.open_bank(base, places, self.bank.include, backend)
            self._ready, self._others = True, set()
        return self._worker

    def open_model(self, key: str, folder: Path) -> bool:
        """Another model in the same process; False if the engine has it already."""
        worker = self.worker
        if key in self._others:
            return False
        worker.open_model(key, str(folder))
        self._others.add(key)
        return True

    def start_engine(self) -> None:
        """Begin the engine's imports; tracing goes on meanwhile."""
        if self._worker is None:
            memory = self.settings.memory_bytes
            self._worker = Worker.start(EngineSettings(memory_bytes=memory), self._log)
            self._ready = False

    def stop_engine(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    # ---- scoring

    def score_base(self, progress: Any = None) -> None:
        """The base, as candidate `base`; once."""
        if self.store.score(BASE):
            return
        with self.store.transaction():
            if self.store.candidate(BASE) is None:
                self.store.add_candidates([{"id": BASE, "source": None}])
        began = time.monotonic()
        prints = self.worker.restore()
        score, samples = evaluate(self.worker, "target", self.task, "dev", progress)
        with self.store.transaction():
            self.store.add_score(BASE, self.settings.task, "dev", score, samples)
            nothing = {"coefficients": dict.fromkeys(self.bank.experts, 0.0), "residual": 0.0}
            seconds = time.monotonic() - began
            self.store.decide(
                BASE, status="scored", weights_fingerprint=prints, seconds=seconds, linear=nothing
            )

    def recall(self) -> None:
        """Learn again what earlier candidates of this store did, so that duplicates are found."""
        for candidate in self.store.candidates():
            if candidate.status == "scored" and candidate.source is not None:
                plan = self.plan(candidate)
                if isinstance(plan, MergePlan) and candidate.id not in self.seen.plans:
                    self.seen.remember(candidate.id, plan, self.seen.survey(plan))

    def plan(self, candidate: Candidate) -> MergePlan | Rejection:
        assert candidate.source is not None
        try:
            return self.planner.plan(extract(candidate.source, candidate.params))
        except Rejected as error:
            return error.rejection

    def screen(self, candidate: Candidate) -> None:
        """Decide one candidate that is in the store; a transaction at the end."""
        began = time.monotonic()
        try:
            plan = self.plan(candidate)
            if isinstance(plan, Rejection):
                raise Rejected(plan)
            self._decide(candidate, plan, began)
        except Rejected as error:
            why, seconds = error.rejection, time.monotonic() - began
            words = {"kind": why.kind, "detail": why.detail, "line": why.line}
            with self.store.transaction():
                self.store.decide(candidate.id, status="rejected", seconds=seconds, **words)

    def _decide(self, candidate: Candidate, plan: MergePlan, began: float) -> None:
        survey = self.seen.survey(plan)
        twin = self.seen.known(plan) or self.seen.twin(plan, survey)
        linear = survey.fit.result() if plan.tensors else None
        if twin is None:
            self._score(candidate, plan, linear, began)
            self.seen.remember(candidate.id, plan, survey)
            return
        with self.store.transaction():
            self._keep_trace(candidate, plan)
            seconds = time.monotonic() - began
            same = self.store.candidate(twin)
            prints = same.weights_fingerprint if same else None
            self.store.decide(
                candidate.id,
                status="duplicate",
                duplicate_of=twin,
                weights_fingerprint=prints,
                seconds=seconds,
                linear=linear,
            )

    def _answers(self, candidate: Candidate, plan: MergePlan) -> tuple[Any, Any, Any] | None:
        """(fingerprints, score, samples), or None if the engine was lost."""
        try:
            prints = self.worker.apply(plan)
            return prints, *evaluate(self.worker, "target", self.task, "dev")
        except WorkerLost as error:
            self._worker = None
            self.store.add_event("worker lost", candidate=candidate.id, detail=str(error)[-2000:])
            return None

    def _score(self, candidate: Candidate, plan: MergePlan, linear: Any, began: float) -> None:
        """Swap and ask; a lost engine costs one more try, then the candidate has failed."""
        answered = self._answers(candidate, plan) or self._answers(candidate, plan)
        if answered is None:
            detail = "the engine died twice under this candidate"
            self.store.decide(candidate.id, status="failed", detail=detail)
            return
        prints, score, samples = answered
        with self.store.transaction():
            self._keep_trace(candidate, plan)
            self.store.add_score(candidate.id, self.settings.task, "dev", score, samples)
            seconds = time.monotonic() - began
            self.store.decide(
                candidate.id,
                status="scored",
                weights_fingerprint=prints,
                seconds=seconds,
                linear=linear,
            )

    def _keep_trace(self, candidate: Candidate, plan: MergePlan) -> None:
        self.store.add_trace(candidate.id, plan.tier, plan.reason, plan.fingerprint, plan.num_asks)

    # ---- results

    def result(self, name: str) -> dict[str, Any]:
        """The candidate object of `screen --json`."""
        candidate = self.store.candidate(name)
        assert candidate is not None, name
        score = self.store.score(name) if candidate.status in ("scored", "duplicate") else None
        numbers = ("correct", "n", "score", "low", "high")
        return {
            "id": name,
            "status": candidate.status,
            "kind": candidate.kind,
            "detail": candidate.detail,
            "line": candidate.line,
            "duplicate_of": candidate.duplicate_of,
            "tier": candidate.tier,
            **{key: getattr(score, key) if score else None for key in numbers},
            "linear": candidate.linear,
            "fingerprint": candidate.fingerprint,
            "weights_fingerprint": candidate.weights_fingerprint,
            "seconds": candidate.seconds,
        }


@contextmanager
def open_screener(settings: ScreenSettings, store: Store, folder: Path) -> Iterator[Screener]:
    """Bank, sandbox and engine for one store; all closed afterwards. UsageError for bad input."""
    task = load_task(settings.task, Path(settings.data) if settings.data else None)
    backend = open_backend(settings.backend)
    bank = Bank.open(settings.base, settings.experts, settings.include, keep=True)
    trace = TraceSettings(
        timeout_s=settings.trace_timeout_s,
        eager_tier=settings.eager_tier,
        unsafe=settings.unsafe_sandbox,
    )
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    with ExitStack() as stack:
        tracer = stack.enter_context(Tracer(trace))
        planner = Planner(bank, tracer, backend, settings.seed, scratch)
        screener = Screener(settings, bank, planner, task, store, folder / "engine.log")
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
                "base": screener.result(BASE),
                "candidates": [screener.result(name) for name, _ in programs],
            }


def run_candidates(screener: Screener, names: Sequence[str], bar: Any) -> None:
    """Decide what is not yet decided, in order."""
    screener.score_base()
    stored = {c.id: c for c in screener.store.candidates()}
    waiting = [stored[name] for name in names if stored[name].status in (None, "failed")]
    if waiting:
        screener.recall()
    done = len(names) - len(waiting)
    for candidate in waiting:
        bar.update(done, len(names))
        screener.screen(candidate)
        done += 1
    bar.update(done, len(names))


def check_inputs(settings: ScreenSettings) -> None:
    """What can be wrong is said before a folder is made."""
    load_task(settings.task, Path(settings.data) if settings.data else None)
    open_backend(settings.backend)
    Bank.open(settings.base, settings.experts, settings.include)


def open_folder(folder: Path, settings: ScreenSettings) -> None:
    """Make the run folder, or see that it belongs to the same settings."""
    wanted = comparable(settings)
    config = folder / "config.yaml"
    if config.exists():
        if yaml.safe_load(config.read_text()) != wanted:
            raise UsageError(
                f"--run {folder}: holds a run with other settings; name another folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--run {folder}: holds files that are no run of this command")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--run {folder}: cannot be made: {error.strerror}") from None
    fresh = folder / f"config.yaml.{os.getpid()}"
    fresh.write_text(yaml.safe_dump(wanted, sort_keys=False))
    fresh.rename(config)


def comparable(settings: ScreenSettings) -> dict[str, Any]:
    """Settings with absolute places, without those that change no score."""
    plain = {k: v for k, v in asdict(settings).items() if k not in FREE}
    plain["base"] = str(Checkpoint.open(settings.base).folder.absolute())
    plain["experts"] = {
        n: str(Checkpoint.open(p).folder.absolute()) for n, p in settings.experts.items()
    }
    if settings.task.startswith("jsonl:"):
        plain["task"] = f"jsonl:{Path(settings.task.removeprefix('jsonl:')).absolute()}"
    return plain


def add_programs(
    store: Store, programs: Sequence[tuple[str, str]], settings: ScreenSettings, folder: Path
) -> None:
    """New programs into the store; one that is there must be the same text."""
    from .store import clean

    known = {c.id: c for c in store.candidates()}
    for name, text in programs:
        if name in known and known[name].source != clean(text):
            raise UsageError(f"--run {folder}: program {name!r} has another text there")
    fresh = [(name, text) for name, text in programs if name not in known]
    with store.transaction():
        if BASE not in known:
            store.add_candidates([{"id": BASE, "source": None}])
        store.add_candidates({"id": n, "source": t, "params": settings.params} for n, t in fresh)


def write_samples(store: Store, path: Path) -> None:
    """All answers, complete or not there."""
    fresh = path.with_suffix(f".{os.getpid()}")
    with fresh.open("w") as file:
        for sample in store.samples():
            file.write(json.dumps(sample) + "\n")
    fresh.rename(path)
