"""The pool's policy, on workers that are made here: who does which job, and what a fault costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from threading import Event, Lock

import pytest
from selfdev_engine.engine.errors import EngineGone, UsageError, WorkerBug, WorkerLost
from selfdev_engine.engine.workers.job import Quarantined
from selfdev_engine.engine.workers.pool import Pool

LIMIT_S = 20.0


class Fake:
    """A worker without a process: it notes what it did, and can be lost."""

    def __init__(self, number: int, thread: int) -> None:
        self.number, self.thread = number, thread
        self.is_alive, self.is_stopped, self.did = True, False, []

    def call(self, what: object) -> object:
        if not self.is_alive:
            raise EngineGone("it had ended before")
        self.did.append(what)
        return what

    def die(self) -> None:
        self.is_alive = False
        raise WorkerLost("it ended")

    def kill(self) -> None:
        self.is_alive = False

    def stop(self) -> None:
        self.is_alive, self.is_stopped = False, True


class Factory:
    """Makes fakes and keeps all of them; `opens` may raise."""

    def __init__(self, opens=lambda worker: None) -> None:
        self.made, self.opened, self.opens = [], [], opens

    def start(self, number: int) -> Fake:
        self.made.append(Fake(number, threading.get_ident()))
        return self.made[-1]

    def open(self, worker: Fake) -> None:
        self.opens(worker)
        self.opened.append(worker)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def pools():
    """pools(num_workers, lanes, opens) -> (pool, factory); they are closed afterwards."""
    made = []

    def make(num_workers, lanes=1, opens=lambda worker: None):
        factory = Factory(opens)
        made.append((Pool(factory.start, factory.open, num_workers, lanes), factory))
        return made[-1]

    yield make
    for pool, factory in made:
        pool.close()
        assert all(worker.is_stopped for worker in factory.made)


def test_idle_workers_pull_jobs_and_results_come_back(pools):
    pool, _ = pools(3)
    both = threading.Barrier(3, timeout=LIMIT_S)

    def job(i):
        def run(worker):
            if i < 3:
                both.wait()  # three at once, or this breaks
            return worker.call(i) * 10

        return run

    futures = [pool.submit(str(i), job(i)) for i in range(20)]
    assert [f.result(LIMIT_S) for f in futures] == [10 * i for i in range(20)]
    assert sorted(n for w in pool.workers for n in w.did) == list(range(20))
    assert not pool.incidents


def test_one_thread_starts_all_workers_and_outlives_them(pools):
    pool, factory = pools(3)
    pool.submit("a", lambda worker: 1).result(LIMIT_S)
    with pytest.raises(Quarantined):
        pool.submit("dies", lambda worker: worker.die()).result(LIMIT_S)
    wait_until(lambda: len(factory.made) == 5)
    starters = {worker.thread for worker in factory.made}
    assert len(starters) == 1
    assert starters <= {t.ident for t in threading.enumerate()}


def test_the_first_worker_opens_alone(pools):
    may_open, begun = Event(), []

    def opens(worker):
        begun.append(worker.number)
        if worker.number == 0:
            may_open.wait(LIMIT_S)

    pool, _ = pools(3, opens=opens)
    time.sleep(0.1)
    assert begun == [0]
    may_open.set()
    all_there = threading.Barrier(3, timeout=LIMIT_S)
    wait([pool.submit(str(i), lambda w: all_there.wait()) for i in range(3)], LIMIT_S)
    assert sorted(begun) == [0, 1, 2]


def test_others_open_after_the_first_worker_was_lost_while_it_opened(pools):
    """Its seat's next worker may have no place before another one ends, as in a cluster."""
    may_open, begun = Event(), Event()

    def opens(worker):
        if worker.number == 0 and begun.is_set():
            may_open.wait(LIMIT_S)
        elif worker.number == 0:
            begun.set()
            worker.die()

    pool, _ = pools(2, opens=opens)
    assert pool.submit("a", lambda worker: worker.number).result(LIMIT_S) == 1
    may_open.set()


@pytest.mark.parametrize("fault", [lambda w: w.die(), lambda w: raise_bug()])
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_a_job_that_fails_once_is_done_by_another_worker(pools, fault, num_workers):
    pool, _factory = pools(num_workers)
    tried = []

    def run(worker):
        tried.append(worker)
        return fault(worker) if len(tried) == 1 else worker.call("done")

    assert pool.submit("x", run).result(LIMIT_S) == "done"
    first, second = tried
    assert first is not second
    assert (first.number == second.number) == (num_workers == 1)
    (incident,) = pool.incidents
    assert (incident.job, incident.worker) == ("x", first.number)
    assert not first.is_alive


def raise_bug():
    raise WorkerBug("in the worker:\nTraceback\nKeyError: 'ours'")


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_job_that_ends_two_workers_is_given_up_and_the_others_are_done(pools, lanes):
    pool, _ = pools(2, lanes)
    bad = pool.submit("bad", lambda worker: worker.die())
    good = [pool.submit(str(i), lambda worker, i=i: worker.call(i)) for i in range(30)]
    with pytest.raises(Quarantined, match="died 2 times") as caught:
        bad.result(LIMIT_S)
    assert [f.result(LIMIT_S) for f in good] == list(range(30))
    assert [one.job for one in pool.incidents] == ["bad", "bad"]
    assert len({one.worker for one in caught.value.incidents}) == 2


def test_a_bug_twice_says_what_the_worker_said(pools):
    pool, _ = pools(2)
    with pytest.raises(Quarantined) as caught:
        pool.submit("bad", lambda worker: raise_bug()).result(LIMIT_S)
    assert str(caught.value).endswith("KeyError: 'ours'")


def test_a_call_that_ends_with_anothers_bug_is_not_blamed(pools):
    """Two lanes of one worker; it is replaced because of the bug of one of them."""
    pool, _ = pools(1, lanes=2)
    inside, tried = Event(), []

    def innocent(worker):
        tried.append(worker)
        if len(tried) == 1:
            inside.set()
            while worker.is_alive:
                time.sleep(0.005)
            raise WorkerLost("it ended under this call")
        return worker.call("done")

    def buggy(worker):
        inside.wait(LIMIT_S)
        raise_bug()

    first, second = pool.submit("innocent", innocent), pool.submit("buggy", buggy)
    assert first.result(LIMIT_S) == "done"
    with pytest.raises(Quarantined):
        second.result(LIMIT_S)
    assert {one.job for one in pool.incidents} == {"buggy"}


def test_a_worker_that_ends_while_idle_costs_no_job(pools):
    pool, factory = pools(1)
    pool.submit("first", lambda worker: worker.call(1)).result(LIMIT_S)
    factory.made[0].is_alive = False
    assert pool.submit("next", lambda worker: worker.call(2)).result(LIMIT_S) == 2
    assert not pool.incidents and len(factory.made) == 2


def test_workers_are_replaced_while_others_go_on(pools):
    hold, replaced, lock, killed = Event(), Event(), Lock(), []

    def opens(worker):
        if worker.number == 0 and killed:
            replaced.set()
            hold.wait(LIMIT_S)

    pool, _ = pools(2, opens=opens)
    seats = threading.Barrier(2, timeout=LIMIT_S)
    wait([pool.submit(str(i), lambda w: seats.wait()) for i in range(2)], LIMIT_S)

    def kill_number_0(worker):
        with lock:
            if worker.number == 0 and not killed:
                killed.append(worker)
                worker.die()
        time.sleep(0.002)
        return worker.number

    first = [pool.submit(str(i), kill_number_0) for i in range(50)]
    assert replaced.wait(LIMIT_S)
    assert {f.result(LIMIT_S) for f in first} <= {0, 1}
    assert pool.submit("while it opens", lambda w: w.number).result(LIMIT_S) == 1
    hold.set()


def test_what_a_job_raises_is_its_own(pools):
    pool, factory = pools(2)
    with pytest.raises(ZeroDivisionError):
        pool.submit("x", lambda worker: 1 // 0).result(LIMIT_S)
    assert pool.submit("y", lambda worker: worker.call(1)).result(LIMIT_S) == 1
    # The second worker follows the first, at its own time.
    wait_until(lambda: len(factory.made) == 2)
    assert not pool.incidents


@pytest.mark.parametrize("number", [0, 2])
def test_a_worker_that_cannot_be_opened_ends_all_at_once(pools, number):
    def opens(worker):
        if worker.number == number:
            raise UsageError("the card is in use")

    pool, _ = pools(3, opens=opens)
    stuck = Event()
    pool.submit("busy", lambda worker: stuck.wait(LIMIT_S))
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            pool.submit("x", lambda worker: time.sleep(0.01)).result(LIMIT_S)
        except UsageError:
            break
    with pytest.raises(UsageError, match="in use"):
        pool.submit("later", lambda worker: 1).result(LIMIT_S)
    stuck.set()


@pytest.mark.parametrize("num_bad", [1, 2])
def test_a_seat_where_workers_die_at_once_is_given_up_and_the_last_one_ends_all(pools, num_bad):
    def opens(worker):
        if worker.number < num_bad:
            worker.die()

    pool, factory = pools(2, lanes=2, opens=opens)
    future = pool.submit("x", lambda worker: worker.number)
    if num_bad == 1:
        assert future.result(LIMIT_S) == 1
    else:
        with pytest.raises(WorkerLost):
            future.result(LIMIT_S)
    # The other worker may do the job before this one has died a second time.
    wait_until(lambda: len(pool.incidents) == 2 * num_bad)
    assert sum(worker.number == 0 for worker in factory.made) == 2
    assert {one.job for one in pool.incidents} == {""}


def test_closing_while_a_worker_opens_starts_no_other_one(pools):
    begun = Event()

    def opens(worker):
        begun.set()
        until = time.monotonic() + LIMIT_S
        while worker.is_alive and time.monotonic() < until:
            time.sleep(0.01)
        raise WorkerLost("it was killed")

    pool, factory = pools(1, 2, opens)
    assert begun.wait(LIMIT_S)
    pool.close()
    assert len(factory.made) == 1


def test_closing_cancels_what_waits_and_ends_what_runs(pools):
    pool, factory = pools(1)
    begun = Event()

    def long(worker):
        begun.set()
        while worker.is_alive:
            time.sleep(0.005)
        raise WorkerLost("it ended")

    running, waiting = pool.submit("long", long), pool.submit("waits", lambda worker: 1)
    assert begun.wait(LIMIT_S)
    pool.close()
    for future in (running, waiting):
        with pytest.raises(CancelledError):
            future.result(LIMIT_S)
    assert len(factory.made) == 1 and not pool.incidents
