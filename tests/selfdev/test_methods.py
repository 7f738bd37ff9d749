"""Tests of the built-in methods, which are traced like any candidate.

They are compared with the formulas of their papers in float64, which are written here in another
way (by sorting and explicit masks). Random methods are tested by their shares, norms and means.
"""

from __future__ import annotations

import math

import pytest
import torch
from selfdev_engine.engine.errors import Rejection, UsageError
from selfdev_engine.engine.lower import lower
from selfdev_engine.engine.lower.value import NotFusable
from selfdev_engine.engine.plans.answers import answer_question
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.replay import replay
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.kernels.backends import get_backend
from selfdev_engine.kernels.compiler.passes import canonical, compile_graph
from selfdev_engine.kernels.tensors import TensorSet
from selfdev_engine.selfdev.methods import RAW_WEIGHTS, load_method, method_names

SHAPE, WEIGHTS = (48, 80), (0.5, 0.3, 0.9)
WORDS = ",".join(map(str, WEIGHTS))


def tensors(count: int = 3) -> TensorSet:
    draw = torch.Generator().manual_seed(5)
    common = torch.randn(SHAPE, generator=draw)
    vectors = {
        f"m{i}": 1e-3 * (i + 1) * (common + torch.randn(SHAPE, generator=draw))
        for i in range(count)
    }
    return TensorSet("t", torch.zeros(SHAPE), vectors)


def no_torch(question):
    raise AssertionError(f"a method asked what no kernel answers: {question.nodes[-1].op}")


@pytest.fixture(scope="module")
def update():
    """Function update(method, count, seed, **params) -> (float32 update, tier)."""
    with Tracer(TraceSettings(timeout_s=10.0)) as tracer:

        def run(method, count=3, seed=0, **params):
            given = tensors(count)
            cpu = get_backend("cpu")
            result = tracer.trace(
                extract(load_method(method), params), tuple(given.experts), SHAPE, seed=seed,
                tensor_name="t", answer=lambda q: answer_question(q, given, cpu, {}, no_torch),
            )  # fmt: skip
            assert not isinstance(result, Rejection), result
            try:
                plan = compile_graph(canonical(lower(result.graph)))
            except NotFusable:
                return replay(result.graph, dict(given.experts))[0], "hybrid"
            return cpu.update(plan, given), "fused"

        yield run


def vectors(count: int = 3) -> list[torch.Tensor]:
    return [v.double() for v in tensors(count).experts.values()]


def elected(parts: list[torch.Tensor], weights=None) -> torch.Tensor:
    """Sum of the entries whose sign is the sum's; divided by their weights where these are given."""
    stacked = torch.stack(parts)
    sign = torch.where(stacked.sum(0) >= 0, 1.0, -1.0)
    mask = (torch.sign(stacked) == sign).double()
    total = (stacked * mask).sum(0)
    if weights is None:
        return total
    below = (mask * torch.tensor(weights).double()[:, None, None]).sum(0)
    return total / below.masked_fill(below == 0, 1.0)


def largest(vector: torch.Tensor, count: int) -> torch.Tensor:
    """Only the `count` entries of largest magnitude."""
    kept = torch.zeros_like(vector).flatten()
    order = vector.abs().flatten().argsort(descending=True)[:count]
    kept[order] = vector.flatten()[order]
    return kept.reshape(vector.shape)


def crumbs(vector: torch.Tensor, density: float, gamma: float) -> torch.Tensor:
    top = int(gamma * vector.numel())
    both = largest(vector, top + int(density * vector.numel()))
    return both - largest(vector, top)


def weighted(parts):
    return [w * p for w, p in zip(WEIGHTS, parts, strict=True)]


def stock() -> torch.Tensor:
    v = vectors()
    pairs = [(0, 1), (0, 2), (1, 2)]
    cos = sum(float((v[i] * v[j]).sum() / v[i].norm() / v[j].norm()) for i, j in pairs) / 3
    return 3 * cos / (1 + 2 * cos) * sum(v) / 3


def arc(way: float) -> torch.Tensor:
    a, b = vectors(2)
    angle = math.acos(float((a * b).sum() / a.norm() / b.norm()))
    return (math.sin((1 - way) * angle) * a + math.sin(way * angle) * b) / math.sin(angle)


def sce(share: float) -> torch.Tensor:
    v = torch.stack(vectors())
    spread = v.var(0, unbiased=True)
    mask = largest(spread, int(share * spread.numel())) > 0 if share < 1 else 1.0
    v = v * mask
    energy = v.square().mean((1, 2))
    shares = (energy / energy.sum()).tolist()
    sign = torch.where(v.sum(0) >= 0, 1.0, -1.0)
    agree = (torch.sign(v) == sign).double()
    weight = torch.tensor(shares).double()[:, None, None]
    below = (weight * agree).sum(0)
    return (weight * agree * v).sum(0) / below.masked_fill(below == 0, 1.0)


N = SHAPE[0] * SHAPE[1]
EXACT = {
    "task_arithmetic": ({"weights": WORDS, "scale": 0.7}, lambda: 0.7 * sum(weighted(vectors()))),
    "linear": ({"weights": WORDS}, lambda: sum(weighted(vectors())) / sum(WEIGHTS)),
    "ties": (
        {"weights": WORDS, "density": 0.3},
        lambda: elected(weighted(largest(v, round(0.3 * N)) for v in vectors()), WEIGHTS),
    ),
    "breadcrumbs": (
        {"weights": WORDS, "density": 0.8, "gamma": 0.02},
        lambda: sum(weighted(crumbs(v, 0.8, 0.02) for v in vectors())),
    ),
    "breadcrumbs_ties": (
        {"weights": WORDS, "density": 0.8, "gamma": 0.02},
        lambda: elected(weighted(crumbs(v, 0.8, 0.02) for v in vectors())),
    ),
    "sce": ({"select_topk": 0.4}, lambda: sce(0.4)),
    "model_stock": ({}, stock),
}  # fmt: skip


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("method", EXACT)
def test_a_method_is_its_formula(update, method):
    params, formula = EXACT[method]
    found, tier = update(method, **params)
    wanted = formula()
    assert tier == "fused"
    assert error(found, wanted) < 1e-5
    for cheat in (torch.zeros_like(found), 0.99 * found, tensors().experts["m0"]):
        assert error(cheat, wanted) > 1e-3


def test_sce_without_selection(update):
    assert error(update("sce")[0], sce(1.0)) < 1e-5


@pytest.mark.parametrize(("weights", "way"), [("", 0.5), ("1,3", 0.75)])
def test_nuslerp_goes_along_the_arc(update, weights, way):
    assert error(update("nuslerp", 2, weights=weights)[0], arc(way)) < 1e-5


def test_nuslerp_takes_two(update):
    with pytest.raises(AssertionError, match="merges two experts, not 3"):
        update("nuslerp", 3)


@pytest.mark.parametrize("method", ["dare_linear", "della_linear"])
def test_random_drops_keep_their_share_and_their_mean(update, method):
    """With one expert: the share that is kept, its scale, and that seeds differ."""
    (vector,) = vectors(1)
    draws = [update(method, 1, seed, density=0.4)[0].double() for seed in range(24)]
    share = torch.stack([(d != 0).double().mean() for d in draws])
    assert abs(float(share.mean()) - 0.4) < 4 * math.sqrt(0.24 / N / 24)
    assert len({float(d.sum()) for d in draws}) == len(draws)
    mean = torch.stack(draws).mean(0)
    along = float((mean * vector).sum() / vector.square().sum())
    if method == "dare_linear":
        assert abs(along - 1.0) < 0.02
        kept = draws[0] != 0
        assert error(draws[0][kept], vector[kept] / 0.4) < 1e-6
    else:
        assert float(draws[0].abs().sum() / vector.abs().sum()) == pytest.approx(1.0, abs=1e-4)
        often = torch.stack([d != 0 for d in draws]).double().mean(0)
        order = vector.abs().argsort(1)
        small, large = often.gather(1, order).chunk(2, 1)
        assert float(large.mean() - small.mean()) == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize(
    ("method", "linear"), [("dare_ties", "dare_linear"), ("della", "della_linear")]
)
def test_election_of_what_was_drawn(update, method, linear):
    """With one expert there is nothing to elect; with three, no entry opposes the sum's sign."""
    one = update(method, 1, 7, density=0.4)[0]
    assert error(one, update(linear, 1, 7, density=0.4)[0].double()) < 1e-5
    three, sums = update(method, 3, 7, density=0.4)[0], update(linear, 3, 7, density=0.4)[0]
    opposed = (torch.sign(three) * torch.sign(sums) < 0).double().mean()
    assert float(opposed) == 0.0
    assert error(three, sums.double()) > 0.1


def test_every_method_has_a_test_and_its_tier():
    tested = {*EXACT, "nuslerp", "dare_linear", "dare_ties", "della", "della_linear"}
    assert set(method_names()) == tested


@pytest.mark.parametrize("name", RAW_WEIGHTS)
def test_methods_on_raw_weights_are_refused_with_the_reason(name):
    with pytest.raises(UsageError, match=f"{name}: is not offered here: it "):
        load_method(name)
