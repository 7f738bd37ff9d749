"""Deciding candidates: prepared by the driver while the engine scores, decided in order.

program -> plan (or rejection) -> survey of its update -> duplicate of whom? -> swap -> score -> store
|----------------- the driver, some candidates ahead ----------------| |-- the engine --|
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from ..errors import EngineGone, Rejected, Rejection, WorkerLost
from ..plans.planner import Planner
from ..records.candidate import BASE, Candidate
from ..records.score import Sample, Score, provenance, score_of
from ..records.store import Store
from ..resident.ask import evaluate, graded
from ..resident.client import Client, choose_engine
from ..resident.messages import EngineSettings
from ..resident.threads import MOST_PROMPTS
from ..tasks.task import Task
from ..weights.bank import Bank
from ..weights.budget import cache_share
from .compile_ahead import Ahead
from .folder import POPULATION
from .prepare import Preparer
from .prepared import Answers, Prepared, Usage
from .race_asking import ask_in_race, open_race, recall
from .settings import ScreenSettings

WITH_SCORE = ("scored", "stopped", "duplicate")
THREADS = "threads"  # the setting of a store: that the engine answers with
TRIAL_TOKENS, TRIAL_LETTERS = 8, 200  # of an answer and of a prompt (its end), to choose threads by
MAX_LOST = 2  # engines that a candidate may cost
AHEAD = 4  # candidates prepared while the engine scores


class Screener:
    """Scores candidates of one store in one live engine. See `open_screener`.

    The driver traces, surveys and compares the next candidates (`AHEAD` of them) while the engine
    scores: threads of their own wait for the engine, and candidates are decided in order.
    """

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
        self.preparer = Preparer(planner, store)
        self.ahead = Ahead.of(bank)
        self._worker: Client | None = None
        self._ready = False  # target and bank are open
        self._others: set[str] = set()
        self._opening, self._grading = Lock(), Lock()
        self.usage = Usage(threads=store.setting(THREADS))
        self._trials: dict[str, float] = {}  # seconds by threads, where they were chosen now
        self.race = open_race(
            settings.race, settings.top, settings.seed, task, store.setting(POPULATION)
        )
        if self.race:
            recall(self.race, store, task)

    # ---- the engine: started when first needed, stopped for training, started again

    @property
    def worker(self) -> Client:
        self.start_engine()
        assert self._worker is not None
        if not self._ready:
            self._worker.open_model("target", str(self.bank.base.folder))
            places = {name: str(c.folder) for name, c in self.bank.experts.items()}
            base = str(self.bank.base.folder)
            chosen, room = self.settings.backend, self.bank.memory_bytes
            self.ahead.arch = self._worker.open_bank(
                base, places, self.bank.include, chosen, memory_bytes=room
            )
            self._keep_threads(self._worker)
            self._ready, self._others = True, set()
            self.usage.engine = self._worker.engine
        return self._worker

    def _keep_threads(self, worker: Client) -> None:
        """As many as before; at a run's first start, those that are found the fastest."""
        if self.usage.threads:
            return worker.set_threads(self.usage.threads)
        task, length = self.task, min(TRIAL_TOKENS, self.task.max_new_tokens)
        ends = [question.prompt[-TRIAL_LETTERS:] for question in task.split("dev")]
        found = worker.choose_threads(ends[:MOST_PROMPTS], max_new_tokens=length, stop=task.stop)
        self.usage.threads, self._trials = found["threads"], found["seconds"]

    def open_model(self, key: str, folder: Path) -> bool:
        """Another model in the same process; False if the engine has it already."""
        worker = self.worker
        if key in self._others:
            return False
        worker.open_model(key, str(folder))
        self._others.add(key)
        return True

    def start_engine(self) -> None:
        """Begin the engine's imports; tracing goes on meanwhile. Never from a thread of a pool:
        the kernel ends the engine's process with the thread that started it."""
        if self._worker is None:
            chosen = EngineSettings(
                engine=choose_engine(self.settings.engine),
                memory_bytes=cache_share(self.settings.memory_bytes),
                seed=self.settings.seed,
            )
            self._worker = Client.start(chosen, self._log)
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
            self.add_score(BASE, "dev", score, samples)
            self.store.set_setting(THREADS, self.usage.threads)
            self.store.add_event(THREADS, threads=self.usage.threads, seconds=self._trials)
            nothing = {"coefficients": dict.fromkeys(self.bank.experts, 0.0), "residual": 0.0}
            seconds = time.monotonic() - began
            self.store.decide(
                BASE, status="scored", weights_fingerprint=prints, seconds=seconds, linear=nothing
            )

    def add_score(self, name: str, split: str, score: Score, samples: list[Sample]) -> None:
        """Into the store, with what it was made."""
        made = provenance(self.task, self.usage.engine)
        self.store.add_score(name, self.settings.task, split, score, samples, made)

    def screen(self, candidates: Iterable[Candidate], decided: Callable[[], None]) -> None:
        """Decide these candidates of the store, in order; a transaction each."""
        self.start_engine()
        began = time.monotonic()
        waiting: deque[tuple[Prepared, Future[Answers] | None]] = deque()
        # Two, so that the engine has the next one before it answers the last; a race wants its
        # candidates one after the other.
        pool = ThreadPoolExecutor(1 if self.race else 2, "engine")

        def settle() -> None:
            self._decide(*waiting.popleft(), pool)
            decided()

        left = iter(candidates)
        try:
            while group := list(islice(left, self.preparer.num_together)):
                waiting += [self._submit(one, pool) for one in self.preparer.prepare(group)]
                while waiting and (len(waiting) > AHEAD or is_settled(waiting[0][1])):
                    settle()
            while waiting:
                settle()
        except BaseException:
            self.stop_engine()  # or the pool would wait for its answer
            raise
        finally:
            self.usage.wall_s += time.monotonic() - began
            self.preparer.twins.recent.clear()
            pool.shutdown(cancel_futures=True)

    def _submit(
        self, prepared: Prepared, pool: ThreadPoolExecutor
    ) -> tuple[Prepared, Future[Answers] | None]:
        if prepared.plan is None or prepared.twin:
            return prepared, None
        self.ahead.submit(prepared.plan)
        return prepared, pool.submit(self._ask, prepared)

    def _ask(self, prepared: Prepared) -> Answers:
        """Swap and ask, then grade, while another candidate has the engine. Touches no store."""
        assert prepared.plan is not None
        text = json.dumps(prepared.plan.to_json())
        try:
            with self._opening:
                if self._worker is None:
                    raise EngineGone
                worker = self.worker
            return self._raced(worker, prepared) if self.race else self._scored(worker, text)
        except WorkerLost:
            self._worker = None
            raise

    def _raced(self, worker: Client, prepared: Prepared) -> Answers:
        assert self.race and prepared.plan
        before = worker.times
        prints = worker.apply(prepared.plan)
        samples = ask_in_race(worker, self.race, prepared.candidate, self.task)
        spent = worker.times - before
        self.usage.count(spent)
        return Answers(prints, score_of(samples, self.task.metric), samples, spent.busy_s)

    def _scored(self, worker: Client, plan: str) -> Answers:
        task = self.task
        prompts = [question.prompt for question in task.split("dev")]
        limits = {"max_new_tokens": task.max_new_tokens, "stop": task.stop}
        prints, answers, spent = worker.score(plan, prompts, **limits)
        with self._grading:
            self.usage.count(spent)
            return Answers(prints, *graded(task, "dev", answers), spent.busy_s)

    # ---- deciding

    def _decide(
        self, prepared: Prepared, asked: Future[Answers] | None, pool: ThreadPoolExecutor
    ) -> None:
        candidate = prepared.candidate
        if prepared.rejection is None and prepared.twin and not self._is_scored(prepared.twin):
            assert prepared.plan is not None
            survey = prepared.survey or self.preparer.twins.surveyor.survey(prepared.plan)
            prepared = replace(prepared, twin=None, like=None, survey=survey)  # it failed after all
            asked = pool.submit(self._ask, prepared)
        if prepared.twin:
            self._keep_duplicate(prepared)
        elif prepared.rejection or asked is None:
            self._keep_rejection(prepared, prepared.rejection)
        else:
            self._keep_answers(prepared, asked, pool)
        self.preparer.twins.recent.pop(candidate.id, None)

    def _is_scored(self, name: str) -> bool:
        found = self.store.candidate(name)
        return found is not None and found.status in ("scored", "stopped")

    def _keep_answers(
        self, prepared: Prepared, asked: Future[Answers], pool: ThreadPoolExecutor
    ) -> None:
        """A lost engine costs one more try, then the candidate has failed."""
        lost, name = 0, prepared.candidate.id
        while True:
            try:
                return self._keep_score(prepared, asked.result())
            except Rejected as error:
                return self._keep_rejection(prepared, error.rejection)
            except WorkerLost as error:
                lost += 1
                self.store.add_event("worker lost", candidate=name, detail=str(error)[-2000:])
            except EngineGone:
                pass  # not this candidate's doing
            if lost == MAX_LOST:
                detail = f"the engine died {lost} times under this candidate"
                return self.store.decide(name, status="failed", detail=detail)
            self.start_engine()
            asked = pool.submit(self._ask, prepared)

    def _keep_score(self, prepared: Prepared, answers: Answers) -> None:
        with self.store.transaction():
            self.add_score(prepared.candidate.id, "dev", answers.score, answers.samples)
            self._keep_outcome(
                prepared,
                status="scored" if len(answers.samples) == self.num_questions else "stopped",
                weights_fingerprint=answers.weights_fingerprint,
                seconds=prepared.seconds + answers.seconds,
            )

    @property
    def num_questions(self) -> int:
        return len(self.task.split("dev"))

    def _keep_duplicate(self, prepared: Prepared) -> None:
        assert prepared.twin is not None
        same = self.store.candidate(prepared.twin)
        outcome = {
            "status": "duplicate",
            "duplicate_of": prepared.twin,
            "weights_fingerprint": same.weights_fingerprint if same else None,
            "seconds": prepared.seconds,
        }
        with self.store.transaction():
            if prepared.like:
                self.store.decide_like(prepared.like, prepared.candidate.id, **outcome)
            else:
                self._keep_outcome(prepared, **outcome)

    def _keep_outcome(self, prepared: Prepared, **outcome: Any) -> None:
        plan, survey, name = prepared.plan, prepared.survey, prepared.candidate.id
        assert plan is not None and survey is not None
        trace = (plan.tier, plan.reason, plan.fingerprint, plan.num_asks)
        scored = prepared.twin is None
        self.store.add_trace(name, *trace, survey.norm, survey.sketch, scored)
        linear = survey.linear.to_json(tuple(self.bank.experts))
        self.store.decide(name, linear=linear, **outcome)

    def _keep_rejection(self, prepared: Prepared, why: Rejection | None) -> None:
        assert why is not None
        words = {"kind": why.kind, "detail": why.detail, "line": why.line}
        with self.store.transaction():
            seconds = prepared.seconds
            self.store.decide(prepared.candidate.id, status="rejected", seconds=seconds, **words)

    # ---- results

    def result(self, name: str) -> dict[str, Any]:
        """The candidate object of `screen --json`."""
        candidate = self.store.candidate(name)
        assert candidate is not None, name
        score = self.store.score(name) if candidate.status in WITH_SCORE else None
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
            "made_with": self.store.made_with(name),
            "fingerprint": candidate.fingerprint,
            "weights_fingerprint": candidate.weights_fingerprint,
            "seconds": candidate.seconds,
        }


def is_settled(asked: Future[Answers] | None) -> bool:
    return asked is None or asked.done()
