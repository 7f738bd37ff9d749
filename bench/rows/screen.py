"""`screen`: candidates scored per second in live weights, beside merging to disk and a new engine.

Both ways score the same programs on the same questions, and the counts of right answers must agree.
All programs are scored: none is a duplicate, none is stopped early. The start of the resident
engine is not counted, because a screening pays it once. The other way starts an engine for each
candidate, and that is counted.
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
from ...engine.records.store import Store
from ...engine.screen import open_screener, run_candidates
from ...engine.screening.pipeline import Screener, score_base
from ...engine.screening.settings import ScreenSettings
from ..registry import Row

NUM_QUESTIONS = 100
NUM_DISK = 2
# For each zoo: number of programs scored live, and the wanted ratio.
SIZES = {"tiny": (60, 30.0), "smollm2": (6, 3.0)}
SOURCE = """def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return {:.3f} * a + {:.3f} * b + 0.1 * c
"""


class Quiet:
    """A progress bar that shows nothing, because `bench` shows one already."""

    def stage(self, label: str, total: int | None = None) -> None:
        return None

    def update(self, done: int, total: int | None = None) -> None:
        return None

    def facts(self, look: object) -> None:
        return None


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """Seconds for each candidate both ways, and how busy the resident engine was."""
    if not (zoo / "zoo.json").is_file():
        raise UsageError(f"--zoo {zoo}: no zoo there; make it with `selfdev-engine zoo {zoo}`")
    facts = json.loads((zoo / "zoo.json").read_text())
    models = {
        "base": str(zoo / facts["base"]),
        "experts": {name: str(zoo / path) for name, path in facts["experts"].items()},
    }
    num_live, target = SIZES[facts["made_with"]["size"]]
    sources = [SOURCE.format(0.3 + i / 100, 0.5 - i / 100) for i in range(num_live)]
    with tempfile.TemporaryDirectory() as scratch:
        task = f"jsonl:{sample(zoo / facts['tasks']['mixed'], Path(scratch))}"
        counts, live_s, usage = screened(sources, models, task, Path(scratch))
        update(1, 2)
        disk_s = [
            on_disk(sources[i], counts[i], models, task, Path(scratch) / f"m{i}")
            for i in range(NUM_DISK)
        ]
    update(2, 2)
    theirs = sum(disk_s) / len(disk_s)
    return Row(
        "screen",
        1 / live_s,
        "candidates/s",
        "merge + fresh engine, candidates/s",
        1 / theirs,
        theirs / live_s,
        "scoring alone, without moving weights",
        theirs / live_s >= target,
        {"seconds_live": live_s, "seconds_disk": disk_s, "questions": NUM_QUESTIONS, **usage},
    )


def sample(path: Path, folder: Path) -> Path:
    lines = path.read_text().splitlines()[:NUM_QUESTIONS]
    (folder / "task.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "task.jsonl"


def screened(
    sources: list[str], models: dict[str, Any], task: str, folder: Path
) -> tuple[list[int], float, dict[str, Any]]:
    """Right answers of each program, seconds for each in a warm engine, how busy the engine was."""
    settings = ScreenSettings(**models, task=task)
    with Store.open(folder / "run.db") as store:
        names = [str(i) for i in range(len(sources))]
        store.add_candidates(
            {"id": i, "source": s} for i, s in zip(["base", *names], ["", *sources], strict=True)
        )
        with open_screener(settings, store, folder) as screener:
            score_base(screener)
            warm_up(screener, names[:2])
            run_candidates(screener, names, Quiet())
            usage = screener.session.usage
        scores = [store.score(name) for name in names]
    counts = [score.correct for score in scores if score]
    assert len(counts) == len(sources), "a program was not scored"
    return counts, usage.wall_s / (len(sources) - 2), usage.to_json()


def warm_up(screener: Screener, names: list[str]) -> None:
    """Score the first candidates, which fill caches and compile kernels; they are not counted."""
    run_candidates(screener, names, Quiet())
    usage = screener.session.usage
    usage.wall_s = usage.busy_s = usage.swap_s = 0.0


def on_disk(source: str, correct: int, models: dict[str, Any], task: str, out: Path) -> float:
    """Seconds to merge, load and score; checks that the count of right answers is `correct`."""
    began = time.monotonic()
    merge_to_folder(extract(source), **models, out=out)
    found = evaluate_model(str(out), task, "dev")
    assert found["correct"] == correct, f"{found['correct']} on disk, {correct} live"
    return time.monotonic() - began
