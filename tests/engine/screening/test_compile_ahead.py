"""Kernels compiled ahead for a worker on a GPU: which, and that a launch would find them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path

import pytest
import torch
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.plans.plan import Computed, Fused, Plan, compiled
from selfdev_engine.engine.screening.compile_ahead import Ahead
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph
from selfdev_engine.kernels.ir import Builder, Op, Space
from selfdev_engine.kernels.stages import KernelPlan
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

# Merges plans of this file by Triton's interpreter; its launches leave their sources in the cache.
MERGE = """
import runpy, sys
import torch
from selfdev_engine.engine.plans.plan import compiled
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.kernels.triton.backend import TritonBackend
file, base, a, b = sys.argv[1:]
plan, bank = runpy.run_path(file)["plan"], Bank.open(base, {"a": a, "b": b}, "mlp")
tensors = bank.tensors(bank.selection.names[0])
for names in ("ab", "ba", "a"):
    out = torch.empty_like(tensors.base)
    assert TritonBackend().merge(compiled(plan(*names).tensors["t"].graph), tensors, out)
"""

DRIVER = """
import time
from selfdev_engine.engine.screening.compile_ahead import Ahead
from selfdev_engine.engine.plans.plan import Fused, Plan
from selfdev_engine.kernels.ir import Builder
if __name__ == "__main__":
    b = Builder()
    one = Fused(b.graph(b.input("a")))
    Ahead((("bf16", ()), ("fp16", ())), arch=90).submit(Plan({"t": one}, ""))
    print("submitted", flush=True)
    time.sleep(600)
"""


BF16 = (("bf16", ()),)


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

    def submit(self, plan, formats):
        found = list(kernels_ahead.kernels_of(plan, formats))
        self.kernels.extend(found)
        self.asked.extend((kernel.kind, formats.base) for kernel in found)
        self.waiting.extend(super().submit(plan, formats))
        return []


class Nowhere(Pool):
    """Compiles nothing."""

    def __init__(self, arch, **words):
        assert arch == 90

    def submit(self, plan, formats):
        found = list(kernels_ahead.kernels_of(plan, formats))
        self.asked.extend((k.kind, formats.base) for k in found)
        self.kernels.extend(found)
        return []

    def close(self):
        self.asked.append(("close", ""))


class Inline:
    """Takes what it is to compile, and compiles nothing."""

    def submit(self, *what):
        return what


@pytest.fixture
def replaced(monkeypatch):
    """replaced(Pool): what stands in for AheadCompiler, with empty lists."""

    def replace(kind):
        kind.asked, kind.kernels, kind.waiting = [], [], []
        monkeypatch.setattr(kernels_ahead, "AheadCompiler", kind)
        return kind

    return replace


def test_nothing_is_compiled_without_a_gpu(replaced):
    pool, ahead = replaced(Nowhere), Ahead(BF16)
    ahead.submit(plan("a", "b"))
    ahead.close()
    assert pool.asked == []


def test_each_structure_is_compiled_once(replaced):
    pool, ahead = replaced(Nowhere), Ahead(BF16, arch=90)
    for scale in (0.3, 0.4):
        ahead.submit(plan("a", "b", scale=scale, weighted=False))
    assert pool.asked == [("apply", "bf16")]
    ahead.close()
    ahead.close()
    assert pool.asked[1:] == [("close", "")]


def test_statistics_that_are_remembered_need_no_kernel(replaced):
    pool, ahead = replaced(Nowhere), Ahead((("fp32", ()),), arch=90)
    for names in ("ab", "ab", "ab", "abc"):
        ahead.submit(plan(*names))
    both = [("total", "fp32"), ("apply", "fp32")]
    assert pool.asked == [*both, *both]  # ab once; of abc the sum of c


def test_each_combination_of_dtypes_has_kernels(tmp_path):
    bank = mixed_bank(tmp_path)
    assert Ahead.of(bank).combinations == (("bf16", (("b", "fp32"),)),)
    alike = Bank.open(
        str(bank.selection.base.folder), {"a": str(bank.selection.experts["a"].folder)}, "mlp"
    )
    assert Ahead.of(alike).combinations == BF16


def mixed_bank(folder: Path) -> Bank:
    """A base and an expert in bfloat16, and an expert in float32."""
    models = make_models(folder / "a", Size(), torch.bfloat16, experts=1)
    other = make_models(folder / "b", Size(), torch.float32, experts=1)
    experts = {"a": str(models.experts["a"]), "b": str(other.experts["a"])}
    return Bank.open(str(models.base), experts, "mlp")


def test_a_launch_of_mixed_dtypes_takes_the_sources_that_were_compiled(replaced, tmp_path):
    """By the interpreter, in a process of its own, as Triton decides at its import whether it interprets."""
    bank, pool = mixed_bank(tmp_path), replaced(Nowhere)
    ahead = Ahead.of(bank)
    ahead.arch = 90
    for names in ("ab", "ba", "a"):
        ahead.submit(plan(*names))
    environment = {**os.environ, "SELFDEV_CACHE": str(tmp_path), "TRITON_INTERPRET": "1"}
    folders = [str(m.folder) for m in bank.selection.models]
    command = [sys.executable, "-P", "-c", MERGE, __file__, *folders]
    subprocess.run(command, check=True, env=environment, timeout=300)
    launched = {file.read_text() for file in (tmp_path / "triton").glob("*.py")}
    assert launched and launched <= {kernel.source for kernel in pool.kernels}


def test_kernels_that_read_nothing_of_another_dtype_are_compiled_once(monkeypatch):
    compiler = kernels_ahead.AheadCompiler(90)
    monkeypatch.setattr(compiler, "_pool", Inline())
    asked = kernels_ahead.Formats(), kernels_ahead.Formats("bf16", (("b", "fp32"),))
    only, both = (compiled(plan(*n, weighted=False).tensors["t"].graph) for n in ("a", "ab"))
    assert [len(compiler.submit(only, formats)) for formats in asked] == [1, 0]
    assert [len(compiler.submit(both, formats)) for formats in asked] == [1, 1]


def test_a_launch_would_find_what_was_submitted(replaced, tmp_path, monkeypatch):
    import pickle

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("SELFDEV_CACHE", str(tmp_path / "selfdev"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    pool, ahead = replaced(Pool), Ahead(BF16, arch=90)
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
    assert not left_alive(started, seconds=60)


def left_alive(pids: list[str], seconds: float) -> list[str]:
    """Return those that still run after so many seconds, or nothing as soon as all have ended."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def is_alive(pid: str) -> bool:
    """A process that nobody has waited for yet has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_pool_that_dies_costs_nothing(replaced, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    class Broken(Nowhere):
        def submit(self, plan, formats):
            raise BrokenProcessPool

    replaced(Broken)
    ahead = Ahead(BF16, arch=90)
    ahead.submit(plan("a", "b"))
    ahead.close()


def long_plan(length: int) -> KernelPlan:
    """So many error functions, one after the other: more than a planned kernel may have."""
    b = Builder()
    x = b.input("a")
    for _ in range(length):
        x = b.add(Op.ERF, x)
    return compile_graph(b.graph(x))


def test_the_end_waits_for_no_compilation(tmp_path, monkeypatch):
    """3,000 error functions compile for hours. A process that has them ends with what it started."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    compiler = kernels_ahead.AheadCompiler(90)
    (future,) = compiler.submit(long_plan(3000))
    while not future.running():
        time.sleep(0.05)
    (process,) = compiler._pool._processes.values()
    compiler.close()
    # The pool's own thread waits for the process as well: whoever of two comes second is told nothing.
    assert not left_alive([str(process.pid)], seconds=20)


def test_a_kernel_that_compiles_for_too_long_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    compiler = kernels_ahead.AheadCompiler(90, num_processes=1)
    hopeless = compiler._pool.submit(kernels_ahead.limit_compilation, 0.0)
    spinning = compiler._pool.submit(sum, range(10**11))
    assert hopeless.result(60) is None
    with pytest.raises(BrokenExecutor):
        spinning.result(60)
    (again,) = compiler.submit(long_plan(1))
    assert again.result(120) is None
    compiler.close()
