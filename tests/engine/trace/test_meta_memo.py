"""What is kept of shape functions is what they would say again."""

from __future__ import annotations

import pytest
import torch
from cachetools import LRUCache
from selfdev_engine.engine.trace import meta_memo
from selfdev_engine.engine.trace.meta_memo import MAX_ENTRIES, meta_of

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(meta_memo, "_known", LRUCache(MAX_ENTRIES))


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def test_a_shape_function_is_asked_once(monkeypatch):
    asked = []
    ask = meta_memo.meta_run
    monkeypatch.setattr(meta_memo, "meta_run", lambda *a: asked.append(a) or ask(*a))
    for number in (0.5, 0.25, float("nan")):
        assert meta_of(aten.mul.Tensor, [meta(2, 3), number], {}).shape == (2, 3)
    assert len(asked) == 1


def test_zeros_are_kept_apart_by_their_sign_and_nan_is_found_again(monkeypatch):
    asked = []
    ask = meta_memo.meta_run
    monkeypatch.setattr(meta_memo, "meta_run", lambda *a: asked.append(a) or ask(*a))
    for number in (0.0, -0.0, 0j, -0.0j, float("nan"), 0.0, -0.0, float("nan")):
        meta_of(aten.pow.Tensor_Scalar, [meta(2, 3), number], {})
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((aten.mul.Tensor, [meta(3, dtype=torch.int32), 1]), (aten.mul.Tensor, [meta(3, dtype=torch.int32), 1.0])),
        ((aten.mul.Tensor, [meta(3, dtype=torch.bool), 1]), (aten.mul.Tensor, [meta(3, dtype=torch.bool), True])),
        ((aten.mul.Tensor, [meta(3), 1.0]), (aten.mul.Tensor, [meta(3).double(), 1.0])),
        ((aten.clone.default, [meta(2, 3)]), (aten.clone.default, [meta(3, 2).t()])),
        ((aten.view.default, [meta(2, 6), [3, 4]]), (aten.view.default, [meta(2, 6), [4, 3]])),
        ((aten.sum.dim_IntList, [meta(2, 3), [0]]), (aten.sum.dim_IntList, [meta(2, 3), [0], True])),
        ((aten.round.decimals, [meta(3)], {"decimals": 2}), (aten.round.default, [meta(3)])),
    ],
)  # fmt: skip
def test_what_differs_to_torch_is_kept_apart(first, second):
    for overload, args, *kwargs in (first, second, first):
        given = kwargs[0] if kwargs else {}
        kept, fresh = meta_of(overload, args, given), overload(*args, **given)
        assert (kept.shape, kept.stride(), kept.dtype) == (fresh.shape, fresh.stride(), fresh.dtype)


def test_an_argument_that_is_refused_is_refused_after_one_that_is_not():
    pair = [meta(3, 2), meta(4, 2)]
    assert meta_of(aten._cdist_forward.default, [*pair, 2.0, None], {}).shape == (3, 4)
    with pytest.raises(RuntimeError, match="non-negative p"):
        meta_of(aten._cdist_forward.default, [*pair, -2.0, None], {})


def test_it_is_bounded():
    for size in range(MAX_ENTRIES + 5):
        meta_of(aten.neg.default, [meta(size)], {})
    meta_of(aten.cat.default, [[meta(2)] * 17], {})
    assert len(meta_memo._known) == MAX_ENTRIES
