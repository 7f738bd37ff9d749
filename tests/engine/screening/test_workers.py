"""Several workers: the same results as with one, in the same order, whatever dies under them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from selfdev_engine.engine.errors import EngineGone, UsageError, WorkerLost
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import Completion, Times
from selfdev_engine.engine.screen import open_screener, run_candidates
from selfdev_engine.engine.screening.folder import (
    POPULATION,
    add_programs,
    check_same,
    comparable,
)
from selfdev_engine.engine.screening.inputs import check_inputs
from selfdev_engine.engine.screening.session import EngineSession
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.engine.weights.capacity import Shares
from selfdev_engine.engine.weights.shared import NAME

BODY = "import torch\ndef merge_models(d, device):\n    a, b = d.values()\n    return {}\n"
EVERY = 20  # decisions between two kills


def mixed(count: int) -> dict[str, str]:
    """Programs of which most are scored, some repeat another one, and some are rejected."""
    bodies = ["{0} * a + b", "a - {0} * b", "{0} * a + {0} * b", "a + nobody", "b + a * {1}"]
    return {
        f"p{i}": BODY.format(bodies[i % 5].format(1 + i / 50, 1 + (i - 4) / 50))
        for i in range(count)
    }


class Reaper:
    """Ends a worker under the next call, but never twice under one plan."""

    def __init__(self) -> None:
        self.num_wanted, self.hit, self.lock = 0, set[bytes](), threading.Lock()

    def takes(self, plan: bytes) -> bool:
        with self.lock:
            if not self.num_wanted or plan in self.hit:
                return False
            self.num_wanted -= 1
            self.hit.add(plan)
            return True


class FakeClient:
    """A worker in this process: its answers are a function of plan and prompt alone.

    A call under which it ends raises WorkerLost, and later ones EngineGone.
    """

    engine, decoding, pid = "fake 1", "greedy", 0

    def __init__(self, reaper: Reaper) -> None:
        self.reaper, self.is_alive, self.plan, self.num_scored = reaper, True, b"", 0
        self.times, self.turn = Times(0.0, 0.0), threading.Lock()

    def open_model(self, key, folder):
        pass

    def open_bank(self, *words, **more):
        return None

    def choose_threads(self, prompts, sampling):
        return {"threads": 1, "seconds": {}}

    def set_threads(self, threads):
        pass

    def apply(self, plan):
        if not self.is_alive:
            raise EngineGone("it had ended")
        time.sleep(random.Random(plan).random() * 0.005)
        if self.reaper.takes(plan):
            self.is_alive = False
            raise WorkerLost("it was killed")
        self.plan = plan
        return hashlib.sha256(plan).hexdigest()[:8]

    def answer(self, prompt):
        right = hashlib.sha256(self.plan + prompt.encode()).digest()[0] % 3
        return Completion(prompt[0] if right else "99", "stop", 1)

    def score(self, plan, prompts, sampling):
        with self.turn:
            prints = self.apply(plan)
            self.num_scored += 1
            return prints, [self.answer(prompt) for prompt in prompts], Times(0.01, 0.001)

    def generate_fed(self, key, prompts, feed, sampling):
        waiting = list(prompts)
        for number, prompt in enumerate(waiting):
            more = feed([(number, self.answer(prompt))])
            if more is None:
                return
            waiting += more

    def kill(self):
        self.is_alive = False

    def stop(self):
        self.is_alive = False


@pytest.fixture
def fakes(monkeypatch):
    """The fake workers that were started, and what ends them."""
    made, reaper = list[FakeClient](), Reaper()

    class Fakes:
        @staticmethod
        def start(settings, log, device):
            made.append(FakeClient(reaper))
            return made[-1]

    monkeypatch.setattr("selfdev_engine.engine.screening.session.Client", Fakes)
    return made, reaper


@pytest.fixture
def screen(small_models, tmp_path):
    """screen(programs, workers, decided, ...) -> rows of the store; each call has a run of its own."""

    def run(programs, workers, decided=lambda screener, done: None, **more):
        settings = ScreenSettings(
            base=str(small_models / "base"),
            experts={"x": str(small_models / "x"), "y": str(small_models / "y")},
            task=f"jsonl:{more.pop('task', small_models / 'task.jsonl')}",
            engine="transformers",
            workers=workers,
            **more,
        )
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()

        class Bar:
            def stage(self, label, total=None):
                pass

            def update(self, done, total):
                decided(screener, done)

            def facts(self, look):
                pass

        with Store.open(folder / "run.db") as store:
            store.set_setting(POPULATION, len(programs))
            add_programs(store, list(programs.items()), settings, folder)
            with open_screener(settings, store, folder) as screener:
                run_candidates(screener, list(programs), Bar())
            return found_in(store)

    return run


def found_in(store: Store):
    """What must not depend on the workers: outcomes, scores and answers; and the incidents."""
    rows = {}
    for c in store.candidates():
        score = store.score(c.id)
        rows[c.id] = (
            *(c.status, c.kind, c.detail, c.duplicate_of, c.weights_fingerprint),
            score and score.to_json(),
            store.outcomes(c.id),
        )
    lost = [d["candidate"] for kind, d in store.events() if kind == "worker lost"]
    return rows, lost


def chaos(reaper):
    """decided(screener, done) that has a worker ended after every EVERY-th decision."""

    def decided(screener, done):
        reaper.num_wanted += bool(done) and done % EVERY == 0

    return decided


def test_killed_workers_change_nothing_but_the_events(screen, fakes):
    made, reaper = fakes
    programs = mixed(200)
    calm, none = screen(programs, 1)
    assert not none and sum(row[0] == "scored" for row in calm.values()) > 100
    made.clear()
    wild, lost = screen(programs, 4, chaos(reaper))
    assert wild == calm
    assert len(lost) >= 8 and len(set(lost)) == len(lost)
    assert len(made) == 4 + len(lost) and not any(one.is_alive for one in made)
    scored = sum(row[0] == "scored" for row in wild.values())
    assert sum(one.num_scored for one in made) == scored


@pytest.mark.parametrize("mode", ["sure", "likely"])
def test_a_race_does_not_depend_on_the_number_of_workers(screen, fakes, tmp_path, mode):
    task = tmp_path / "task.jsonl"
    rows = [{"question": f"{i % 9}+{i}=", "answer": str(i % 9)} for i in range(40)]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    programs = mixed(80)
    words = {"task": task, "race": mode, "top": 3}
    one, _ = screen(programs, 1, **words)
    assert sum(row[0] == "stopped" for row in one.values()) > 5
    seven, lost = screen(programs, 7, chaos(fakes[1]), **words)
    assert seven == one and lost


def test_more_workers_than_gpus_or_memory_are_refused(small_models, monkeypatch):
    def check(workers, **more):
        check_inputs(
            ScreenSettings(
                base=str(small_models / "base"),
                experts={"x": str(small_models / "x")},
                task=f"jsonl:{small_models / 'task.jsonl'}",
                engine="transformers",
                workers=workers,
                **more,
            )
        )

    check(2)
    with pytest.raises(UsageError, match=r"--workers 100000: each takes .* and this machine has"):
        check(100_000)
    here = "selfdev_engine.engine.screening.inputs.devices_here"
    monkeypatch.setattr(here, lambda: ["0", "1"])
    check(2)
    with pytest.raises(UsageError, match="--workers 3: each takes a GPU, and this machine has 2"):
        check(3)


def test_where_workers_are_and_how_many_may_change_between_resumes(small_models, tmp_path):
    one = ScreenSettings(str(small_models / "base"), {"x": str(small_models / "x")}, "gsm8k")
    assert comparable(one) == comparable(replace(one, workers=3, address="head:6379"))
    there = {"cluster": {"workers": 1, "tensor_parallel": 1}}
    here = {"cluster": {"workers": 3, "address": "head:6379", "tensor_parallel": 1}}
    check_same(tmp_path, there, here)
    with pytest.raises(UsageError, match=r"cluster\.tensor_parallel is 1 there and 2 here"):
        check_same(tmp_path, there, {"cluster": {"tensor_parallel": 2}})


def test_real_workers_share_one_bank_also_with_one_that_takes_a_place(screen, monkeypatch):
    """As on cards that have no room for it; a worker that is killed takes nothing of it along."""
    programs, inodes, killed = mixed(8), list[str](), list[int]()
    calm, _ = screen(programs, 1)

    def decided(screener, done):
        workers = screener.session.workers
        for worker in workers:
            inodes.extend(banks_of(worker.pid))
        if done == 3 and not killed:
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

    monkeypatch.setattr("selfdev_engine.engine.screening.session.on_gpu", lambda backend: True)
    monkeypatch.setattr(
        "selfdev_engine.engine.screen.shares_here", lambda *words: Shares(64 << 20, 0, 1 << 30)
    )
    wild, _ = screen(programs, 2, decided)
    assert wild == calm and killed
    assert len(inodes) > 4 and len(set(inodes)) == 1
    assert not [file for file in Path("/proc/self/fd").iterdir() if NAME in os.path.realpath(file)]


def banks_of(pid: int) -> list[str]:
    """The number of the shared memory that a process maps as its bank; nothing where it has just ended."""
    with suppress(OSError):
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return [line.split()[4] for line in maps if NAME in line]
    return []


def test_each_worker_sees_a_gpu_of_its_own(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(Client, "start", lambda *words: started.append(words))
    monkeypatch.setattr(
        "selfdev_engine.engine.screening.session.devices_here", lambda: ["3", "GPU-5"]
    )
    settings = ScreenSettings("b", {}, "t", engine="transformers", workers=2)
    session = EngineSession(settings, None, None, tmp_path / "engine.log", {}, 2, None)  # type: ignore
    for number in (0, 1):
        session._worker(number)
    assert [device for _, _, device in started] == ["3", "GPU-5"]
    assert [log.name for _, log, _ in started] == ["engine.log", "engine-1.log"]


@pytest.mark.slow
def test_real_workers_that_are_killed(screen, tmp_path):
    """Two processes of transformers; nothing of them is left."""
    programs = mixed(60)
    calm, _ = screen(programs, 1)
    pids, shared = set(), set(os.listdir("/dev/shm"))
    killed = []

    def decided(screener, done):
        pids.update(one.pid for one in screener.session.workers)
        if done % EVERY == 0 and done not in killed and len(screener.session.workers) == 2:
            killed.append(done)
            os.kill(screener.session.workers[done // EVERY % 2].pid, signal.SIGKILL)

    wild, lost = screen(programs, 2, decided)
    assert wild == calm
    assert killed and len(pids) >= 3 and len(set(lost)) == len(lost)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert set(os.listdir("/dev/shm")) <= shared
