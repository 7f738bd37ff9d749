"""Decides candidates: the driver prepares them while workers score, and settles them in order.

program -> plan (or rejection) -> survey -> duplicate of whom? -> swap -> score -> store
|------------ the driver, some candidates ahead -------------|    | a worker |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import islice

from ..errors import Failure, Rejected, Rejection
from ..plans.survey import Survey
from ..records.candidate import BASE, Candidate
from ..records.score import provenance
from ..records.store import Store
from ..tasks.task import Task
from ..workers.job import Quarantined
from .asking import Asker
from .compile_ahead import Ahead
from .contents_reader import ContentReader
from .in_flight import InFlight
from .outcomes import Outcomes
from .prepare import Preparer
from .race_asking import LaggingRace
from .session import LIMITS, THREADS, EngineSession
from .verdicts import Answers, Duplicate, Verdict

# The number of candidates that are prepared while all workers score.
AHEAD = 4


class Screener:
    """Scores candidates of one store in live engines. `open_screener` makes it.

    The driver traces, surveys and compares the next candidates while workers score, and decides
    candidates in order, whichever worker is done first.
    """

    def __init__(
        self,
        session: EngineSession,
        preparer: Preparer,
        outcomes: Outcomes,
        task: Task,
        race: LaggingRace | None,
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

    @property
    def notes(self) -> list[str]:
        """What is to be said of the settings."""
        race, workers = self.asker.race, self.session.settings.workers
        found = list[str]()
        if race and workers > race.lag:
            words = f"a race asks {race.lag} candidates at a time; the others are idle"
            found.append(f"--workers {workers}: {words}")
        if self.session.num_waiting:
            words = f"{self.session.num_waiting} have no place in the cluster yet"
            found.append(f"--workers {workers}: {words}; they wait for nodes that join")
        return found

    @property
    def num_in_flight(self) -> int:
        """How many candidates are asked at a time, so that each worker has one or more."""
        return AHEAD + self.session.lanes * (self.session.settings.workers - 1)

    def close(self) -> None:
        """End the workers, and drop the compilations that have not begun."""
        self.session.stop()
        self.compiler.close()

    # ---- the order of work

    def screen(self, candidates: Iterable[Candidate], decided: Callable[[], None]) -> None:
        """Decide these candidates of the store in order, in a transaction each.

        `decided` is called after each one.
        """
        self.session.start()
        left, race, usage = iter(candidates), self.asker.race, self.session.usage
        usage.begin()
        waiting = InFlight(self.num_in_flight, lambda: self.preparer.updates.is_full)

        def settle() -> None:
            self._settle(*waiting.take())
            self.reader.keep()
            decided()

        try:
            while group := list(islice(left, self.preparer.num_together)):
                for candidate, verdict in self.preparer.prepare(group):
                    while race and waiting.reaches_back_to(candidate.ordinal - race.lag):
                        settle()
                    waiting.add(candidate, verdict, self._submit(candidate, verdict))
                while waiting.must_settle():
                    settle()
            while waiting:
                settle()
        except BaseException:
            self.session.stop()
            raise
        finally:
            usage.end()
            self.preparer.forget()
            self.note_incidents()

    def _submit(self, candidate: Candidate, verdict: Verdict) -> Future[Answers] | None:
        """Have a candidate scored that needs a score of its own; None for any other."""
        if not isinstance(verdict, Survey):
            return None
        self.compiler.arch = self.session.arch
        self.compiler.submit(verdict.plan)
        return self.asker.ask(candidate, verdict)

    def _settle(
        self, candidate: Candidate, verdict: Verdict, asked: Future[Answers] | None
    ) -> None:
        """Store what became of a candidate, and wait for its answers where it was asked."""
        if isinstance(verdict, Duplicate) and not self.outcomes.is_answered(verdict.of):
            assert verdict.survey is not None
            # The other one failed after all, so this one needs a score of its own.
            verdict = verdict.survey
            asked = self._submit(candidate, verdict)
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
                self._settle_asked(candidate, verdict, asked)
        self.preparer.settled(candidate.id)

    def _settle_asked(self, candidate: Candidate, survey: Survey, asked: Future[Answers]) -> None:
        """Store the answers, or why there are none."""
        try:
            answers = self.answers_of(asked)
        except Rejected as error:
            return self.outcomes.rejected(candidate, error.rejection)
        except Quarantined as error:
            return self.outcomes.failed(candidate, Failure(str(error)))
        self.outcomes.scored(candidate, survey, answers, self.made_with)
        if self.asker.race:
            outcomes = {sample.index: sample.correct for sample in answers.samples}
            self.asker.race.decided(candidate, outcomes)

    def answers_of(self, asked: Future[Answers]) -> Answers:
        """Wait for a worker's answers.

        Whatever it says or does, UsageError where a model's file was changed meanwhile.
        """
        try:
            return asked.result()
        finally:
            self.preparer.check_models()
            self.note_incidents()

    def note_incidents(self) -> None:
        """Keep in the store what went wrong in workers."""
        for one in self.session.take_incidents():
            words = {"worker": one.worker, "candidate": one.job, "detail": one.detail[-2000:]}
            self.store.add_event(one.kind, **words)


def score_base(screener: Screener) -> None:
    """Score the base, as candidate `base`, unless it has a score already."""
    if screener.store.score(BASE):
        return
    with screener.store.transaction():
        if screener.store.candidate(BASE) is None:
            screener.store.add_candidates([{"id": BASE, "source": None}])
    asked = screener.asker.ask_all(BASE, b"", screener.task, "dev")
    answers = screener.answers_of(asked)
    session = screener.session
    with screener.store.transaction():
        threads = session.usage.threads
        screener.store.set_setting(THREADS, threads)
        screener.store.set_setting(LIMITS, session.limits)
        screener.store.add_event(THREADS, threads=threads, seconds=session.trials)
        screener.outcomes.base(answers, screener.made_with)
