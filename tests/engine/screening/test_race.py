"""Races: `sure` is never wrong, `likely` errs no more than it says, both save questions."""

from __future__ import annotations

import itertools
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.folder import state_population
from selfdev_engine.engine.screening.race import Race, RaceRule, boundaries
from selfdev_engine.engine.screening.race_asking import (
    RACE_LAG,
    LaggingRace,
    enter,
    open_race,
    wave_of,
)
from selfdev_engine.engine.screening.settings import ScreenSettings

replay = run_path(str(Path(__file__).with_name("race_replay.py")))
simulate, winners = replay["simulate"], replay["winners"]


def population(num_candidates: int, num_questions: int, seed: int) -> np.ndarray:
    """Candidates of several abilities, questions of several difficulties."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 0.8, (num_candidates, 1)) + draw.normal(0, 1.5, num_questions)
    return draw.random((num_candidates, num_questions)) < 1 / (1 + np.exp(-logits))


def top(outcomes: np.ndarray, k: int) -> list[int]:
    return [int(i) for i in np.argsort(-outcomes.sum(axis=1), kind="stable")[:k]]


small = st.tuples(
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.floats(0.1, 0.9)
)


@settings(max_examples=300, deadline=None)
@given(small, st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_sure_keeps_the_top_whatever_the_outcomes(shape, k, wave, known):
    num_candidates, num_questions, seed, share = shape
    outcomes = np.random.default_rng(seed).random((num_candidates, num_questions)) < share
    population = num_candidates if known else None
    rule = RaceRule("sure", k, population=population, wave=wave)
    found = simulate(outcomes, rule)
    assert (found.lost, found.gained) == ((), ())
    assert found.asked <= found.questions


@settings(max_examples=200, deadline=None)
@given(small, st.integers(1, 4), st.randoms(use_true_random=False))
def test_sure_is_never_wrong_in_any_order_of_questions_and_candidates(shape, k, draw):
    """Every standing, at every moment, agrees with what all answers would say."""
    num_candidates, num_questions, seed, share = shape
    assume(k < num_candidates)
    outcomes = np.random.default_rng(seed).random((num_candidates, num_questions)) < share
    race = Race(RaceRule("sure", k, population=num_candidates, wave=num_questions), num_questions)
    cells = list(itertools.product(range(num_candidates), range(num_questions)))
    for candidate in range(num_candidates):
        race.next_wave(str(candidate))  # all is issued, answers come in any order
    draw.shuffle(cells)
    kept = {str(i) for i in top(outcomes, k)}
    for candidate, question in cells:
        race.record(str(candidate), {question: bool(outcomes[candidate, question])})
        for name in race.records:
            standing = race.standing(name)
            assert standing != "out" or name not in kept
            assert standing != "in" or name in kept
    assert set(winners(race)) == kept


def test_where_k_is_only_bounded_nothing_is_in_and_little_is_out():
    outcomes = population(60, 40, seed=3)
    race = Race(RaceRule("sure", most=9, least=2, wave=4), 40)
    for candidate in range(60):
        while wave := race.next_wave(str(candidate)):
            race.record(str(candidate), {q: bool(outcomes[candidate, q]) for q in wave})
    standings = {int(c): race.standing(c) for c in race.records}
    assert set(standings.values()) == {"complete", "out"}
    for k in range(2, 10):  # whichever K it turns out to be
        assert all(standings[i] == "complete" for i in top(outcomes, k))


def test_in_needs_fewer_rivals_than_the_least_k():
    for least, wanted in ((2, "in"), (1, "racing")):
        race = Race(RaceRule("sure", most=2, least=least, population=3), 4)
        for name in "abc":
            race.next_wave(name)
        race.record("a", dict.fromkeys(range(3), True))
        race.record("b", {0: False})
        race.record("c", {0: True})
        assert [race.standing(name) for name in "abc"] == [wanted, "racing", "racing"]


def test_one_to_come_may_be_better_than_all():
    race = Race(RaceRule("sure", most=1, population=2), 2)
    race.next_wave("a")
    race.record("a", {0: True})
    assert race.standing("a") == "racing"
    race = Race(RaceRule("sure", most=1, population=1), 2)
    race.next_wave("a")
    assert race.standing("a") == "in"


def test_waves_can_be_issued_ahead_and_never_twice():
    race = Race(RaceRule("likely", most=1, wave=4), 10)
    first, second, third = (race.next_wave("a") for _ in range(3))
    assert [len(first), len(second), len(third)] == [4, 4, 2]
    assert sorted(first + second + third) == list(range(10))
    assert race.next_wave("a") == []
    with pytest.raises(AssertionError):
        race.record("b" if "b" in race.records else "a", {99: True})


def test_what_answers_first_is_no_sample():
    """`likely` looks at complete waves only: short answers come first and may be the wrong ones."""
    race = Race(RaceRule("likely", most=1, wave=10, calibration=1), 100)
    while wave := race.next_wave("leader"):
        race.record("leader", {q: q % 5 > 0 for q in wave})
    wave = race.next_wave("late") + race.next_wave("late")
    race.record("late", dict.fromkeys(wave[1:], False))
    assert race.standing("late") == "racing"
    race.record("late", {wave[0]: False})
    assert race.standing("late") == "out"


# ---- the boundary of `likely` ---------------------------------------------------------------------------


def share_put_out(num_questions: int, right: int, limits: np.ndarray, wave: int) -> float:
    """By trying all orders: how many candidates with so many right answers some look puts out."""
    out = total = 0
    for chosen in itertools.combinations(range(num_questions), right):
        total += 1
        marks = np.zeros(num_questions, dtype=int)
        marks[list(chosen)] = 1
        done = np.cumsum(marks)[
            [min((i + 1) * wave, num_questions) - 1 for i in range(len(limits))]
        ]
        out += bool((done <= limits).any())
    return out / total


@pytest.mark.parametrize(("needed", "wave", "delta"), [(5, 1, 0.2), (7, 2, 0.3), (9, 3, 0.4), (8, 4, 0.5)])  # fmt: skip
def test_the_boundary_spends_no_more_than_delta(needed, wave, delta):
    limits = boundaries(12, wave, delta)[needed]
    shares = [share_put_out(12, right, limits, wave) for right in range(needed, 13)]
    assert 0 < shares[0] <= delta
    assert shares == sorted(shares, reverse=True)
    assert max(limits) >= 0


@pytest.mark.parametrize("wave", [1, 7, 16])
def test_the_boundary_rises_with_what_is_needed_and_was_asked(wave):
    """So that a bar that rises during a race spends no more than the last bar alone."""
    limits = boundaries(60, wave, 0.01)
    assert (np.diff(limits, axis=0) >= 0).all()
    assert (limits.max(axis=1) < np.maximum(np.arange(61), 0)).all()


def test_likely_loses_no_more_of_the_top_than_it_says():
    k, loss, lost, asked, questions = 5, 0.1, 0, 0, 0
    for seed in range(60):
        rule = RaceRule("likely", k, population=60, loss=loss, seed=seed, wave=5)
        found = simulate(population(60, 60, seed), rule)
        lost, asked, questions = lost + len(found.lost), asked + found.asked, questions + found.questions  # fmt: skip
    assert lost <= loss * k * 60
    assert questions > 1.3 * asked


def test_programs_that_never_race_are_not_counted():
    """Every third program gets as far as racing: 40 of 120 will, as seen when calibration is full."""
    race = Race(RaceRule("likely", most=2, population=120, calibration=10), 30)
    for candidate in range(1, 121):
        if candidate % 3 == 0:
            enter(race, Namespace(id=str(candidate), ordinal=candidate))
            assert race.expected == (120 if candidate < 30 else 40)
    assert race.rule.most_lost(race.expected) == pytest.approx(0.01 * 40 / 4)


def test_a_candidate_sees_what_was_decided_a_lag_before_it():
    """Whatever else is decided by then, also where it comes late; its own race changes no other's."""
    outcomes = population(40, 30, seed=7)
    questions = [Namespace(index=100 + i) for i in range(30)]
    task = Namespace(split=lambda name: questions)
    candidates = [Namespace(id=str(i), ordinal=i) for i in range(1, 40)]
    race = LaggingRace(RaceRule("likely", 2, population=39, calibration=5), task, lag=4)  # type: ignore
    seen = {}
    for candidate in candidates:
        view = race.view(candidate)
        seen[candidate.id] = sorted(map(int, view.records)), view.head, view.next_wave("mine")
        view.record("mine", dict.fromkeys(seen[candidate.id][2], True))
        right = {100 + q: bool(outcomes[candidate.ordinal, q]) for q in range(30)}
        race.decided(candidate, right)
    assert seen["4"][0] == [] and seen["5"][0] == [1] and seen["39"][0] == list(range(1, 36))
    assert seen["39"][1] != race.view(candidates[0]).head
    for candidate in candidates[::-1]:
        view = race.view(candidate)
        assert seen[candidate.id] == (
            *(sorted(map(int, view.records)), view.head),
            view.next_wave("mine"),
        )


@pytest.mark.parametrize(
    ("on_card", "sequences", "questions", "wave"),
    [
        (False, 128, 100, 8),
        (True, 119, 600, 79),  # an H100 with the paper's bank
        (True, 119, 60, 60),  # all at once
        (True, 4, 600, 8),
        (True, 128, 5, 8),
    ],
)
def test_a_wave_is_as_large_as_its_device_answers_at_once(on_card, sequences, questions, wave):
    assert wave_of(on_card, sequences, questions) == wave


def test_the_wave_of_the_first_start_stays(tmp_path):
    task = Namespace(split=lambda name: [Namespace(index=i) for i in range(600)])

    def opened(store: Store, sequences: int | None) -> int:
        race = open_race(store, "sure", 2, 0, task, 90, sequences)  # type: ignore
        assert race is not None
        return race.rule.wave

    for name, first, wave in (("card", 119, 79), ("cpu", None, 8)):
        with Store.open(tmp_path / f"{name}.db") as store:
            assert [opened(store, sequences) for sequences in (first, 30, None)] == [wave] * 3
    with Store.open(tmp_path / "old.db") as store:
        store.set_setting(RACE_LAG, 16)
        assert opened(store, 119) == 8


def test_a_race_is_for_a_stated_number(tmp_path):
    raced = ScreenSettings("b", {}, "t", race="sure", top=2)
    with Store.open(tmp_path / "run.db") as store:
        state_population(store, 10, raced, tmp_path)
        state_population(store, 10, raced, tmp_path)
        with pytest.raises(UsageError, match="a race of 10 programs, not 11"):
            state_population(store, 11, raced, tmp_path)
        state_population(store, 11, replace(raced, race="full"), tmp_path)


def test_delta_is_the_share_of_wrong_decisions():
    rule = RaceRule("likely", most=9, population=300, delta=0.01)
    assert rule.most_lost(300) == pytest.approx(0.01 * 300 / 18)
    assert RaceRule("likely", most=1, population=1000).most_lost(1000) == 0.2
    assert RaceRule("likely", most=9).most_lost(None) == 0.01  # of a population that is not known
    assert RaceRule("likely", most=9, population=300, loss=0.03).most_lost(300) == 0.03
    found = [
        simulate(population(100, 60, seed), RaceRule("likely", 3, population=100, seed=seed))
        for seed in range(20)
    ]
    assert np.mean([run.error for run in found]) <= 0.01
    assert np.mean([run.ratio for run in found]) > 1.5


def test_the_head_is_chosen_by_those_that_were_asked_everything():
    """Half of the questions are right for all: they say nothing, and are left for the end."""
    outcomes = population(80, 60, seed=5)
    outcomes[:, ::2] = True
    race = Race(RaceRule("likely", 3, population=80, loss=0.01, calibration=10), 60)
    for candidate in range(80):
        while wave := race.next_wave(str(candidate)):
            race.record(str(candidate), {q: bool(outcomes[candidate, q]) for q in wave})
    assert all(race.standing(str(c)) == "complete" for c in range(10))
    assert len(race.head) < 45
    assert set(range(1, 60, 2)) - set(race.head) <= {
        q for q in range(60) if outcomes[:10, q].mean() > 0.8
    }
    assert race.head == [q for q in race.order if q in set(race.head)]


# ---- the recorded population ----------------------------------------------------------------------------

RECORD = Path(__file__).with_name("outcomes.json")
RUNS = 10


@pytest.fixture(scope="module")
def recorded() -> np.ndarray:
    """Right answers of programs of the zoo's grammar on its mixed task, as hexadecimal rows of bits."""
    said = json.loads(RECORD.read_text())
    rows = [np.unpackbits(np.frombuffer(bytes.fromhex(r), np.uint8)) for r in said["rows"]]
    return np.array(rows)[:, : said["questions"]].astype(bool)


def test_sure_saves_questions_on_the_recorded_population(recorded):
    rule = RaceRule("sure", round(0.03 * len(recorded)), population=len(recorded))
    assert len(recorded) >= 300
    found = simulate(recorded, rule)
    assert (found.lost, found.gained) == ((), ())
    assert found.ratio >= 1.4


def test_likely_saves_more_and_errs_less_than_delta_on_the_recorded_population(recorded):
    k = round(0.03 * len(recorded))
    rules = [RaceRule("likely", k, population=len(recorded), seed=seed) for seed in range(RUNS)]
    found = [simulate(recorded, rule) for rule in rules]
    assert np.mean([run.error for run in found]) <= 0.01
    assert np.mean([run.ratio for run in found]) >= 2.5


def test_who_cannot_spare_a_winner_pays_for_it(recorded):
    k = round(0.03 * len(recorded))
    rules = [
        RaceRule("likely", k, population=len(recorded), loss=0.01, seed=s) for s in range(RUNS)
    ]
    found = [simulate(recorded, rule) for rule in rules]
    assert sum(len(run.lost) for run in found) <= 0.01 * k * RUNS
    assert np.mean([run.ratio for run in found]) >= 1.7


def test_full_asks_everything(recorded):
    full = simulate(recorded[:20], RaceRule("full", 2))
    assert (full.ratio, full.error) == (1.0, 0.0)
