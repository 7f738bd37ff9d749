"""Keys of random draws: one trace for all tensors of a shape is as good as a trace for each."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from selfdev_engine.engine.plans.planner import tensor_plan
from selfdev_engine.engine.program import Program
from selfdev_engine.engine.trace.draws import draw_keys, drew_otherwise, next_key, seed_all
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer

DARE = """
import torch
def merge_models(model_dict, device):
    total = 0
    for vector in model_dict.values():
        keep = torch.rand_like(vector) < 0.5
        total = total + vector * keep / 0.5 + 1e-4 * torch.randn(vector.shape)
    return total / 3
"""
HYBRID = """
import torch
def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    return torch.roll(a, 3, 0) + torch.rand_like(b).cumsum(0) * b
"""
SMALL = {
    "torch": "torch.rand(3)[0].item()",
    "python": "__import__('random').random()",
    "numpy": "float(__import__('numpy').random.rand())",
}


@pytest.fixture(scope="module")
def tracer():
    with Tracer(TraceSettings()) as one:
        yield one


def traced(tracer, code, name):
    program = Program(code, code)
    return tracer.trace(program, ("a", "b", "c"), (64, 2000), seed=3, tensor_name=name, answer=None)


@pytest.mark.parametrize(("code", "tier"), [(DARE, "fused"), (HYBRID, "hybrid")])
def test_new_keys_are_those_of_a_trace_of_its_own(tracer, code, tier):
    first, own = (traced(tracer, code, name) for name in ("layers.0.up", "layers.1.up"))
    assert first.draw_keys
    assert own.draw_keys
    keys = dict(zip(first.draw_keys, own.draw_keys, strict=True))
    shared = tensor_plan(first)
    assert shared.tier == tier
    moved, wanted = shared.with_keys(keys), tensor_plan(own)
    assert moved.fingerprint == wanted.fingerprint != shared.fingerprint


@pytest.mark.parametrize("kind", SMALL)
def test_a_number_that_python_saw_belongs_to_its_tensor(tracer, kind):
    code = f"import torch\ndef merge_models(d, device):\n    return d['a'] * {SMALL[kind]}\n"
    first, second = (traced(tracer, code, name) for name in ("layers.0.up", "layers.1.up"))
    assert first.draw_keys is None
    assert first.graph.fingerprint != second.graph.fingerprint
    assert traced(tracer, code, "layers.0.up").graph.fingerprint == first.graph.fingerprint


def test_no_draw_has_no_keys(tracer):
    code = "def merge_models(d, device):\n    return d['a'] + d['b']\n"
    assert traced(tracer, code, "layers.0.up").draw_keys == ()


def test_other_draws_are_noticed():
    def after(action, num_draws=1) -> bool:
        seed_all("0/w")
        next_key(torch.default_generator)
        action()
        return drew_otherwise("0/w", num_draws)

    assert not after(lambda: None)
    assert after(lambda: None, num_draws=2)
    assert after(lambda: torch.rand(1))
    assert after(lambda: torch.manual_seed(1))
    assert after(random.random)
    assert after(np.random.rand)
    seed_all("0/w")
    assert draw_keys("0/w", 2) == [next_key(torch.default_generator) for _ in range(2)]
