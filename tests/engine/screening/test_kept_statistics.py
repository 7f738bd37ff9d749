"""Statistics that outlive a process: the same bits, without a look at the weights."""

from __future__ import annotations

import pytest
import torch
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.kept_statistics import MOST_KEPT, KeptMemo
from selfdev_engine.kernels.compiler.passes import compile_values
from selfdev_engine.kernels.compiler.staging import LONG
from selfdev_engine.kernels.cpu.backend import CpuBackend
from selfdev_engine.kernels.ir import Builder, Op, Space
from selfdev_engine.kernels.stages import KernelPlan
from selfdev_engine.kernels.tensors import TensorSet

BASE = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
TENSORS = TensorSet("w", BASE, {"a": BASE + 0.01, "b": BASE * 1.5})


def plan_of(scale: float | None, space: Space = Space.SCALAR) -> KernelPlan:
    """The sum of squares of a task vector, of one that is scaled first if so."""
    b = Builder()
    x = b.input("b")
    if scale:
        x = b.add(Op.MIN, x, b.const(scale))
    return compile_values(b.graph(b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, x), space=space)))


def refuse(*_):
    raise AssertionError("the weights were read")


def test_a_norm_is_read_from_the_store_the_next_time(tmp_path, monkeypatch):
    backend, plan = CpuBackend(), plan_of(None)
    with Store.open(tmp_path / "run.db") as store:
        (first,) = backend.values(plan, TENSORS, KeptMemo({}, store, "w"))
    monkeypatch.setattr(CpuBackend, "sweep", refuse)
    with Store.open(tmp_path / "run.db") as store:
        (again,) = backend.values(plan, TENSORS, KeptMemo({}, store, "w"))
        assert torch.equal(first, again)
        assert first > 0
        with pytest.raises(AssertionError, match="weights were read"):
            backend.values(plan, TENSORS, KeptMemo({}, store, "another tensor"))


@pytest.mark.parametrize(("scale", "space"), [(0.25, Space.SCALAR), (None, Space.ROW)])
def test_vectors_and_what_a_programs_constants_enter_stay_in_the_cache(tmp_path, scale, space):
    cache = {}
    with Store.open(tmp_path / "run.db") as store:
        memo = KeptMemo(cache, store, "w")
        CpuBackend().values(plan_of(scale, space), TENSORS, memo)
        assert len(cache) == len(memo) == 1
        assert store.statistics("w") == {}


def test_nan_survives(tmp_path):
    with Store.open(tmp_path / "run.db") as store:
        KeptMemo({}, store, "w")["key"] = torch.tensor(torch.nan)
        assert KeptMemo({}, store, "w")["key"].isnan()


def test_a_tensor_keeps_so_many_and_those_that_were_used_last(tmp_path):
    """A program of hundreds of sums filled memory and store, also where it was rejected."""
    with Store.open(tmp_path / "run.db") as store:
        memo = KeptMemo({}, store, "w")
        memo["moment|1|t b"] = torch.tensor(7.0)
        for number in range(3 * MOST_KEPT):
            memo[f"key {number}"] = torch.tensor(float(number))
            assert memo["key 0"] == 0.0
        assert len(memo) == len(store.statistics("w")) == MOST_KEPT + 1
    with Store.open(tmp_path / "run.db") as store:
        again = KeptMemo({}, store, "w")
        assert again["moment|1|t b"] == 7.0
        assert "key 1" not in again
        for number in (0, 3 * MOST_KEPT - 1):
            assert again[f"key {number}"] == float(number)


def test_what_an_older_version_kept_beyond_the_quota_goes(tmp_path):
    with Store.open(tmp_path / "run.db") as store:
        for number in range(MOST_KEPT + 10):
            store.keep_statistic("w", f"key {number}", 1.0)
        KeptMemo({}, store, "w")
        assert list(store.statistics("w")) == [f"key {n}" for n in range(10, MOST_KEPT + 10)]


def test_long_expressions_are_not_kept(tmp_path):
    cache = {}
    with Store.open(tmp_path / "run.db") as store:
        KeptMemo(cache, store, "w")["key" + LONG] = torch.tensor(1.0)
        assert store.statistics("w") == {}
    assert len(cache) == 1
