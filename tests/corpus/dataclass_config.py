# expect: ok
from dataclasses import dataclass, field
from typing import Dict, List

import torch


@dataclass
class MergeConfig:
    alphas: List[float] = field(default_factory=lambda: [0.4, 0.35, 0.25])
    clip: float = 3.0


class Merger:
    def __init__(self, config: MergeConfig):
        self.config = config

    def clip(self, t: torch.Tensor) -> torch.Tensor:
        limit = self.config.clip * t.std()
        return torch.clamp(t, -limit, limit)

    def __call__(self, vectors: Dict[str, torch.Tensor]) -> torch.Tensor:
        clipped = [self.clip(v) for v in vectors.values()]
        return sum(a * v for a, v in zip(self.config.alphas, clipped))


def merge_models(model_dict, device):
    return Merger(MergeConfig())({k: v.to(device) for k, v in model_dict.items()})
