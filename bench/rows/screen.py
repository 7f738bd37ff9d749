"""`screen`: a candidate in live weights against merge to disk and a fresh engine, same questions.

Both score the same programs on the same questions; the counts of right answers must agree, or there
is no speed. All programs are scored: none is a duplicate, nothing is raced.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError
from ...engine.evaluate import evaluate_model
from ...engine.merge import merge_to_folder
from ...engine.program import extract
from ...engine.screen import screen_programs
from ...engine.screener import ScreenSettings
from ..registry import Row

NUM_QUESTIONS = 100
NUM_LIVE, NUM_DISK = 12, 2
TARGET = 30.0
SOURCE = """def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return {:.2f} * a + {:.2f} * b + 0.1 * c
"""


class Quiet:
    """No bar within a bar."""

    def stage(self, label: str, total: int | None = None) -> Quiet:
        return self

    def update(self, done: int, total: int | None = None) -> None:
        return None


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """Candidates per second, start-up of the resident engine not counted (it is paid once)."""
    if not (zoo / "zoo.json").is_file():
        raise UsageError(f"--zoo {zoo}: no zoo there; make it with `selfdev-engine zoo {zoo}`")
    facts = json.loads((zoo / "zoo.json").read_text())
    models = {
        "base": str(zoo / facts["base"]),
        "experts": {name: str(zoo / path) for name, path in facts["experts"].items()},
    }
    sources = [SOURCE.format(0.3 + i / 50, 0.5 - i / 50) for i in range(NUM_LIVE)]
    with tempfile.TemporaryDirectory() as scratch:
        task = f"jsonl:{sample(zoo / facts['tasks']['mixed'], Path(scratch))}"
        live = screened(sources, models, task, Path(scratch))
        update(1, 2)
        disk_s = [
            on_disk(sources[i], live[i], models, task, Path(scratch) / f"m{i}")
            for i in range(NUM_DISK)
        ]
    update(2, 2)
    ours = sum(c["seconds"] for c in live) / len(live)
    theirs = sum(disk_s) / len(disk_s)
    return Row(
        "screen",
        1 / ours,
        "candidates/s",
        "merge + fresh engine, candidates/s",
        1 / theirs,
        theirs / ours,
        "scoring alone, weights never moved",
        theirs / ours >= TARGET,
        {"seconds_live": ours, "seconds_disk": theirs, "questions": NUM_QUESTIONS},
    )


def sample(path: Path, folder: Path) -> Path:
    lines = path.read_text().splitlines()[:NUM_QUESTIONS]
    (folder / "task.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "task.jsonl"


def screened(
    sources: list[str], models: dict[str, Any], task: str, folder: Path
) -> list[dict[str, Any]]:
    rows = [json.dumps({"id": str(i), "source": source}) for i, source in enumerate(sources)]
    (folder / "programs.jsonl").write_text("\n".join(rows))
    settings = ScreenSettings(**models, task=task)
    result = screen_programs([str(folder / "programs.jsonl")], settings, folder / "run", Quiet())
    assert all(c["status"] == "scored" for c in result["candidates"])
    return result["candidates"]


def on_disk(
    source: str, live: dict[str, Any], models: dict[str, Any], task: str, out: Path
) -> float:
    """Seconds of merge, load and eval; the count must be the live one's."""
    began = time.monotonic()
    merge_to_folder(extract(source), **models, out=out)
    found = evaluate_model(str(out), task, "dev")
    assert found["correct"] == live["correct"], (
        f"{found['correct']} on disk, {live['correct']} live"
    )
    return time.monotonic() - began
