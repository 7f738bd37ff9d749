"""What a worker reads: damaged plans and random kernel graphs raise ValueError, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from selfdev_engine.engine.plans.plan import Plan
from selfdev_engine.kernels.backends import get_backend


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


plan_fuzz = load("plan_fuzz")


def test_random_plans():
    """A small share of what plan_fuzz.py can make."""
    backend, ended = get_backend("cpu"), Counter()
    tracemalloc.start()
    for seed in range(1500):
        outcome = plan_fuzz.attempt(seed, backend if seed % 5 == 0 else None)
        assert not outcome.fault, (seed, outcome.graph, outcome.fault)
        ended[outcome.ended] += 1
    tracemalloc.stop()
    assert ended["read"] > 200 and ended["refused"] > 200 and ended["run"] > 50, ended


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"\xff", b"{}", b"[" * 99_999])
def test_bytes_that_are_no_plan(data: bytes):
    with pytest.raises(ValueError):
        Plan.from_bytes(data)
