"""Generated Triton kernels: values in the interpreter, machine code by ahead-of-time compilation.

Triton decides at its first import whether it interprets, so each half is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from selfdev_engine.kernels.ir import ELEMENTWISE, LEAVES
from selfdev_engine.kernels.triton.forms import FORMS

CHECKS = Path(__file__).with_name("triton_checks.py")

CODE = """
from selfdev_engine.kernels.ir import Builder, Op, Space
from selfdev_engine.kernels.compiler.passes import compile_graph, compile_values
from selfdev_engine.kernels.triton.compile_ahead import kernels_of
from selfdev_engine.kernels.triton.kernel_report import report
b = Builder()
x, y, z = (b.input(n) for n in "abc")
keep = b.add(Op.WHERE, b.add(Op.LT, b.const(3e-4), b.add(Op.ABS, z)), z, b.const(0.0))
plain = compile_graph(b.graph(b.add(Op.ADD, b.add(Op.MUL, x, b.const(0.3)), b.add(Op.MAX, y, keep))))
sums = [b.add(Op.REDUCE_SUM, b.add(Op.MUL, u, v), space=Space.SCALAR) for u in (x, y, z) for v in (x, y, z)]
sums += [b.add(Op.REDUCE_SUM, b.add(Op.ABS, u), space=Space.SCALAR) for u in (x, y, z)]
rank = b.add(Op.KTH, b.add(Op.ABS, x), attrs=(9,), space=Space.SCALAR)
rows = b.add(Op.REDUCE_SUM, b.add(Op.MUL, x, x), space=Space.ROW)
columns = b.add(Op.REDUCE_MAX, x, space=Space.COL)
scaled = compile_graph(b.graph(b.add(Op.MUL, b.add(Op.MUL, x, rows), columns)))
draw = b.add(Op.RANDOM, attrs=("uniform", 7, 0), space=Space.FULL)
drop = compile_graph(b.graph(b.add(Op.MUL, x, b.add(Op.LT, draw, b.const(0.5)))))
few = {"apply": 2, "total": 4, "rows": 2, "columns": 2, "below": 2, "collect": 2}  # reads of 16 bytes, at least
seen = set()
for plan in (plain, compile_values(b.graph(*sums, rank)), scaled, drop):
    for kernel in kernels_of(plan):
        seen.add(kernel.kind)
        for arch in ARCHS:
            fast, slow = report(kernel, arch), report(kernel, arch, whole=False)
            what = kernel.kind, arch, fast.registers, fast.wide_accesses, fast.narrow_accesses, fast.spill_bytes
            print(*what, f"{fast.seconds:.2f} s")
            assert fast.narrow_accesses == fast.spill_bytes == slow.spill_bytes == 0, what
            assert fast.wide_accesses >= few[kernel.kind], what
            assert fast.registers <= 96, what
            assert slow.narrow_accesses > 0, what
            if kernel.kind == "apply":
                assert "fma" not in fast.ptx, what
(kernel,) = kernels_of(plain)
assert report(kernel).wide_accesses == 10  # 4 reads and 1 write of 2 x 8 elements a thread
assert seen == set(few), seen
"""


def run(command: list[str], **environment: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment
    subprocess.run([sys.executable, "-P", *command], check=True, env=env, timeout=900)


def test_every_elementwise_op_has_a_form():
    assert set(FORMS) == ELEMENTWISE
    assert not set(FORMS) & LEAVES


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="a GPU is there: the gpu suite runs them on it"
)
def test_values_in_the_interpreter(tmp_path):
    run(["-m", "pytest", "-q", str(CHECKS)], SELFDEV_CACHE=str(tmp_path), TRITON_INTERPRET="1")


@pytest.mark.gpu
def test_values_on_the_gpu(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine: nothing was tested on a GPU")
    run(["-m", "pytest", "-q", str(CHECKS)], SELFDEV_CACHE=str(tmp_path))


DIGEST = """
from selfdev_engine.kernels.triton.compile_ahead import compile_digest
from selfdev_engine.kernels.triton.kernel_report import report_of
for arch in (80, 90, 100):
    found = report_of("digest", compile_digest(arch), 0.0)
    what = arch, found.registers, found.wide_accesses, found.narrow_accesses, found.spill_bytes
    print(*what)
    assert found.spill_bytes == found.narrow_accesses == 0, what
    assert found.wide_accesses == 8, what  # of 8 rows, one in each turn of the loop
    assert found.registers <= 64, what
"""


def test_code_of_the_digest(tmp_path):
    run(["-c", DIGEST], SELFDEV_CACHE=str(tmp_path))


def test_code_for_sm_90(tmp_path):
    run(["-c", f"ARCHS = (90,){CODE}"], SELFDEV_CACHE=str(tmp_path))


@pytest.mark.slow
def test_code_for_other_architectures(tmp_path):
    run(["-c", f"ARCHS = (80, 100){CODE}"], SELFDEV_CACHE=str(tmp_path))
