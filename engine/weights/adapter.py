"""A LoRA adapter, as peft writes it, and the one way in which it is folded into the weights that it was trained on.

    folded  =  float32(weight) + float32(scaling * B A), rounded once to the weight's dtype

B A is summed in float64. Any order of the sum, so any device, then gives the same float32 but for one element in
some hundred millions: a worker that folds an adapter finds what training wrote. It compares fingerprints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import Checkpoint
from .headers import read_header

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
# peft's words around a module's name.
BEFORE, FIRST, SECOND = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
# So many rows of an update are in float64 at a time.
ROWS = 1024


@dataclass(frozen=True)
class Adapter:
    """The factors of the updates, by peft's names, and what their products are scaled by.

    `modules` has the part of those names that is a module's, by the name of the weight in a checkpoint.
    """

    factors: Checkpoint
    scaling: float
    modules: Mapping[str, str]

    @staticmethod
    def open(folder: Path) -> Adapter:
        """Open what a stage of training wrote. UsageError where the file is cut off."""
        config = json.loads((folder / CONFIG).read_text())
        factors = Checkpoint(folder, read_header(folder / FILE))
        found = [name.removesuffix(FIRST) for name in factors.names if name.endswith(FIRST)]
        modules = {f"{module.removeprefix(BEFORE)}.weight": module for module in found}
        return Adapter(factors, config["lora_alpha"] / config["r"], modules)

    def fold(self, name: str, weight: Tensor) -> Tensor:
        """Return a weight with its update, if it has one; computed where the weight is."""
        if name not in self.modules:
            return weight
        first, second = (
            self.factors.tensor(self.modules[name] + end).to(weight.device)
            for end in (FIRST, SECOND)
        )
        return update_of(first, second, self.scaling).add_(weight).to(weight.dtype)


@torch.no_grad()
def update_of(first: Tensor, second: Tensor, scaling: float) -> Tensor:
    """Return the float32 update of a weight from the factors A [r, C] and B [R, r]."""
    wide, update = first.double(), first.new_empty(len(second), first.shape[1], dtype=torch.float32)
    for start in range(0, len(second), ROWS):
        rows = slice(start, start + ROWS)
        update[rows] = (second[rows].double() @ wide).mul_(scaling)
    return update
