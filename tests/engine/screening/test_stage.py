"""A stage of the progress in which candidates are decided: of a screening, a loop or a transfer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screen import screen_stage
from selfdev_engine.selfdev.run_context import RunContext


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages, self.done, self.looks = list[tuple[str, int | None]](), list[int](), 0

    def stage(self, label: str, total: int | None = None) -> None:
        self.stages.append((label, total))

    def update(self, done: int, total: int | None = None) -> None:
        self.done.append(done)

    def facts(self, look: object) -> None:
        self.looks += 1


def screener_of(store: Store) -> Any:
    """A stand-in that rejects what it is given."""

    def screen(candidates, decided) -> None:
        for candidate in candidates:
            store.decide(candidate.id, status="rejected", kind="syntax", detail="d")
            decided()

    return SimpleNamespace(store=store, screen=screen)


def test_only_what_is_left_is_decided_and_all_of_it_is_told(tmp_path):
    with Store.open(tmp_path / "run.db") as store:
        store.add_candidates({"id": name, "source": name} for name in "abcd")
        store.decide("b", status="rejected", kind="syntax", detail="before")
        told = Told()
        screen_stage(screener_of(store), "screen", ["a", "b", "c"], told)
        assert told.stages == [("screen", 3)]
        assert (told.done, told.looks) == ([1, 2, 3], 2)
        assert [c.id for c in store.candidates() if c.status is None] == ["d"]
        assert store.candidate("b").detail == "before"


def test_a_loop_decides_the_candidates_that_it_has_in_hand(tmp_path):
    with Store.open(tmp_path / "run.db") as store:
        store.add_candidates({"id": name, "source": name} for name in "ab")
        told = Told()
        parts = (None, tmp_path, store, screener_of(store), told, tmp_path, "", "")
        RunContext(*cast(Any, parts)).screen("iteration 1: score", store.candidates())
        assert (told.stages, told.done) == ([("iteration 1: score", 2)], [0, 1, 2])
        assert all(c.status for c in store.candidates())
