"""Ten thousand programs in one .jsonl: a driver that does not grow, and nothing paid for twice."""

from __future__ import annotations

import gc
import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from selfdev_engine.engine.screen import screen_programs
from selfdev_engine.engine.screening.read_programs import read_programs
from selfdev_engine.engine.screening.settings import ScreenSettings

pytestmark = pytest.mark.slow

COUNT, EARLY = 10_000, 2_000
BODY = "import torch\ndef merge_models(d, device):\n    a, b = d.values()\n    return {}\n"
NUM_UPDATES = 40
MOST_GROWTH_BYTES = 24 << 20  # 3 kB a candidate; a kept plan, survey or answer would be more


def program(i: int) -> str:
    """Of ten: one sum spelled in a way of its own, one that is rejected, eight texts seen before."""
    k, row = i // 10 % NUM_UPDATES, i // 10
    if i % 10 == 1:
        return BODY.format(
            f"b + a * {k}  # {i}" if row % 2 else f"(2 * b + a * {2 * k}) / 2  # {i}"
        )
    if i % 10 == 2:
        return BODY.format(f"a + nobody_{row}")
    return BODY.format(f"{k} * a + b" if i % 2 else f"a + nobody_{row % 7}")


class Watch:
    """A bar that measures the driver's private memory as candidates are decided."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def stage(self, label: str, total: int) -> None:
        pass

    def facts(self, look: object) -> None:
        pass

    def update(self, done: int, total: int) -> None:
        if done % EARLY == 0 and done not in self.bytes:
            gc.collect()
            lines = Path("/proc/self/status").read_text().splitlines()
            (found,) = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
            self.bytes[done] = int(found) << 10


@pytest.fixture
def screen(small_models, tmp_path):
    """screen() -> (its JSON, the memory by number decided); the same run folder each time."""
    path = tmp_path / "programs.jsonl"
    with path.open("w") as file:
        for i in range(COUNT):
            file.write(json.dumps({"id": f"p{i}", "source": program(i)}) + "\n")
    settings = ScreenSettings(
        base=str(small_models / "base"),
        experts={"x": str(small_models / "x"), "y": str(small_models / "y")},
        task=f"jsonl:{small_models / 'task.jsonl'}",
        engine="transformers",
    )

    def run() -> tuple[dict, dict[int, int]]:
        watch = Watch()
        programs = read_programs([str(path)])
        return screen_programs(programs, settings, tmp_path / "run", watch), watch.bytes

    return run


def contents(folder: Path) -> dict[str, list[tuple]]:
    with sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True) as db:
        tables = ("candidates", "traces", "scores", "answers")
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def test_ten_thousand_programs(screen, tmp_path):
    result, used = screen()
    found = result["candidates"]
    assert [c["id"] for c in found] == [f"p{i}" for i in range(COUNT)]
    counts = Counter(c["status"] for c in found)
    assert counts["scored"] == NUM_UPDATES
    assert counts["rejected"] == sum("nobody" in program(i) for i in range(COUNT))
    assert (
        sum(counts.values()) == COUNT == sum(counts[s] for s in ("scored", "rejected", "duplicate"))
    )
    prints = {c["weights_fingerprint"] for c in found if c["status"] != "rejected"}
    assert len(prints) == NUM_UPDATES
    print(f"driver's memory in MiB by decided: { {n: b >> 20 for n, b in used.items()} }")
    assert used[COUNT] - used[EARLY] < MOST_GROWTH_BYTES
    before = contents(tmp_path / "run")
    again, _ = screen()  # resumed: all is decided
    assert contents(tmp_path / "run") == before
    assert [c["status"] for c in again["candidates"]] == [c["status"] for c in found]
