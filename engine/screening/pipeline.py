"""Decides candidates: the driver prepares them while the engine scores, and settles them in order.

program -> plan (or rejection) -> survey -> duplicate of whom? -> swap -> score -> store
|------------ the driver, some candidates ahead -------------|    | the engine |
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from ..errors import EngineGone, Failure, Rejected, Rejection, WorkerBug, WorkerLost
from ..plans.survey import Survey
from ..records.candidate import BASE, Candidate
from ..records.score import provenance
from ..records.store import Store
from ..resident.ask import evaluate
from ..tasks.task import Task
from .asking import Asker
from .compile_ahead import Ahead
from .contents_reader import ContentReader
from .outcomes import Outcomes
from .prepare import Preparer
from .race import Race
from .session import TARGET, EngineSession
from .verdicts import Answers, Duplicate, Verdict

# Key of the store: how many threads the engine answers with.
THREADS = "threads"
# A candidate has failed once this many engines died under it.
MAX_LOST = 2
# The number of candidates that are prepared while the engine scores.
AHEAD = 4

# The answers to come; None where the engine is not needed.
Asked = Future[Answers] | None


class Screener:
    """Scores candidates of one store in one live engine. `open_screener` makes it.

    The driver traces, surveys and compares the next candidates (`AHEAD` of them) while the engine
    scores. Threads of their own wait for the engine, and candidates are decided in order.
    """

    def __init__(
        self,
        session: EngineSession,
        preparer: Preparer,
        outcomes: Outcomes,
        task: Task,
        race: Race | None,
        reader: ContentReader,
    ) -> None:
        self.reader = reader
        self.session, self.preparer, self.outcomes = session, preparer, outcomes
        self.task, self.asker = task, Asker(session, task, race)
        self.compiler = Ahead.of(preparer.planner.bank)

    @property
    def store(self) -> Store:
        return self.outcomes.store

    @property
    def made_with(self) -> dict[str, str]:
        """Engine, task and grader of the scores that are made now."""
        usage = self.session.usage
        return provenance(self.task, usage.engine, usage.decoding)

    def close(self) -> None:
        """End the engine, and drop the compilations that have not begun."""
        self.session.stop()
        self.compiler.close()

    # ---- the order of work

    def screen(self, candidates: Iterable[Candidate], decided: Callable[[], None]) -> None:
        """Decide these candidates of the store in order, in a transaction each.

        `decided` is called after each one.
        """
        self.session.start()
        began = time.monotonic()
        waiting: deque[tuple[Candidate, Verdict, Asked]] = deque()
        pool = ThreadPoolExecutor(self.asker.num_threads, "engine")

        def settle() -> None:
            self._settle(*waiting.popleft(), pool)
            self.reader.keep()
            decided()

        left = iter(candidates)
        try:
            while group := list(islice(left, self.preparer.num_together)):
                for candidate, verdict in self.preparer.prepare(group):
                    waiting.append((candidate, verdict, self._submit(candidate, verdict, pool)))
                while waiting and (self._is_far_ahead(len(waiting)) or is_ready(waiting[0][2])):
                    settle()
            while waiting:
                settle()
        except BaseException:
            # Otherwise the pool would wait for the engine's answer.
            self.session.stop()
            raise
        finally:
            self.session.usage.wall_s += time.monotonic() - began
            self.preparer.forget()
            pool.shutdown(cancel_futures=True)

    def _is_far_ahead(self, num_waiting: int) -> bool:
        """Return whether enough is prepared, by number or by the disk that it takes."""
        return num_waiting > AHEAD or self.preparer.updates.is_full

    def _submit(self, candidate: Candidate, verdict: Verdict, pool: ThreadPoolExecutor) -> Asked:
        """Hand a candidate that needs a score of its own to the engine; None for any other."""
        if not isinstance(verdict, Survey):
            return None
        self.compiler.arch = self.session.arch
        self.compiler.submit(verdict.plan)
        return pool.submit(self.asker.ask, candidate, verdict)

    def _settle(
        self, candidate: Candidate, verdict: Verdict, asked: Asked, pool: ThreadPoolExecutor
    ) -> None:
        """Store what became of a candidate, and wait for its answers where it was asked."""
        if isinstance(verdict, Duplicate) and not self.outcomes.is_answered(verdict.of):
            assert verdict.survey is not None
            # The other one failed after all, so this one needs a score of its own.
            verdict = verdict.survey
            asked = self._submit(candidate, verdict, pool)
        self.preparer.check_models()
        match verdict:
            case Rejection():
                self.outcomes.rejected(candidate, verdict)
            case Failure():
                self.outcomes.failed(candidate, verdict)
            case Duplicate():
                self.outcomes.duplicate(candidate, verdict)
            case Survey():
                assert asked is not None
                self._settle_asked(candidate, verdict, asked, pool)
        self.preparer.settled(candidate.id)

    def _settle_asked(
        self,
        candidate: Candidate,
        survey: Survey,
        asked: Future[Answers],
        pool: ThreadPoolExecutor,
    ) -> None:
        """Store the answers. A lost engine costs one more try, then the candidate has failed."""
        num_lost = 0
        while True:
            try:
                answers = answers_of(asked, self.preparer)
                return self.outcomes.scored(candidate, survey, answers, self.made_with)
            except Rejected as error:
                return self.outcomes.rejected(candidate, error.rejection)
            except WorkerBug as error:
                return self.outcomes.failed(candidate, Failure(str(error)))
            except WorkerLost as error:
                num_lost += 1
                detail = str(error)[-2000:]
                self.store.add_event("worker lost", candidate=candidate.id, detail=detail)
            except EngineGone:
                # The engine was lost under another candidate, so this one may try again.
                pass
            if num_lost == MAX_LOST:
                detail = f"the engine died {num_lost} times under this candidate"
                return self.outcomes.failed(candidate, Failure(detail))
            self.session.start()
            asked = pool.submit(self.asker.ask, candidate, survey)


def score_base(screener: Screener) -> None:
    """Score the base, as candidate `base`, unless it has a score already."""
    if screener.store.score(BASE):
        return
    with screener.store.transaction():
        if screener.store.candidate(BASE) is None:
            screener.store.add_candidates([{"id": BASE, "source": None}])
    began = time.monotonic()
    prints = screener.session.client.restore()
    score, samples = evaluate(screener.session.client, TARGET, screener.task, "dev")
    answers = Answers(prints, score, samples, time.monotonic() - began)
    screener.preparer.check_models()
    with screener.store.transaction():
        threads = screener.session.usage.threads
        screener.store.set_setting(THREADS, threads)
        screener.store.add_event(THREADS, threads=threads, seconds=screener.session.trials)
        screener.outcomes.base(prints, answers, screener.made_with)


def answers_of(asked: Future[Answers], preparer: Preparer) -> Answers:
    """Wait for the engine's answers.

    Whatever the engine says or does, UsageError where a model's file was changed meanwhile.
    """
    try:
        return asked.result()
    finally:
        preparer.check_models()


def is_ready(asked: Asked) -> bool:
    """Return whether a candidate can be settled without waiting for the engine."""
    return asked is None or asked.done()
