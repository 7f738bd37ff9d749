"""Asks one candidate of a race in a live engine: questions go in waves, the batch stays full."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import NamedTuple

from ..records.candidate import Candidate
from ..records.score import Sample, judge
from ..records.store import Store
from ..resident.ask import greedy
from ..resident.client import Client
from ..resident.messages import Finished
from ..tasks.task import Task
from .race import Race, RaceRule
from .session import TARGET

# A candidate is compared with the bar after the candidate so many places before it was decided. Those
# between may be asked at the same time, by other workers. Of few programs a race would see nothing so
# late: then it is this share of them.
LAG, LAG_SHARE = 16, 4
# Keys of the store: the lag of its race, and how many questions it asks at a time.
RACE_LAG, RACE_WAVE = "race_lag", "race_wave"
# Questions at a time without a card, where an answer costs the same in any batch.
CPU_WAVE = 8


class Raced(NamedTuple):
    """A candidate that was asked itself, and its right and wrong answers by question."""

    ordinal: int
    id: str
    outcomes: dict[int, bool]


class LaggingRace:
    """A race in which each candidate sees what was decided up to `lag` places before it.

    So what it is asked depends neither on the number of workers nor on which of them is faster.
    """

    def __init__(self, rule: RaceRule, task: Task, lag: int) -> None:
        self.rule, self.lag, self._task = rule, lag, task
        self._positions = {q.index: i for i, q in enumerate(task.split("dev"))}
        # All that were asked, in their order; the first `_num_seen` of them are in `_race`.
        self._raced = list[Raced]()
        self._begin()

    def _begin(self) -> None:
        self._race, self._num_seen = Race(self.rule, len(self._positions)), 0

    def decided(self, candidate: Candidate, outcomes: Mapping[int, bool]) -> None:
        """Note the answers of a candidate, by the questions' indices."""
        found = {self._positions[index]: right for index, right in outcomes.items()}
        place = bisect.bisect(self._raced, candidate.ordinal, key=lambda raced: raced.ordinal)
        self._raced.insert(place, Raced(candidate.ordinal, candidate.id, found))
        if place < self._num_seen:
            self._begin()

    def view(self, candidate: Candidate) -> Race:
        """Return the race as this candidate sees it. All that are `lag` places before are decided."""
        last = candidate.ordinal - self.lag
        if self._num_seen and self._raced[self._num_seen - 1].ordinal > last:
            # It comes late: the one that it was to repeat failed.
            self._begin()
        for raced in self._raced[self._num_seen :]:
            if raced.ordinal > last:
                break
            enter(self._race, raced)
            self._race.records[raced.id].issued.update(raced.outcomes)
            self._race.record(raced.id, raced.outcomes)
            self._num_seen += 1
        return self._race.copy()


def wave_of(on_card: bool, sequences: int, num_questions: int) -> int:
    """Return how many questions a race asks at a time, where an engine answers `sequences` at once.

    A card reads its weights once for a whole batch, so few questions take as long as many. There a
    wave, with the half of the last one that may still be asked, is what is answered at once.
    """
    if not on_card:
        return CPU_WAVE
    return max(CPU_WAVE, min(num_questions, 2 * sequences // 3))


def open_race(
    store: Store,
    mode: str,
    top: int | None,
    seed: int,
    task: Task,
    population: int | None,
    sequences: int | None,
) -> LaggingRace | None:
    """Make the race of a screening of `population` programs, with what was decided before.

    `sequences` is what an engine on a card answers at once, None without a card. It counts at the
    race's first start only. Returns None where all questions are asked.
    """
    if mode == "full":
        return None
    assert top is not None, "a race is for the top K"
    if store.setting(RACE_LAG, "whole") is None:
        most = LAG if population is None else max(1, population // LAG_SHARE)
        store.set_setting(RACE_LAG, min(LAG, most))
        wave = wave_of(sequences is not None, sequences or 1, len(task.split("dev")))
        store.set_setting(RACE_WAVE, wave)
    # A race of an older version asked as on a CPU.
    wave = store.setting(RACE_WAVE, "whole") or CPU_WAVE
    rule = RaceRule(mode, most=top, population=population, seed=seed, wave=wave)
    race = LaggingRace(rule, task, store.setting(RACE_LAG, "whole"))
    for candidate in store.candidates():
        if candidate.source and candidate.has_answers:
            race.decided(candidate, store.outcomes(candidate.id))
    return race


def enter(race: Race, candidate: Candidate | Raced) -> None:
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


def ask_in_race(client: Client, race: Race, candidate: Candidate, task: Task) -> list[Sample]:
    """Ask the questions that the race needs, and return the graded answers by question.

    There are fewer than all where the race was decided before.
    """
    questions, samples = task.split("dev"), dict[int, Sample]()
    name = candidate.id
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
