"""The pipeline around a real engine (transformers, on a model of a few thousand parameters): order,
twins in flight, and engines that die or hang under a candidate."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sqlite3
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest
import torch
from selfdev_engine.engine.errors import EngineGone, UsageError, WorkerBug, WorkerLost
from selfdev_engine.engine.plans.plan import Plan
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import EngineSettings, Sampling
from selfdev_engine.engine.screen import open_screener, run_candidates
from selfdev_engine.engine.screening.folder import add_programs
from selfdev_engine.engine.screening.prepare import Preparer
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.kernels.triton.compile_ahead import AheadCompiler

BODY = "import torch\ndef merge_models(d, device):\n    a, b = d.values()\n    return {}\n"
PROGRAMS = {
    "first": "3 * a + b",
    "again": "b + a * 3",
    "broken": "a + nobody",
    "second": "2 * b - 5 * a",
    "same-update": "1.000000001 * a * 3 + b + 1e-9 * a",
    "nothing": "a - a",
    "third": "torch.maximum(a, b) * 4",
}


@pytest.fixture
def screen(small_models, tmp_path):
    """screen(decided) -> {id: candidate}; what happens to the engine is the caller's."""

    def run(programs=PROGRAMS, decided=lambda screener: None, **more):
        settings = ScreenSettings(
            base=str(small_models / "base"),
            experts={"x": str(small_models / "x"), "y": str(small_models / "y")},
            task=f"jsonl:{small_models / 'task.jsonl'}",
            engine="transformers",
            **more,
        )

        class Bar:
            def stage(self, label, total=None):
                pass

            def update(self, done, total):
                decided(screener)

            def facts(self, look):
                seen = look()
                assert all(len(row) == 3 for row in seen.leaders)
                assert 0 <= seen.valid <= seen.decided and seen.decided > 0
                assert seen.valid + sum(seen.rejected.values()) <= seen.decided

        with Store.open(tmp_path / "run.db") as store:
            sources = [(name, BODY.format(body)) for name, body in programs.items()]
            add_programs(store, sources, settings, tmp_path)
            with open_screener(settings, store, tmp_path) as screener:
                run_candidates(screener, list(programs), Bar())
            return {c.id: c for c in store.candidates()}, {n: store.score(n) for n in programs}

    return run


def check(found, scores):
    assert [found[n].status for n in ("first", "second", "third")] == ["scored"] * 3
    assert (found["broken"].status, found["broken"].kind) == ("rejected", "runtime")
    assert found["again"].duplicate_of == found["same-update"].duplicate_of == "first"
    assert found["nothing"].duplicate_of == "base"
    prints = {found[n].weights_fingerprint for n in ("base", "first", "second", "third")}
    assert len(prints) == 4
    assert all(scores[n].n == 6 for n in PROGRAMS if n != "broken")


def test_candidates_end_as_they_should(screen):
    check(*screen())


@pytest.mark.parametrize("together", [3, len(PROGRAMS)])
def test_candidates_prepared_together_end_the_same(screen, monkeypatch, together):
    monkeypatch.setattr(Preparer, "num_together", together)
    found, scores = screen({**PROGRAMS, "infinite": "a / 0", "too": "a / 0"})
    check(found, scores)
    assert [found[n].kind for n in ("infinite", "too")] == ["nonfinite"] * 2


@pytest.mark.parametrize(("chosen", "own"), [("auto", "cpu"), ("reference", "reference")])
def test_the_worker_has_the_chosen_backend_and_the_driver_no_device(
    screen, monkeypatch, chosen, own
):
    """Also where a GPU is there, to which CUDA would open a context."""
    told, names, open_bank = [], set(), Client.open_bank

    def open_and_note(self, base, experts, include, backend, **words):
        told.append(backend)
        return open_bank(self, base, experts, include, backend, **words)

    def look(screener):
        names.add(screener.preparer.planner.backend.name)
        names.add(screener.preparer.twins.surveyor.backend.name)

    monkeypatch.setattr(Client, "open_bank", open_and_note)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check(*screen(decided=look, backend=chosen))
    assert told == [chosen]
    assert names == {own}
    assert not torch.cuda.is_initialized()


def test_kernels_for_a_gpu_are_compiled_while_the_engine_scores(screen, monkeypatch, tmp_path):
    """As if the worker had said that it has one of sm_90."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("SELFDEV_CACHE", str(tmp_path / "selfdev"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    open_bank, submit, waiting = Client.open_bank, AheadCompiler.submit, []

    def open_on_gpu(*words, **more):
        assert open_bank(*words, **more) is None
        return 90

    def submit_and_note(*words):
        waiting.extend(submit(*words))

    def wait(screener):
        for done in waiting:
            done.result()

    monkeypatch.setattr(Client, "open_bank", open_on_gpu)
    monkeypatch.setattr(AheadCompiler, "submit", submit_and_note)
    check(*screen(decided=wait))
    kernels = [path.stem for path in (tmp_path / "triton").rglob("*.cubin")]
    assert kernels == ["apply"] * len(waiting)
    assert len(waiting) == 3  # of first, second and third; a twin needs none


def test_a_killed_engine_costs_no_candidate(screen):
    killed = []

    def kill_once(screener):
        if sum(c.status is not None for c in screener.store.candidates()) == 2 and not killed:
            killed.append(screener.session.workers[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    check(*screen(decided=kill_once))
    assert killed


def test_an_engine_that_always_dies_fails_the_candidate_only(screen, monkeypatch):
    """Whoever is given the weights of `second` is killed; those that wait behind it are scored."""
    score, prepare, doomed, alone = Client.score, Preparer.prepare, set(), Lock()

    def prepare_and_note(self, candidates):
        found = prepare(self, candidates)
        doomed.update(survey.plan.fingerprint for c, survey in found if c.id == "second")
        return found

    def kill_and_score(worker, plan, prompts, sampling):
        with alone:  # or it would be killed while another one has the engine
            if plan and json.loads(plan)["fingerprint"] in doomed:
                os.kill(worker.pid, signal.SIGKILL)
            return score(worker, plan, prompts, sampling)

    monkeypatch.setattr(Preparer, "prepare", prepare_and_note)
    monkeypatch.setattr(Client, "score", kill_and_score)
    found, scores = screen({n: PROGRAMS[n] for n in ("first", "second", "third")})
    assert (found["second"].status, scores["second"]) == ("failed", None)
    assert "died 2 times" in found["second"].detail
    assert [found[n].status for n in ("first", "third")] == ["scored"] * 2


THREE = {name: PROGRAMS[name] for name in ("first", "second", "third")}


def events(path, kind):
    with Store.read(path / "run.db") as store:
        return [detail for found, detail in store.events() if found == kind]


def test_a_bug_in_lowering_costs_speed_only(screen, monkeypatch, tmp_path):
    """Torch runs the trace, and the traceback is kept."""

    def broken(graph):
        raise AttributeError("'Ranks' object has no attribute 'dims'")

    monkeypatch.setattr("selfdev_engine.engine.plans.fuse.canonical", broken)
    found, scores = screen(THREE)
    assert {c.tier for name, c in found.items() if name != "base"} == {"hybrid"}
    assert all(scores.values())
    kept = events(tmp_path, "bug")
    assert len(kept) == 3 and all("'Ranks' object" in one["detail"] for one in kept)
    assert [one["candidate"] for one in kept] == list(THREE)


@pytest.mark.parametrize(
    "where",
    [
        "selfdev_engine.engine.plans.planner.Planner._work",
        "selfdev_engine.engine.screening.twins.Twins.same_plan",
        "selfdev_engine.engine.plans.survey.Surveyor.concluded",
    ],
)
def test_a_bug_under_one_candidate_fails_it_alone(screen, monkeypatch, tmp_path, where):
    """A resume does not meet it again, and the next version does."""
    monkeypatch.setattr(Preparer, "num_together", 3)
    module, owner, name = where.rsplit(".", 2)
    kind = getattr(importlib.import_module(module), owner)
    right = getattr(kind, name)

    def wrong(self, given, *more):
        if "2 * b" in repr(given) or "5.0" in repr(getattr(given, "plan", given)):
            raise ZeroDivisionError("ours")
        return right(self, given, *more)

    monkeypatch.setattr(kind, name, wrong)
    found, _ = screen(THREE)
    assert (found["second"].status, found["second"].detail) == ("failed", "ZeroDivisionError: ours")
    assert [found[n].status for n in ("first", "third")] == ["scored"] * 2
    assert [one["candidate"] for one in events(tmp_path, "bug")] == ["second"]
    monkeypatch.setattr(kind, name, right)
    if name != "_work":
        return
    assert screen(THREE)[0]["second"].status == "failed"
    monkeypatch.setattr("selfdev_engine.engine.records.store.PRODUCT_VERSION", "next")
    assert screen(THREE)[0]["second"].status == "scored"


def test_a_bug_in_the_worker_fails_the_candidate_only(screen, monkeypatch, tmp_path):
    score, prepare, doomed = Client.score, Preparer.prepare, set()

    def prepare_and_note(self, candidates):
        found = prepare(self, candidates)
        doomed.update(survey.plan.fingerprint for c, survey in found if c.id == "second")
        return found

    def wrong(worker, plan, prompts, sampling):
        if plan and json.loads(plan)["fingerprint"] in doomed:
            raise WorkerBug("in the worker:\nTraceback\nKeyError: 'ours'")
        return score(worker, plan, prompts, sampling)

    monkeypatch.setattr(Preparer, "prepare", prepare_and_note)
    monkeypatch.setattr(Client, "score", wrong)
    found, _ = screen(THREE)
    assert (found["second"].status, found["second"].detail) == ("failed", "KeyError: 'ours'")
    assert [found[n].status for n in ("first", "third")] == ["scored"] * 2


def test_a_run_keeps_the_threads_of_its_first_score(screen, monkeypatch, tmp_path):
    """The second engine is told, and tries nothing."""
    told, used = [], []
    set_threads = Client.set_threads
    monkeypatch.setattr(Client, "set_threads", lambda w, n: (told.append(n), set_threads(w, n)))
    screen(
        {"first": PROGRAMS["first"]}, lambda screener: used.append(screener.session.usage.threads)
    )
    with Store.open(tmp_path / "run.db") as store:
        assert told == [] and store.setting("threads") == used[0] >= 1
        store.set_setting("threads", 3)
    monkeypatch.setattr(Client, "choose_threads", None)
    programs = {name: PROGRAMS[name] for name in ("first", "second")}
    screen(programs, lambda screener: used.append(screener.session.usage.threads))
    assert told == [3] and used[-1] == 3


def test_an_engine_that_hangs_is_ended(small_models):
    settings = EngineSettings(engine="transformers", stall_s=2.0)
    with Client.start(settings) as worker:
        worker.open_model("target", str(small_models / "base"))
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerLost, match="said nothing for 2 s"):
            worker.fingerprint("target")


def test_a_log_that_nobody_asked_for_stays_only_of_a_lost_engine(small_models):
    logs = []
    for lost in (False, True):
        with Client.start(EngineSettings(engine="transformers")) as worker:
            worker.open_model("target", str(small_models / "base"))
            logs.append(worker._line.log)
            if lost:
                os.kill(worker.pid, signal.SIGKILL)
                with pytest.raises(WorkerLost):
                    worker.fingerprint("target")
    assert [log.exists() for log in logs] == [False, True]
    logs[1].unlink()


def test_what_waits_behind_a_dying_engine_is_not_blamed(small_models):
    """Both requests are sent; the first one's turn it was."""
    with (
        Client.start(EngineSettings(engine="transformers")) as worker,
        ThreadPoolExecutor(2) as pool,
    ):
        worker.open_model("target", str(small_models / "base"))
        calls = [pool.submit(worker.fingerprint, "target") for _ in range(2)]
        assert calls[0].result() == calls[1].result()
        os.kill(worker.pid, signal.SIGSTOP)
        calls = [pool.submit(worker.fingerprint, "target") for _ in range(2)]
        while worker._calls.num_made < 5:  # both are on their way
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
        faults = {type(call.exception()) for call in calls}
        assert faults == {WorkerLost, EngineGone}


def test_a_prompt_longer_than_the_context_keeps_its_end(small_models):
    with Client.start(EngineSettings(engine="transformers")) as worker:
        worker.open_model("target", str(small_models / "base"))
        prompts = ["9=" + "1+2" * 30, ("9=" + "1+2" * 30)[-62:]]
        long, end = worker.generate("target", prompts, Sampling(2))
        assert long == end
        assert worker.times.busy_s > 0


def test_no_program_is_run_again_to_speak_for_what_was_scored(screen, monkeypatch):
    """It could give another update than the one that was scored, and its score to another program."""
    monkeypatch.setattr(Preparer, "stored_plan", None)
    found, _ = screen({"reads": "torch.linalg.svd(a)[0] @ torch.linalg.svd(a)[0].T @ a"})
    again, _ = screen(
        {"reads": "torch.linalg.svd(a)[0] @ torch.linalg.svd(a)[0].T @ a", "like": "a + 0"}
    )
    assert found["reads"].tier == "hybrid" and again["like"].status == "scored"


def test_a_plan_is_kept_as_it_was_scored(screen, tmp_path):
    """Later twins are compared with the stored plan; the program is not traced again."""
    screen({"first": "3 * a + b"})
    with Store.read(tmp_path / "run.db") as store:
        candidate = store.candidate("first")
        assert candidate and candidate.fingerprint
        data = store.plan(candidate.fingerprint)
    assert data and Plan.from_bytes(data).fingerprint == candidate.fingerprint
    found, _ = screen({"first": "3 * a + b", "twin": "b + 3.000000001 * a"})
    assert found["twin"].duplicate_of == "first"


@pytest.mark.parametrize("spoilt", [b"", b"no zlib", zlib.compress(b"{}"), zlib.compress(b"\xff")])
def test_a_damaged_plan_is_named(screen, tmp_path, spoilt):
    screen({"first": "3 * a + b"})
    with contextlib.closing(sqlite3.connect(tmp_path / "run.db")) as db, db:
        db.execute("UPDATE plans SET data = ?", (spoilt,))
    with pytest.raises(UsageError, match=r"run\.db: the plan of first is damaged"):
        screen({"first": "3 * a + b", "twin": "b + 3.000000001 * a"})
