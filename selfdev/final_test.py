"""Scores models on the test split, once each. Only this module reads test questions for a search."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from ..engine.records.candidate import BASE
from ..engine.records.store import Store
from ..engine.screening.pipeline import Screener
from ..engine.screening.verdicts import Answers
from .results import LOOKS
from .watching import Watcher

OTHERWISE = "the program gives other weights than those that were scored on dev"


def score_on_test(
    screener: Screener,
    names: Iterable[str],
    progress: Watcher,
    looked: Callable[[], None] = lambda: None,
) -> None:
    """Score each of these candidates on test, unless it was; a duplicate has the score of its original.

    Each score is a look, which is counted in the store with it. `looked` is called after each one.
    A program that is not what was scored on dev gets none, and an event says so.
    """
    store = screener.store
    targets = dict.fromkeys(original_of(store, name) for name in names)
    left = [name for name in targets if store.score(name, "test") is None]
    asked = deque[tuple[str, Future[Answers] | None]]()
    progress.stage("test", len(targets))
    for done in range(len(targets) - len(left), len(targets)):
        progress.update(done)
        while left and len(asked) <= screener.num_in_flight:
            asked.append((left[0], ask_test(screener, left.pop(0))))
        name, future = asked.popleft()
        answers = screener.answers_of(future) if future else None
        if answers is None or not is_as_scored(store, name, answers):
            store.add_event("no test", candidate=name, detail=OTHERWISE)
        else:
            keep_look(screener, name, answers)
            looked()
        screener.preparer.settled(name)
    progress.update(len(targets))


def is_as_scored(store: Store, name: str, answers: Answers) -> bool:
    """Whether the weights that answered are those of dev.

    Only a program that torch ran again could give others; kernels run the plan that was scored.
    """
    candidate = store.candidate(name)
    if candidate is None or candidate.tier != "eager":
        return True
    return answers.weights_fingerprint == candidate.weights_fingerprint


def keep_look(screener: Screener, name: str, answers: Answers) -> None:
    """Store a score on test, and count it."""
    store, made_with = screener.store, screener.made_with
    with store.transaction():
        screener.outcomes.add_score(name, "test", answers.score, answers.samples, made_with)
        store.set_setting(LOOKS, (store.setting(LOOKS, "whole") or 0) + 1)


def original_of(store: Store, name: str) -> str:
    """The candidate whose answers are those of this one."""
    candidate = store.candidate(name)
    return (candidate and candidate.duplicate_of) or name


def ask_test(screener: Screener, name: str) -> Future[Answers] | None:
    """Have all test questions asked of a scored candidate, or of the base; None where its plan is another now."""
    plan = b""
    if name != BASE:
        found = screener.preparer.stored_plan(name)
        if found is None:
            return None
        # What torch computed for it stays until it is settled.
        screener.preparer.held[name] = found
        plan = found.to_bytes()
    return screener.asker.ask_all(name, plan, screener.task.unsealed(), "test")
