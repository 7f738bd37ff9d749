"""Rules of the bench: a row that was disturbed, or beats its roof, has no gate."""

from __future__ import annotations

import time

import pytest
import torch
from selfdev_engine.bench import registry, timing
from selfdev_engine.bench.registry import ROWS, Row
from selfdev_engine.bench.timing import Times
from selfdev_engine.selfdev.cli.bench import bench_command


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setattr(registry, "is_in_cache", lambda data_bytes: False)


def row(ours_s: float, copy_s: float, cpu_per_wall: float, asked: bool = True) -> Row:
    threads = torch.get_num_threads()
    times = {
        "ours": Times((0.9 * ours_s, ours_s, 1.2 * ours_s), cpu_per_wall * threads),
        "copy": Times((copy_s,), 1.0 * threads),
    }
    return Row.of_bandwidth(
        "r", 3_000_000, times, floor="copy", target=0.6, asked=asked, more={"x": 2}
    )


def test_a_row_is_its_bytes_over_its_median():
    found = row(0.003, 0.002, 0.99)
    assert found.value == pytest.approx(1.0)
    assert found.baseline_value == pytest.approx(1.5)
    assert found.more["percent_of_floor"] == pytest.approx(200 / 3)
    assert found.more["spread_ms"] == pytest.approx([2.7, 3.6])
    assert found.measured and found.gate is True
    assert row(0.003, 0.001, 0.99).gate is False
    assert row(0.003, 0.002, 0.99, asked=False).gate is False


def test_threads_that_did_not_run_are_not_measured():
    found = row(0.003, 0.002, 0.85)
    assert not found.measured
    assert found.gate is None


def test_more_than_the_floor_has_a_note_and_no_gate():
    found = row(0.001, 0.002, 0.99)
    assert found.gate is None and found.measured
    assert found.note.startswith("200% of the roof (copy)")


def test_help_says_what_each_row_measures():
    lines = (bench_command.help or "").splitlines()
    assert all(any(line.split()[:1] == [name] for line in lines) for name in ROWS)


def test_rounds_that_were_disturbed_are_dropped(monkeypatch):
    # The first round is not counted.
    seen = [(9.0, 1.0), (9.0, 0.5), (1.0, 1.0), (2.0, 0.95), (3.0, 0.2)]
    left = iter(seen)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(timing, "one_round", lambda functions, warm, device: {"ours": next(left)})
    assert timing.timed({"ours": lambda: None}, rounds=2)["ours"].seconds == (1.0, 2.0)
    assert next(left) == seen[-1]
    left = iter([(1.0, 0.5)] * 5)
    disturbed = timing.timed({"ours": lambda: None}, rounds=2)["ours"]
    assert disturbed.cpu_per_wall == 0.5
    assert len(disturbed.seconds) == 4
    # While a GPU works the processor waits, so CPU time says nothing there.
    left = iter([(1.0, 0.5)] * 5)
    assert len(timing.timed({"ours": lambda: None}, rounds=2, device="cuda")["ours"].seconds) == 2


def test_cpu_seconds_are_counted_beside_wall_seconds():
    found = timing.one_round({"idle": lambda: time.sleep(0.2)}, ())["idle"]
    assert found[0] >= 0.2
    assert found[1] < 0.5
