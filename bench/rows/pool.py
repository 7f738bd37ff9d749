"""`pool`: how well several workers are kept at work, and what a candidate costs the driver.

pool fakes8               the real driver with eight fake engines that sleep as long as a card would take, by
                          the throughputs that `run --plan` states; beside a driver that costs nothing
pool driver_ms            CPU of the driver for a candidate of that stream, whichever of its threads takes it
pool fakes64              the same with 64 of them: where one driver ends
pool driver_questions_ms  CPU of the driver for a candidate that asks twice about each of 102 tensors
pool paper_minutes        minutes of the paper's run on eight cards, by the plan and the driver as measured
pool workers2             candidates a second of two real workers, beside those of one, an engine thread each
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...engine.errors import EngineGone, UsageError
from ...engine.records.store import Store
from ...engine.resident.messages import Completion, Sampling, Times
from ...engine.screen import open_screener, run_candidates
from ...engine.screening.pipeline import Screener, score_base
from ...engine.screening.session import THREADS
from ...engine.screening.settings import ScreenSettings
from ...engine.weights.durations import Amounts
from ...selfdev.capacity import Request, plan_of
from ..registry import Row
from .pool_driver import driver_questions, paper_minutes
from .screen import Quiet, sample, warm_up

# Fake workers -> candidates, of which one in six is scored: as many for each worker. Six more warm up.
STREAMS = {8: 8 * 6 * 21, 64: 64 * 6 * 8}
NUM_WARM, NUM_REAL, NUM_QUESTIONS = 6, 40, 100
CARD, BASE, EXPERTS = "1xH100-80GB", "openchat/openchat-3.5-1210", 3
LEAST_BUSY, MOST_DRIVER_MS, LEAST_RATIO = 0.97, 10.0, 1.7
HEAD = "import torch\n\ndef merge_models(model_dict, device):\n    a, b, c = model_dict.values()\n"
# Of six candidates one is scored; of the others three are rejected and two repeat it.
SCORED = (
    "    return {0} * a + 0.2 * b\n",
    "    return {0} * torch.where(a.abs() > b.abs(), a, b) - 0.5 * c\n",
    "    n = torch.stack([w.norm() for w in (a, b, c)])\n    return {0} * a / n.sum() + b\n",
)
OTHERS = (
    "    return {0} * a + nobody\n",
    "    return {0} * a +\n",
    "    return torch.stack([{0} * a, b])\n",
)


def mixed(count: int) -> list[str]:
    """Texts of programs, by sixes: one to be scored, the others not."""
    texts = list[str]()
    for number in range(count // 6):
        body, coefficient = SCORED[number % len(SCORED)], f"{0.3 + number / 1000:.3f}"
        kinds = (body, *OTHERS, f"    # the same\n{body}", body)
        texts += [HEAD + kind.format(coefficient) for kind in kinds]
    return texts


class SleepingClient:
    """A worker that answers wrongly and at once, and sleeps as long as a card would take for it."""

    engine, decoding, pid = "sleeping", "greedy", 0

    def __init__(self, seconds: float) -> None:
        self.seconds, self.is_alive, self.free_at = seconds, True, 0.0

    def open_model(self, key: str, folder: str) -> str:
        return ""

    def open_bank(self, *words: object, **more: object) -> None:
        return None

    def set_threads(self, threads: int) -> None:
        return None

    def score(
        self, plan: bytes, prompts: Sequence[str], sampling: Sampling
    ) -> tuple[str, list[Completion], Times]:
        """Answer as the next call of a worker that does one after the other."""
        now = time.monotonic()
        self.free_at = max(now, self.free_at) + self.seconds
        time.sleep(self.free_at - now)
        if not self.is_alive:
            raise EngineGone("it was ended")
        answers = [Completion("none", "stop", 1)] * len(prompts)
        return "nh-0", answers, Times(self.seconds, 0.0)

    def kill(self) -> None:
        self.is_alive = False

    def stop(self) -> None:
        self.is_alive = False


def measure(zoo: Path, update: Callable[[int, int], None]) -> list[Row]:
    """Screen a mixed stream on fakes, then a few programs on one and on two real workers."""
    if not (zoo / "zoo.json").is_file():
        raise UsageError(f"--zoo {zoo}: no zoo there; make it with `selfdev-engine zoo {zoo}`")
    facts = json.loads((zoo / "zoo.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        settings = ScreenSettings(
            base=str(zoo / facts["base"]),
            experts={name: str(zoo / path) for name, path in facts["experts"].items()},
            task=f"jsonl:{sample(zoo / facts['tasks']['mixed'], Path(scratch))}",
        )
        busy, driver = on_fakes(settings, Path(scratch), 8)
        update(1, 4)
        rows = [busy, driver, on_fakes(settings, Path(scratch), 64)[0]]
        update(2, 4)
        rows += [driver_questions(Path(scratch)), paper_minutes(Path(scratch), driver.value)]
        update(3, 4)
        rows.append(on_real(settings, Path(scratch)))
    update(4, 4)
    return rows


def service_s(folder: Path) -> float:
    """Seconds that a candidate takes on a card, by what the plan states of its throughput."""
    amounts = Amounts(questions=NUM_QUESTIONS, programs=0, candidates=1000)
    experts = {str(number): BASE for number in range(EXPERTS)}
    plan = plan_of(Request(BASE, experts, BASE, "mlp", CARD, folder, amounts))
    return plan["stages"]["scoring"] / amounts.candidates


def on_fakes(settings: ScreenSettings, folder: Path, count: int) -> tuple[Row, Row]:
    """The rows of so many sleeping workers: how busy they are, and what a candidate costs the driver."""
    seconds, texts = service_s(folder), mixed(STREAMS[count] + NUM_WARM)
    wall_s, cpu_s, busy_s, counts = screened(
        replace(settings, workers=count),
        texts,
        folder / f"fakes{count}",
        lambda *words: SleepingClient(seconds),
        NUM_WARM,
    )
    share, driver_ms = busy_s / wall_s / count, 1e3 * cpu_s / STREAMS[count]
    more = {
        "service_s": seconds,
        "wall_s": wall_s,
        "card": CARD,
        "outcomes": counts,
        "candidates/s": STREAMS[count] / wall_s,
        "driver_ms": driver_ms,
    }
    ideal, floor = (
        "a driver that costs nothing, busy share",
        "the cards' own time, as it is assumed",
    )
    gate = share >= LEAST_BUSY if count == 8 else None
    return (
        Row(f"pool fakes{count}", share, "busy share", ideal, 1.0, share, floor, gate, more),
        Row(
            *("pool driver_ms", driver_ms, "ms CPU", "the goal, ms", MOST_DRIVER_MS),
            *(MOST_DRIVER_MS / driver_ms, "tracing itself, in a process of its own"),
            driver_ms <= MOST_DRIVER_MS,
        ),
    )


def on_real(settings: ScreenSettings, folder: Path) -> Row:
    """The row of two real workers beside one, each with one thread of its engine."""
    texts = [HEAD + SCORED[0].format(f"{0.3 + i / 100:.2f}") for i in range(NUM_REAL)]
    per_s = []
    for workers in (1, 2):
        wall_s, *_ = screened(replace(settings, workers=workers), texts, folder / str(workers))
        per_s.append((NUM_REAL - 4) / wall_s)
    one, two = per_s
    floor = "twice as many, where cores are free"
    return Row(
        *("pool workers2", two, "candidates/s", "one worker, candidates/s", one, two / one, floor),
        two / one >= LEAST_RATIO,
    )


def screened(
    settings: ScreenSettings,
    texts: list[str],
    folder: Path,
    start: Callable[..., Any] | None = None,
    num_warm: int = 4,
) -> tuple[float, float, float, dict[str, int]]:
    """Wall and driver's CPU seconds of a screening, its workers' busy seconds, and its outcomes.

    The start of the workers and the first `num_warm` programs are not counted.
    """
    folder.mkdir()
    names = [str(number) for number in range(len(texts))]
    with Store.open(folder / "run.db") as store:
        store.set_setting(THREADS, 1)
        rows = zip(["base", *names], ["", *texts], strict=True)
        store.add_candidates({"id": name, "source": text} for name, text in rows)
        with open_screener(settings, store, folder) as screener:
            if start:
                screener.session.start_client = start
            score_base(screener)
            all_open(screener)
            warm_up(screener, names[:num_warm])
            cpu_s = time.process_time()
            run_candidates(screener, names, Quiet())
            usage, cpu_s = screener.session.usage, time.process_time() - cpu_s
        found = [candidate.status or "" for candidate in store.candidates()]
    return usage.wall_s, cpu_s, usage.busy_s, {status: found.count(status) for status in set(found)}


def all_open(screener: Screener) -> None:
    """Wait until all workers are open."""
    while len(screener.session.workers) < screener.session.settings.workers:
        time.sleep(0.1)
