"""Asks workers for a candidate's answers: swap, ask, grade. Runs in threads, and touches no store."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from threading import Lock

from ..errors import UsageError
from ..plans.survey import Survey
from ..records.candidate import Candidate
from ..records.score import score_of
from ..resident.ask import graded, greedy
from ..resident.client import Client
from ..tasks.task import Task
from .race import Race
from .race_asking import LaggingRace, ask_in_race
from .session import EngineSession
from .verdicts import Answers

# Calls that a worker has on the way, so that it has the next candidate before it answers the last; a
# race makes several calls for one candidate, and nothing may come between.
LANES, LANES_IN_RACE = 2, 1


class Asker:
    """Asks all questions of a task, or those that a race needs.

    Each answer is made by one job, which any worker may do. A job's future raises Rejected (the plan
    on real weights) or Quarantined (what ended two workers).
    """

    def __init__(self, session: EngineSession, task: Task, race: LaggingRace | None) -> None:
        self.session, self.task, self.race = session, task, race
        self._grading = Lock()

    def ask(self, candidate: Candidate, survey: Survey) -> Future[Answers]:
        """Have a candidate scored on dev questions. Candidates of a race come in order."""
        if self.race:
            view = self.race.view(candidate)
            return self.session.submit(candidate.id, partial(self._raced, candidate, survey, view))
        return self.session.submit(candidate.id, partial(self._counted, survey))

    def ask_all(self, name: str, plan: bytes, task: Task, split: str) -> Future[Answers]:
        """Have all questions of a split asked of a plan's weights; an empty plan is the base.

        UsageError where the split is empty.
        """
        if not task.split(split):
            raise UsageError(f"--task {task.name}: has no {split} questions")
        return self.session.submit(name, partial(self._scored, plan, task, split))

    def _scored(self, plan: bytes, task: Task, split: str, client: Client) -> Answers:
        prompts = [question.prompt for question in task.split(split)]
        prints, completions, spent = client.score(plan, prompts, greedy(task))
        with self._grading:
            return Answers(prints, *graded(task, split, completions), spent)

    def _counted(self, survey: Survey, client: Client) -> Answers:
        answers = self._scored(survey.plan.to_bytes(), self.task, "dev", client)
        self.session.count(answers.spent)
        return answers

    def _raced(self, candidate: Candidate, survey: Survey, view: Race, client: Client) -> Answers:
        before = client.times
        prints = client.apply(survey.plan.to_bytes())
        samples = ask_in_race(client, view.copy(), candidate, self.task)
        spent = client.times - before
        self.session.count(spent)
        return Answers(prints, score_of(samples, self.task.metric), samples, spent)
