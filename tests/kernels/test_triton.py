"""Generated Triton kernels: values in the interpreter, machine code by ahead-of-time compilation.

Triton decides at its first import whether it interprets, so each half is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from selfdev_engine.kernels.ir import ELEMENTWISE, LEAVES
from selfdev_engine.kernels.triton.codegen import FORMS

VALUES = """
import sys, torch
from selfdev_engine.kernels.backend import TensorSet, get_backend
from selfdev_engine.kernels.ir import Builder, Op, Space
from selfdev_engine.kernels.passes import compile_graph
b = Builder()
x, y, z = (b.input(n) for n in "abc")
top = b.add(Op.REDUCE_MAX, b.add(Op.ABS, y), space=Space.ROW)
keep = b.add(Op.WHERE, b.add(Op.LT, b.const(3e-4), b.add(Op.ABS, z)), z, b.const(0.0))
mean = b.add(Op.REDUCE_SUM, x, space=Space.COL)
half = b.add(Op.IN_RANGE, attrs=(0, 700, 1), space=Space.FULL)
draw = b.add(Op.MUL, b.add(Op.RANDOM, attrs=("uniform", 77, 0), space=Space.FULL), b.const(1e-4))
total = b.add(Op.ADD, b.add(Op.MUL, y, top), b.add(Op.DIV, keep, b.const(3.0)))
total = b.add(Op.ADD, b.add(Op.MUL, total, half), b.add(Op.MAX, b.add(Op.MUL, mean, x), draw))
plan = compile_graph(b.graph(total))
triton, reference = get_backend("triton"), get_backend("reference")
for dtypes in ([torch.bfloat16] * 4, [torch.float32] * 4, [torch.float16, torch.float32] * 2):
    for shape in ((1, 9), (37, 53), (8, 600)):
        draw = torch.Generator().manual_seed(1)
        base = 0.02 * torch.randn(shape, generator=draw)
        experts = {n: (base + 5e-4 * torch.randn(shape, generator=draw)).to(d) for n, d in zip("abc", dtypes[1:])}
        tensors = TensorSet("t", base.to(dtypes[0]), experts)
        wanted, found = reference.update(plan, tensors), triton.update(plan, tensors)
        error = (found - wanted).norm() / wanted.norm()
        assert error < 1e-5, (shape, dtypes, error)
        assert ((0.9 * wanted - wanted).norm() / wanted.norm()) > 1e-2
        out = torch.full_like(tensors.base, torch.nan)
        assert triton.merge(plan, tensors, out)
        exact = (tensors.base.double() + wanted.double()).to(out.dtype)
        kind = torch.int32 if out.dtype is torch.float32 else torch.int16
        off = (out.view(kind).long() - exact.view(kind).long()).abs()
        assert out.dtype is torch.float32 or off.max() <= 1, off.max()
bad = compile_graph(b.graph(b.add(Op.DIV, x, b.add(Op.SUB, x, x))))
assert not triton.merge(bad, tensors, out)
"""
CODE = """
from selfdev_engine.kernels.ir import Builder, Op
from selfdev_engine.kernels.passes import compile_graph
from selfdev_engine.kernels.triton.ahead import compile_ahead
b = Builder()
x, y, z = (b.input(n) for n in "abc")
keep = b.add(Op.WHERE, b.add(Op.LT, b.const(3e-4), b.add(Op.ABS, z)), z, b.const(0.0))
plan = compile_graph(b.graph(b.add(Op.ADD, b.add(Op.MUL, x, b.const(0.3)), b.add(Op.MAX, y, keep))))
for arch in ARCHS:
    report = compile_ahead(plan, arch)
    assert report.wide_accesses == 5, report  # 4 reads and 1 write of 16 bytes
    assert report.narrow_accesses == report.spill_bytes == 0, report
    assert report.registers <= 64, report
    tail = compile_ahead(plan, arch, vector=False)
    assert tail.wide_accesses == 0 < tail.narrow_accesses, tail
    assert "fma" not in report.ptx
"""


def run(code: str, **environment: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=env, timeout=300)


def test_every_elementwise_op_has_a_form():
    assert set(FORMS) == ELEMENTWISE
    assert not set(FORMS) & LEAVES


def test_values_are_the_references(tmp_path):
    run(VALUES, SELFDEV_CACHE=str(tmp_path))


def test_code_for_sm_90(tmp_path):
    run(f"ARCHS = (90,){CODE}", SELFDEV_CACHE=str(tmp_path))


@pytest.mark.slow
def test_code_for_other_architectures(tmp_path):
    run(f"ARCHS = (80, 100){CODE}", SELFDEV_CACHE=str(tmp_path))
