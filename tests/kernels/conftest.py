"""What the kernel tests share: tensors with guards, random graphs, and a comparison that can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from selfdev_engine.kernels.tensors import TensorSet

BASE_SIGMA, UPDATE_SIGMA = 0.02, 5e-4
NAMES = ("a", "b", "c")


@pytest.fixture(scope="session")
def make_tensors() -> Callable[..., TensorSet]:
    """make_tensors((37, 53), dtypes=[bf16, f16, f32, bf16], seed=0): base, then a, b, c."""

    def make(shape, dtypes=(torch.bfloat16,) * 4, seed=0) -> TensorSet:
        draw = torch.Generator().manual_seed(seed)
        base = BASE_SIGMA * torch.randn(shape, generator=draw)
        common = torch.randn(shape, generator=draw)
        experts = {}
        for name, dtype in zip(NAMES, dtypes[1:], strict=True):
            own = torch.randn(shape, generator=draw)
            experts[name] = (base + UPDATE_SIGMA * (0.6 * common + 0.8 * own)).to(dtype)
        return TensorSet("t", base.to(dtypes[0]), experts)

    return make


@pytest.fixture(scope="session")
def poisoned() -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """An output of NaN like the tensor, and the memory around it, whose guards must stay NaN."""

    def make(like: torch.Tensor, guard: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
        whole = torch.full((like.numel() + 2 * guard,), torch.nan, dtype=like.dtype)
        return whole[guard:-guard].view(like.shape), whole

    return make


@pytest.fixture(scope="session")
def update_error() -> Callable[[torch.Tensor, torch.Tensor], float]:
    """||found - wanted|| / ||wanted||, of updates, never of weights."""

    def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
        wanted = wanted.double()
        scale = wanted.norm().item() or 1.0
        return (found.double() - wanted).norm().item() / scale

    return error
