"""Placement is recorded from a loader's own copies; a loader that computes or forgets is refused."""

from __future__ import annotations

import pytest
import torch
from selfdev_engine.engine.resident.placement import Unplaceable, record
from torch import nn

SHAPES = {"q": (4, 6), "k": (2, 6), "gate": (5, 6), "up": (5, 6), "norm": (6,)}
METAS = {name: (shape, torch.float32) for name, shape in SHAPES.items()}


class Fused(nn.Module):
    """Loads as vLLM's models do: q and k into one parameter, gate and up into another."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.qk = nn.Parameter(torch.full((6, 6), torch.nan), requires_grad=False)
        self.gate_up = nn.Parameter(torch.full((10, 6), torch.nan), requires_grad=False)
        self.norm = nn.Parameter(torch.full((6,), torch.nan), requires_grad=False)

    def load_weights(self, weights) -> None:
        rows = {
            "q": (self.qk, 0),
            "k": (self.qk, 4),
            "gate": (self.gate_up, 0),
            "up": (self.gate_up, 5),
        }
        for name, tensor in weights:
            if name == "norm":
                self.norm.data.copy_(1 + tensor if self.fault == "computed" else tensor)
            elif not (name == "up" and self.fault == "forgotten"):
                whole, start = rows[name]
                start -= name == "k" and self.fault == "overlap"
                if name == "gate" and self.fault == "twice":
                    self.gate_up.data[:6].copy_(torch.cat([tensor, tensor[:1]]))
                part = whole.data.narrow(0, start, tensor.shape[0])
                part.copy_(tensor.t().contiguous().t() if name == "q" else tensor)


def checkpoint() -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


def test_recording_moves_nothing_and_writing_equals_loading():
    model, oracle, tensors = Fused(), Fused(), checkpoint()
    before = {n: p.data_ptr() for n, p in model.named_parameters()}
    placement = record(model, METAS)
    assert all(p.isnan().all() for p in model.parameters())
    for name, tensor in tensors.items():
        placement.write(name, tensor)
    oracle.load_weights(tensors.items())
    for (name, mine), theirs in zip(model.named_parameters(), oracle.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
        assert mine.data_ptr() == before[name]
    for name, tensor in tensors.items():
        assert torch.equal(placement.read(name, SHAPES[name], torch.float32), tensor)


def test_a_write_touches_only_its_own_part():
    model = Fused()
    placement = record(model, METAS)
    placement.write("k", torch.ones(2, 6))
    assert model.qk[:4].isnan().all() and (model.qk[4:] == 1).all()
    assert model.gate_up.isnan().all() and model.norm.isnan().all()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("computed", "norm: a computed tensor is copied into norm"),
        ("forgotten", "gate_up: 30 elements not loaded"),
        ("twice", "gate: a computed tensor"),
        ("overlap", "qk: 6 elements not loaded, 6 more than once"),
    ],
)
def test_a_loader_that_cannot_be_replayed_is_refused(fault, message):
    with pytest.raises(Unplaceable, match=message):
        record(Fused(fault), METAS)
