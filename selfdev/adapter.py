"""Folds a float32 adapter into the weights that it was trained on, and says what rounding leaves of it."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer

from ..engine.weights.adapter import update_of
from ..engine.weights.checkpoint import Checkpoint

# TRL's names: the adapter that is trained, and its copy from before.
ADAPTER, REFERENCE = "default", "ref"


def dtype_of(folder: str) -> torch.dtype:
    """The dtype of most of a checkpoint's bytes."""
    return getattr(torch, Checkpoint.open(folder).main_dtype)


@torch.no_grad()
def fold(model: Any, dtype: torch.dtype) -> tuple[Any, float]:
    """The model without its adapters, the trained one added to its weights and rounded once to `dtype`.

    Also returns the share of the update that is left after that: the part of what was added along what
    should have been, 1 for all of it. Adding to bfloat16 loses steps that are small beside a weight.
    """
    kept = wanted = 0.0
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and isinstance(layer, BaseTunerLayer):
            weight: Any = layer.get_base_layer().weight
            before = weight.data.float()
            of_layer: Any = layer
            first, second = (part[ADAPTER].weight for part in (of_layer.lora_A, of_layer.lora_B))
            delta = update_of(first, second, layer.scaling[ADAPTER])
            delta = delta.T if getattr(layer, "fan_in_fan_out", False) else delta
            weight.data = (before + delta).to(dtype)
            kept += float(((weight.data.float() - before) * delta).sum(dtype=torch.float64))
            wanted += float(delta.square().sum(dtype=torch.float64))
    return model.unload().to(dtype), kept / wanted if wanted else 1.0
