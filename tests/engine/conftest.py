"""One judge for programs: traced in the real sandbox, run by the kernels, against eager torch.

A program is right if its update is eager float64's within 1e-5 of the update's size, or within four
times eager float32's own error where that is more. Where the update jumps when its inputs are shaken
a little the program selects, and may flip a few elements. Cheats must not pass the same comparison.
"""

from __future__ import annotations

import io
import os
import random
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from selfdev_engine.engine.errors import Rejected, Rejection
from selfdev_engine.engine.lower import lower
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.plans.answers import answer_question
from selfdev_engine.engine.plans.cells import LEAST_BYTES, Cells, TensorCell, parts_in_memory
from selfdev_engine.engine.plans.plan import Eager, Hybrid
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.conversation import Trace
from selfdev_engine.engine.trace.graph import TraceGraph
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph
from selfdev_engine.kernels.tensors import TensorSet
from torch.overrides import TorchFunctionMode

NAMES = ("osprey", "kestrel", "merlin")
TOLERANCE, MOST_FLIPS, SHAKE, JUMP = 1e-5, 1e-3, 3e-4, 0.05
CHEATS = {"zeros": 0.0, "nine tenths": 0.9, "negated": -1.0}


@dataclass(frozen=True)
class Verdict:
    """What became of a program. `eager_error` is set where eager torch itself cannot run it."""

    tier: str  # fused, hybrid, eager or rejected
    reason: str = ""
    faults: str = ""  # how the update differs from eager's
    eager_error: str = ""
    cheats: tuple[str, ...] = ()  # that the comparison would have believed


class DrawsInFloat32(TorchFunctionMode):
    """Seeded draws are those of float32, also where the default dtype is float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (torch.rand, torch.randn):
            return func(*args, **(kwargs or {}))
        drawn = func(*args, **{"dtype": torch.float32} | (kwargs or {}))
        return drawn.to(torch.get_default_dtype())


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def eager(
    code: str, vectors: dict[str, torch.Tensor], dtype: torch.dtype, seed: int = 0
) -> torch.Tensor:
    """The program run by torch itself, in this process (only programs of this repository)."""
    for set_seed in (torch.manual_seed, random.seed, np.random.seed):
        set_seed(seed)
    module = types.ModuleType("oracle")
    sys.modules["oracle"] = module
    given = {n: t.to(dtype, copy=True) for n, t in vectors.items()}
    with default_dtype(dtype), DrawsInFloat32(), redirect_stdout(io.StringIO()):
        exec(compile(code, "<oracle>", "exec"), module.__dict__)
        return module.__dict__["merge_models"](given, torch.device("cpu")).detach().to(dtype)


def tensors_of(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> TensorSet:
    """Related task vectors of unequal size, as fine-tunes of one base have them."""
    draw = torch.Generator().manual_seed(seed)
    common = torch.randn(shape, generator=draw)
    experts = {
        n: scale * s * (0.6 * common + 0.8 * torch.randn(shape, generator=draw))
        for n, s in zip(NAMES, (5e-4, 2e-3, 1e-3), strict=True)
    }
    return TensorSet("t", torch.zeros(shape), experts)


def rms(x: torch.Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def jumped(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Where x is far from y: not by rounding, but because something was selected otherwise."""
    return (x.double() - y.double()).abs() > JUMP * (y.double().abs() + rms(y))


def widened(code: str, vectors: dict[str, torch.Tensor]) -> torch.Tensor:
    """In float64; in float32 where only the program's own casts refuse that (x.float() beside x)."""
    try:
        return eager(code, vectors, torch.float64)
    except RuntimeError as error:
        if "dtype" not in str(error):
            raise
        return eager(code, vectors, torch.float32).double()


class Reference:
    """What eager torch makes of a program, and how near to it is near enough."""

    def __init__(self, code: str, vectors: dict[str, torch.Tensor]) -> None:
        single = eager(code, vectors, torch.float32)
        self.exact = widened(code, vectors)
        draw = torch.Generator().manual_seed(1)
        shaken = {
            n: t.double() * (1 + SHAKE * torch.randn(t.shape, generator=draw, dtype=torch.float64))
            for n, t in vectors.items()
        }
        moved = jumped(widened(code, shaken), self.exact).any()
        flips, error = self.distance(single)
        self.tolerance = max(TOLERANCE, 4 * error)
        selects = bool(moved) or flips > 0
        self.allowed = max(MOST_FLIPS, 2 / self.exact.numel(), 4 * flips) if selects else 0.0

    def distance(self, found: torch.Tensor) -> tuple[float, float]:
        """(share of elements that were selected otherwise, error of the rest by the norm)."""
        unlike = found.isfinite() != self.exact.isfinite()
        finite = found.isfinite() & self.exact.isfinite()
        x, y = (torch.where(finite, t.double(), 0.0) for t in (found, self.exact))
        flipped = jumped(x, y)
        size = float(y.norm()) or 1.0
        return float((flipped | unlike).double().mean()), float((x - y)[~flipped].norm()) / size

    def faults(self, found: torch.Tensor) -> str:
        """Why it is not right, or nothing."""
        flips, error = self.distance(found)
        if flips > self.allowed:
            return f"{flips:.2%} of the elements are wrong, allowed {self.allowed:.2%}"
        return f"off by {error:.1e}, allowed {self.tolerance:.1e}" if error > self.tolerance else ""

    def believed(self) -> tuple[str, ...]:
        if not self.exact.any() or not self.exact.isfinite().all():
            return ()
        return tuple(n for n, k in CHEATS.items() if not self.faults(k * self.exact))


@contextmanager
def cell_on(
    tracer: Tracer, tensors: TensorSet, limit_s: float = 30.0, memory_bytes: int = LEAST_BYTES
) -> Iterator[TensorCell]:
    """A locked child that computes on these tensors (zero base), which it knows as `t`."""
    descriptor = os.memfd_create("tensors")
    try:
        cells = Cells.on({"t": parts_in_memory(tensors, descriptor)}, tracer, memory_bytes)
        with cells.open(["t"], limit_s) as cell:
            yield cell
    finally:
        os.close(descriptor)


def in_cell(
    tracer: Tracer, plan: Hybrid | Eager, tensors: TensorSet, limit_s: float = 30.0,
    memory_bytes: int = LEAST_BYTES,
) -> torch.Tensor | Rejection:  # fmt: skip
    """The update that a locked child computes."""
    with cell_on(tracer, tensors, limit_s, memory_bytes) as cell, tempfile.TemporaryFile() as file:
        if why := cell.update("t", plan):
            return why
        cell.copy_update("t", file.fileno(), 0)
        file.seek(0)
        return torch.frombuffer(bytearray(file.read()), dtype=torch.float32).reshape(
            tensors.base.shape
        )


@pytest.fixture(scope="session")
def run_in_cell() -> Any:
    """The function `in_cell`, for tests that cannot import it from here."""
    return in_cell


class Judge:
    """Traces programs in one sandbox and compares them."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer, self.backend = tracer, get_backend("cpu")

    @staticmethod
    def tensors(shape: tuple[int, ...], seed: int = 0) -> TensorSet:
        return tensors_of(shape, seed)

    @staticmethod
    def eager(text: str, tensors: TensorSet, seed: int) -> torch.Tensor:
        return eager(extract(text).code, dict(tensors.experts), torch.float32, seed)

    def trace(self, text: str, tensors: TensorSet) -> Trace | Rejection:
        try:
            program = extract(text)
        except Rejected as error:
            return error.rejection
        shape, cells = tuple(tensors.base.shape), list[TensorCell]()
        with ExitStack() as stack:

            def by_torch(question: TraceGraph) -> list[torch.Tensor]:
                if not cells:
                    cells.append(stack.enter_context(cell_on(self.tracer, tensors)))
                return cells[0].answer("t", question)

            def answer(question: TraceGraph) -> list[torch.Tensor]:
                return answer_question(question, tensors, self.backend, {}, by_torch)

            return self.tracer.trace(program, NAMES, shape, seed=0, tensor_name="t", answer=answer)

    def update(self, text: str, tensors: TensorSet) -> tuple[str, str, torch.Tensor | None]:
        """(tier, reason, update)"""
        traced = self.trace(text, tensors)
        if isinstance(traced, Rejection):
            if traced.kind != "unsupported":
                return "rejected", f"{traced.kind}: {traced.detail}", None
            found = in_cell(self.tracer, Eager(extract(text), 0, ""), tensors)
            if isinstance(found, Rejection):
                return "rejected", f"{found.kind}: {found.detail}", None
            return "eager", traced.detail, found
        try:
            plan = compile_graph(canonical(lower(traced.graph)))
            return "fused", "", self.backend.update(plan, tensors)
        except NotFusable as error:
            found = in_cell(self.tracer, Hybrid(traced.graph, "forced"), tensors)
            if isinstance(found, Rejection):
                return "rejected", f"{found.kind}: {found.detail}", None
            return "hybrid", str(error), found

    def verdict(
        self, text: str, shape: tuple[int, ...] = (24, 40), seed: int = 0, scale: float = 1.0
    ) -> Verdict:
        tensors = tensors_of(shape, seed, scale)
        try:
            reference = Reference(extract(text).code, dict(tensors.experts))
        except Exception as error:
            tier, reason, _ = self.update(text, tensors)
            return Verdict(tier, reason, eager_error=f"{type(error).__name__}: {error}")
        tier, reason, found = self.update(text, tensors)
        if found is None:
            return Verdict(tier, reason)
        return Verdict(tier, reason, reference.faults(found), cheats=reference.believed())


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    torch.set_num_threads(1)
    with Tracer(TraceSettings(timeout_s=5.0, memory_bytes=512 << 20)) as tracer:
        yield Judge(tracer)
