"""tests/programs: each is traced in the real sandbox, and is equal to eager torch or rejected.

The oracle is eager torch on the same task vectors. Updates are compared relative to their size, and
the comparison is shown to refuse cheats. Programs that choose may differ in a few elements.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
from selfdev_engine.engine.errors import Rejected, Rejection
from selfdev_engine.engine.lower import lower
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.plans.answers import answer_question
from selfdev_engine.engine.plans.plan import Eager
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.packing import pack, parse
from selfdev_engine.engine.trace.replay import replay, replay_flat
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph
from selfdev_engine.kernels.tensors import TensorSet

FOLDER = Path(__file__).parents[2] / "programs"
PROGRAMS = sorted(FOLDER.glob("*.py"))
GOOD = [p for p in PROGRAMS if not p.stem.startswith("reject_")]
BAD = [p for p in PROGRAMS if p.stem.startswith("reject_")]
NAMES, SHAPE = ("x", "y", "z"), (24, 40)
HYBRID = {"svd_rank_one", "matmul_gram", "empty_part"}


@pytest.fixture(scope="module")
def tracer():
    torch.set_num_threads(1)
    with Tracer(TraceSettings(timeout_s=10.0, memory_bytes=128 << 20)) as tracer:
        yield tracer


def tensors_of(shape, seed=0) -> TensorSet:
    draw = torch.Generator().manual_seed(seed)
    common = torch.randn(shape, generator=draw)
    sigmas = (5e-4, 2e-3, 1e-3)
    experts = {
        n: s * (0.6 * common + 0.8 * torch.randn(shape, generator=draw))
        for n, s in zip(NAMES, sigmas, strict=True)
    }
    return TensorSet("t", torch.zeros(shape), experts)


def eager(code: str, tensors: TensorSet, dtype=torch.float32) -> torch.Tensor:
    module = types.ModuleType("oracle")
    sys.modules["oracle"] = module
    exec(compile(code, "<oracle>", "exec"), scope := module.__dict__)
    given = {n: t.to(dtype, copy=True) for n, t in tensors.experts.items()}
    return scope["merge_models"](given, torch.device("cpu"))


def traced(tracer, path: Path, tensors: TensorSet):
    def by_torch(question):
        given = {n: t.reshape(question.shape) for n, t in tensors.experts.items()}
        return replay_flat(question, given)

    def answer(question):
        return answer_question(question, tensors, get_backend("cpu"), {}, by_torch)

    shape = tuple(tensors.base.shape)
    program = extract(path.read_text())
    return program, tracer.trace(program, NAMES, shape, seed=0, tensor_name="t", answer=answer)


def wrong_share(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The share of elements off by more than 1e-4 of their size plus the root mean square."""
    wanted = wanted.double()
    room = 1e-4 * (wanted.abs() + wanted.square().mean().sqrt())
    return float(((found.double() - wanted).abs() > room).double().mean())


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_equal_to_eager(tracer, path):
    tensors = tensors_of(SHAPE)
    program, result = traced(tracer, path, tensors)
    assert not isinstance(result, Rejection), result
    wanted = eager(program.code, tensors)
    (replayed,) = replay(result.graph, dict(tensors.experts))
    assert wrong_share(replayed, wanted) == 0
    again, needed = parse(pack(result.graph)), result.graph.needed(result.graph.outputs)
    assert [again.nodes[i] for i in needed] == [result.graph.nodes[i] for i in needed]
    assert (again.shape, again.outputs) == (result.graph.shape, result.graph.outputs)
    if path.stem in HYBRID:
        with pytest.raises(NotFusable):
            lower(result.graph)
        return
    plan = compile_graph(canonical(lower(result.graph)))
    found = get_backend("cpu").update(plan, tensors)
    assert wrong_share(found, wanted) <= 2 / found.numel()
    for cheat in (torch.zeros_like(wanted), 0.9 * wanted):
        assert wrong_share(cheat, wanted) > 0.01


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_rejected_by_kind_and_the_next_one_is_right(tracer, path):
    kind = path.read_text().split("\n")[0].split()[-1]
    tensors = tensors_of(SHAPE)
    try:
        _, result = traced(tracer, path, tensors)
    except Rejected as error:
        result = error.rejection
    assert isinstance(result, Rejection), result
    assert result.kind == kind, result
    assert result.detail
    assert not Path("/tmp/selfdev_attack").exists()
    program, after = traced(tracer, FOLDER / "weighted_list.py", tensors)
    assert not isinstance(after, Rejection)
    (found,) = replay(after.graph, dict(tensors.experts))
    assert torch.equal(found, eager(program.code, tensors))


def test_a_program_for_vectors_is_read_flat(tracer, tmp_path):
    (tmp_path / "p.py").write_text(
        "import torch\ndef merge_models(d, device):\n    a, b, c = d.values()\n"
        "    return a * torch.dot(a, b) / torch.dot(b, b)\n"
    )
    tensors = tensors_of(SHAPE)
    _, result = traced(tracer, tmp_path / "p.py", tensors)
    assert not isinstance(result, Rejection), result
    assert result.view == "flat"
    a, b = (tensors.experts[n].flatten() for n in "xy")
    flat = {n: t.flatten() for n, t in tensors.experts.items()}
    (found,) = replay(result.graph, flat)
    assert wrong_share(found, a * torch.dot(a, b) / torch.dot(b, b)) == 0


def test_the_eager_tier_runs_real_tensors_in_the_sandbox(tracer, run_in_cell):
    code = (
        "import torch\ndef merge_models(d, device):\n    a, b, c = d.values()\n"
        "    return torch.tensor(sorted(a.flatten().tolist())).reshape(a.shape) + 0.5 * b\n"
    )
    tensors = tensors_of((80, 90))
    found = run_in_cell(tracer, Eager(extract(code), 0, ""), tensors)
    assert not isinstance(found, Rejection), found
    assert torch.equal(found, eager(code, tensors))


def test_a_line_is_a_line_of_the_text(tracer):
    text = "Some prose.\n\n```python\nimport torch\ndef merge_models(d, device):\n    return nobody\n```\n"
    result = tracer.trace(extract(text), NAMES, SHAPE, seed=0, tensor_name="t", answer=None)
    assert isinstance(result, Rejection)
    assert (result.kind, result.line) == ("runtime", 6)


@pytest.mark.parametrize("shape", [(3, 3), (1, 17), (17, 1), (50,)])
def test_ambiguous_shapes_are_never_guessed(tracer, shape):
    """On 3 x 3 tensors of three experts, rows and columns a program is right, or not fused."""
    for name in ("sign_majority", "norm_shares", "median_experts", "fold_max", "softmax_l1"):
        tensors = tensors_of(shape)
        program, result = traced(tracer, FOLDER / f"{name}.py", tensors)
        assert not isinstance(result, Rejection), result
        try:
            plan = compile_graph(canonical(lower(result.graph)))
        except NotFusable:
            continue
        found = get_backend("cpu").update(plan, tensors)
        assert wrong_share(found, eager(program.code, tensors)) == 0
