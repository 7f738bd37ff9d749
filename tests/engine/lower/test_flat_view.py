"""The flat view: a program that works on vectors only is given a matrix as one.

Its places count along the vector, 0 to R * C - 1, while kernels see the matrix [R, C].
"""

from __future__ import annotations

import pytest
import torch
from selfdev_engine.engine.lower import lower
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.replay import replay
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph

FUSED = """
torch.softmax(x * 10, 0)
x / x.max(0).values
x / x.abs().sum(0)
x / x.abs().sum(0, keepdim=True)
x / x.norm(dim=0)
x / x.std(0)
x + x.kthvalue(17).values
x * (x.abs() >= x.abs().topk(50).values[-1])
x + torch.quantile(x, 0.3)
x + x.median(0).values
x + x[5:500].sum()
x + x[0]
x + x[-1]
x + x[700]
x + x[::2].sum()
torch.cat([x[:100] * 2, x[100:]])
(lambda z: (z[10:600].mul_(3), z)[1])(x.clone())
(lambda z: (z[50].mul_(3), z)[1])(x.clone())
x + (torch.arange(len(x)) > 500)
x * torch.linspace(0, 1, len(x))
x + (torch.arange(len(x)).float() * x).mean()
torch.stack([x, y]).max(0).values
(torch.softmax(torch.stack([x, y]), 0) * torch.stack([x, y])).sum(0)
x + torch.ones(len(x))
(x[None, :] * y[None, :]).sum(0)
(x[:, None] * y[:, None]).sum(1)
x + x[None, :].amax(1)
x[None, :].amax(0) + y
x * x[500].item()
x * x[100:200].sum().item()
x * sum(x[37:45].tolist())
x + x.abs().argmax().item()
x * x.abs().kthvalue(900).values.item()
x * (x * torch.arange(len(x))).sum().item()
x * torch.arange(len(x), dtype=torch.float64).log1p().float()
x * (torch.arange(len(x)) % 7)
torch.stack([x, y])[(x > 0).long(), torch.arange(len(x))]
(x * (torch.arange(len(x)) >= 481)).std() * y
torch.where(torch.arange(len(x)) < 481, x, y)
(lambda z: (z[1:].sub_(x[0]), z)[1])(x.clone())
"""
HYBRID = """
x + x.view(24, 40).mean()
x.cumsum(0)
x.flip(0)
(x.view(24, 40) - x.view(24, 40).mean(1, keepdim=True)).flatten()
(x.view(24, 40) - x.view(24, 40).mean(0)).flatten()
(x.view(40, 24) - x.view(40, 24).mean(0)).flatten()
"""
FORMS = {
    **dict.fromkeys(FUSED.strip().splitlines(), "fused"),
    **dict.fromkeys(HYBRID.strip().splitlines(), "hybrid"),
}
PROGRAM = """import torch
def merge_models(model_dict, device):
    x, y, _ = model_dict.values()
    return x.dot(y) * 0 + ({}).float()
"""


@pytest.mark.parametrize("shape", [(24, 40), (4, 6, 40), (960, 1), (1, 960), (960,)], ids=str)
def test_places_are_those_of_the_vector(judge, shape):
    """All forms are tried on a matrix, and a few on each other shape, which costs less."""
    tensors = judge.tensors(shape)
    vectors = {name: t.flatten() for name, t in tensors.experts.items()}
    x, y, _ = vectors.values()
    for form in FORMS if shape == (24, 40) else list(FORMS)[10::4]:
        trace = judge.trace(PROGRAM.format(form), tensors)
        assert trace.view == ("own" if len(shape) == 1 else "flat"), form
        wanted = eval(form, {"torch": torch, "x": x, "y": y}).float()
        try:
            plan = compile_graph(canonical(lower(trace.graph)))
        except NotFusable:
            assert FORMS[form] == "hybrid", form
            (found,) = replay(trace.graph, vectors)
            assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5), form
            continue
        assert FORMS[form] == "fused", form
        for backend in ("cpu", "reference"):
            found = get_backend(backend).update(plan, tensors).flatten()
            assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5), (form, backend)


def test_places_beyond_what_float32_counts_are_left_to_torch(judge):
    """No tensor is made: the bounds of the places decide."""
    for code, fits in (("x * (torch.arange(len(x)) > 500)", False), ("x + x[-1]", True)):
        trace = judge.tracer.trace(
            extract(PROGRAM.format(code)), ("a", "b", "c"), (4096, 14336), seed=0,
            tensor_name="t", answer=None,
        )  # fmt: skip
        if fits:
            lower(trace.graph)
        else:
            with pytest.raises(NotFusable, match="beyond what float32 counts"):
                lower(trace.graph)
