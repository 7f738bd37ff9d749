"""Kernels compiled ahead for a worker on a GPU: which, and that a launch would find them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.plans.plan import Computed, Fused, Plan
from selfdev_engine.engine.screening.compile_ahead import Ahead
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.kernels.compiler.passes import canonical
from selfdev_engine.kernels.ir import Builder, Op, Space
from selfdev_engine.kernels.triton import compile_ahead as kernels_ahead

# What a launch does before it runs: the same source, types and options, looked up in Triton's cache.
LOOK_UP = """
import pickle, sys, triton
from selfdev_engine.kernels.triton.compile_ahead import compile_ahead, compile_finish
missed = []
def listen(src, metadata, metadata_group, times, cache_hit):
    if not cache_hit:
        missed.append(src.name)
triton.knobs.compilation.listener = listen
for kernel in pickle.load(open(sys.argv[1], "rb")):
    compile_ahead(kernel, 90)
    if kernel.kind == "total":
        compile_finish(kernel, 90)
assert not missed, missed
"""

DRIVER = """
import time
from selfdev_engine.engine.screening.compile_ahead import Ahead
from selfdev_engine.engine.plans.plan import Fused, Plan
from selfdev_engine.kernels.ir import Builder
if __name__ == "__main__":
    b = Builder()
    one = Fused(b.graph(b.input("a")))
    Ahead(("bf16", "fp16"), arch=90).submit(Plan({"t": one}, ""))
    print("submitted", flush=True)
    time.sleep(600)
"""


def plan(*names: str, scale: float = 0.3, weighted: bool = True) -> Plan:
    """Each tensor: a scale times the first, plus the others, each times its own sum."""
    b = Builder()
    total = b.add(Op.MUL, b.input(names[0]), b.const(scale))
    for name in names[1:]:
        x = b.input(name)
        size = b.add(Op.REDUCE_SUM, x, space=Space.SCALAR) if weighted else b.const(0.5)
        total = b.add(Op.ADD, total, b.add(Op.MUL, x, size))
    one = Fused(canonical(b.graph(total)))
    return Plan({"t": one, "u": one, "v": Computed("", "eager", "", "")}, str(names))


class Pool(kernels_ahead.AheadCompiler):
    """The real one; its answers can be waited for."""

    asked: list[tuple[str, str]]
    kernels: list[kernels_ahead.Kernel]
    waiting: list[Future[None]]

    def submit(self, plan, dtype="bf16"):
        found = list(kernels_ahead.kernels_of(plan, dtype))
        self.kernels.extend(found)
        self.asked.extend((kernel.kind, dtype) for kernel in found)
        self.waiting.extend(super().submit(plan, dtype))
        return []


class Nowhere(Pool):
    """Compiles nothing."""

    def __init__(self, arch, **words):
        assert arch == 90

    def submit(self, plan, dtype="bf16"):
        self.asked.extend((k.kind, dtype) for k in kernels_ahead.kernels_of(plan, dtype))
        return []

    def close(self):
        self.asked.append(("close", ""))


@pytest.fixture
def replaced(monkeypatch):
    """replaced(Pool): what stands in for AheadCompiler, with empty lists."""

    def replace(kind):
        kind.asked, kind.kernels, kind.waiting = [], [], []
        monkeypatch.setattr(kernels_ahead, "AheadCompiler", kind)
        return kind

    return replace


def test_nothing_is_compiled_without_a_gpu(replaced):
    pool, ahead = replaced(Nowhere), Ahead(("bf16",))
    ahead.submit(plan("a", "b"))
    ahead.close()
    assert pool.asked == []


def test_each_structure_is_compiled_once(replaced):
    pool, ahead = replaced(Nowhere), Ahead(("bf16",), arch=90)
    for scale in (0.3, 0.4):
        ahead.submit(plan("a", "b", scale=scale, weighted=False))
    assert pool.asked == [("apply", "bf16")]
    ahead.close()
    ahead.close()
    assert pool.asked[1:] == [("close", "")]


def test_statistics_that_are_remembered_need_no_kernel(replaced):
    pool, ahead = replaced(Nowhere), Ahead(("fp32",), arch=90)
    for names in ("ab", "ab", "ab", "abc"):
        ahead.submit(plan(*names))
    both = [("total", "fp32"), ("apply", "fp32")]
    assert pool.asked == [*both, *both]  # ab once; of abc the sum of c


def test_formats_are_those_of_whole_tensors(tmp_path):
    models = make_models(tmp_path / "a", Size(), torch.bfloat16, experts=1)
    other = make_models(tmp_path / "b", Size(), torch.float32, experts=1)
    for expert, formats in ((models, ("bf16",)), (other, ())):
        bank = Bank.open(str(models.base), {"a": str(expert.experts["a"])}, "mlp")
        assert Ahead.of(bank).formats == formats


def test_a_launch_would_find_what_was_submitted(replaced, tmp_path, monkeypatch):
    import pickle

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("SELFDEV_CACHE", str(tmp_path / "selfdev"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    pool, ahead = replaced(Pool), Ahead(("bf16",), arch=90)
    ahead.submit(plan("a", "b"))
    ahead.submit(plan("b", "c", "a"))
    for done in pool.waiting:
        done.result()
    ahead.close()
    kept = {path.stem for path in Path(tmp_path / "triton").rglob("*.cubin")}
    assert kept == {"apply", "total", "finish"}
    (tmp_path / "kernels").write_bytes(pickle.dumps(pool.kernels))
    command = [sys.executable, "-P", "-c", LOOK_UP, str(tmp_path / "kernels")]
    subprocess.run(command, check=True, env=dict(os.environ), timeout=120)


def test_nothing_is_left_of_a_driver_that_is_killed(tmp_path):
    """Also while the processes that compile are still starting."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "SELFDEV_CACHE": str(tmp_path)}
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, "-P", str(script)], env=environment, stdout=subprocess.PIPE
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"submitted\n"
    started = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    assert len(started) >= 2
    driver.kill()
    driver.wait()
    driver.stdout.close()
    end = time.monotonic() + 60
    while (left := [pid for pid in started if is_alive(pid)]) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left


def is_alive(pid: str) -> bool:
    """A process that nobody has waited for yet has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_pool_that_dies_costs_nothing(replaced, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    class Broken(Nowhere):
        def submit(self, plan, dtype="bf16"):
            raise BrokenProcessPool

    replaced(Broken)
    ahead = Ahead(("bf16",), arch=90)
    ahead.submit(plan("a", "b"))
    ahead.close()
