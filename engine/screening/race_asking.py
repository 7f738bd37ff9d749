"""Asks one candidate of a race in a live engine: questions go in waves, the batch stays full."""

from __future__ import annotations

from ..records.candidate import Candidate
from ..records.score import Sample, judge
from ..records.store import Store
from ..resident.ask import greedy
from ..resident.client import Client
from ..resident.messages import Finished
from ..tasks.task import Task
from .race import Race, RaceRule
from .session import TARGET


def open_race(
    mode: str, top: int | None, seed: int, task: Task, population: int | None
) -> Race | None:
    """Make the race of a screening of `population` programs; None where all questions are asked."""
    if mode == "full":
        return None
    assert top is not None, "a race is for the top K"
    rule = RaceRule(mode, most=top, population=population, seed=seed)
    return Race(rule, len(task.split("dev")))


def enter(race: Race, candidate: Candidate) -> None:
    """Enter a candidate into a race.

    Programs that are rejected or duplicates never enter. So once, when calibration is full, the
    number that will have raced is estimated: by the share of the programs so far that did.
    """
    race.enter(candidate.id)
    rule = race.rule
    if rule.population and len(race.records) == rule.calibration:
        # The base has ordinal 0, so this ordinal is the number of programs so far.
        seen = max(candidate.ordinal, rule.calibration)
        race.expected = round(rule.population * rule.calibration / seen)


def recall(race: Race, store: Store, task: Task) -> None:
    """Enter the candidates that were decided before, in their order, with their answers."""
    position = {question.index: i for i, question in enumerate(task.split("dev"))}
    for candidate in store.candidates():
        if candidate.source and candidate.has_answers:
            enter(race, candidate)
            outcomes = {position[i]: right for i, right in store.outcomes(candidate.id).items()}
            race.records[candidate.id].issued.update(outcomes)
            race.record(candidate.id, outcomes)


def ask_in_race(client: Client, race: Race, candidate: Candidate, task: Task) -> list[Sample]:
    """Ask the questions that the race needs, and return the graded answers by question.

    There are fewer than all where the race was decided before.
    """
    questions, samples = task.split("dev"), dict[int, Sample]()
    name = candidate.id
    race.forget(name)
    enter(race, candidate)
    asked = race.next_wave(name)

    def feed(finished: Finished) -> list[str] | None:
        outcomes = {}
        for number, completion in finished:
            question = asked[number]
            samples[question] = judge(task, questions[question], completion.text)
            outcomes[question] = samples[question].correct
        race.record(name, outcomes)
        if race.standing(name) in ("in", "out"):
            return None
        low = len(asked) - len(samples) <= race.rule.wave // 2
        more = race.next_wave(name) if low else []
        asked.extend(more)
        return [questions[question].prompt for question in more]

    prompts = [questions[question].prompt for question in asked]
    if prompts:
        client.generate_fed(TARGET, prompts, feed, greedy(task))
    return [samples[question] for question in sorted(samples)]
