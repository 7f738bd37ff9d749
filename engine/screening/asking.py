"""Asks the engine for a candidate's answers: swap, ask, grade. Runs in threads, and touches no store."""

from __future__ import annotations

from threading import Lock

from ..errors import WorkerLost
from ..plans.survey import Survey
from ..records.candidate import Candidate
from ..records.score import score_of
from ..resident.ask import graded, greedy
from ..resident.client import Client
from ..tasks.task import Task
from .race import Race
from .race_asking import ask_in_race
from .session import EngineSession
from .verdicts import Answers


class Asker:
    """Asks all questions of a task, or those that a race needs."""

    def __init__(self, session: EngineSession, task: Task, race: Race | None) -> None:
        self.session, self.task, self.race = session, task, race
        self._grading = Lock()

    @property
    def num_threads(self) -> int:
        """Two, so that the engine has the next candidate before it answers the last; a race wants its
        candidates one after the other."""
        return 1 if self.race else 2

    def ask(self, candidate: Candidate, survey: Survey) -> Answers:
        """Swap and ask, then grade, while another candidate has the engine.

        Raises Rejected (the plan on real weights), WorkerLost or EngineGone.
        """
        plan = survey.plan.to_bytes()
        try:
            client = self.session.running()
            if self.race:
                return self._raced(client, candidate, plan, self.race)
            return self._scored(client, plan)
        except WorkerLost:
            self.session.lost()
            raise

    def _raced(self, client: Client, candidate: Candidate, plan: bytes, race: Race) -> Answers:
        before = client.times
        prints = client.apply(plan)
        samples = ask_in_race(client, race, candidate, self.task)
        spent = client.times - before
        self.session.usage.count(spent)
        return Answers(prints, score_of(samples, self.task.metric), samples, spent.busy_s)

    def _scored(self, client: Client, plan: bytes) -> Answers:
        prompts = [question.prompt for question in self.task.split("dev")]
        prints, completions, spent = client.score(plan, prompts, greedy(self.task))
        with self._grading:
            self.session.usage.count(spent)
            return Answers(prints, *graded(self.task, "dev", completions), spent.busy_s)
