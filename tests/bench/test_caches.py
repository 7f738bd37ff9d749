"""How much data a row needs, and when its roof is not believed."""

from __future__ import annotations

import os

import pytest
from selfdev_engine.bench import caches, registry
from selfdev_engine.bench.registry import ROWS, doubt, run_rows
from selfdev_engine.bench.timing import Times, best_of
from selfdev_engine.engine.errors import PartlyDone

MIB = 1 << 20


@pytest.fixture
def cpus(tmp_path, monkeypatch):
    """Four cores in two pairs: a level-2 cache each, a level-3 cache a pair."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    for core in range(4):
        pair = f"{core // 2 * 2}-{core // 2 * 2 + 1}"
        kinds = [("Data", 1, "48K", core), ("Instruction", 1, "64K", core)]
        kinds += [("Unified", 2, "2048K", core), ("Unified", 3, "150M", pair)]
        for i, (kind, level, size, shared) in enumerate(kinds):
            folder = tmp_path / f"cpu{core}" / "cache" / f"index{i}"
            folder.mkdir(parents=True)
            facts = {"type": kind, "level": level, "size": size, "shared_cpu_list": shared}
            for name, value in facts.items():
                (folder / name).write_text(f"{value}\n")
    return tmp_path


def test_a_shared_cache_counts_once(cpus):
    assert caches.cache_sizes(cpus) == {1: 4 * 48 << 10, 2: 8 * MIB, 3: 300 * MIB}


def test_a_system_that_tells_of_no_caches(tmp_path):
    assert caches.cache_sizes(tmp_path) == {}


def test_no_cache_holds_the_data(monkeypatch):
    monkeypatch.setattr(caches, "room_bytes", lambda: caches.MOST_BYTES)
    one = 44 * MIB
    assert caches.sets_for(one, least=4, cache_bytes=32 * MIB) == 4
    assert caches.sets_for(one, least=4, cache_bytes=300 * MIB) == 28
    assert 28 * one >= 4 * 300 * MIB > 27 * one
    assert caches.sets_for(one, cache_bytes=2000 * MIB) * one <= caches.MOST_BYTES
    assert caches.sets_for(8_000_000_000) == 1


def test_a_doubtful_roof_is_a_line_and_no_crash(monkeypatch):
    monkeypatch.setattr(registry, "is_in_cache", lambda size: size < 1000)
    monkeypatch.setattr(registry, "largest_bytes", lambda: 250)
    assert doubt(0.9, "read: words", 1000, "cpu") == ""
    assert "in cache" in doubt(0.9, "read: words", 999, "cpu")
    assert doubt(0.9, "read: words", 999, "cuda") == ""
    assert doubt(1.34, "read: words", 1000, "cpu").startswith("134% of the roof (read: words)")


def test_the_roof_is_the_best_reader_or_a_copy():
    times = {"read: a": Times((3.0,), 1), "read: copy": Times((2.0,), 1), "ours": Times((1.0,), 1)}
    assert best_of(times, "read")[0] == "read: copy"


def test_rows_that_were_measured_are_kept(monkeypatch, tmp_path):
    class Bar:
        def stage(self, label):
            pass

        def update(self, done, total):
            pass

    row = registry.Row("apply", 1.0, "GB/s", "copy GB/s", 1.0, 1.0, "copy", True)

    class Module:
        @staticmethod
        def measure(zoo, update, **more):
            return row

    class Broken:
        @staticmethod
        def measure(zoo, update, **more):
            raise AssertionError("a wrong result")

    modules = {".rows.apply": Module, ".rows.sweep": Broken}
    monkeypatch.setattr(registry.importlib, "import_module", lambda name, package: modules[name])
    with pytest.raises(PartlyDone) as failed:
        run_rows(("apply", "sweep"), tmp_path, Bar())
    result = failed.value.result
    assert [r["name"] for r in result["rows"]] == ["apply"]
    assert result["caches"] and result["date"] and set(ROWS) >= {"apply", "new"}
    with pytest.raises(AssertionError):
        run_rows(("sweep",), tmp_path, Bar())
