"""A live model that answers prompts: vLLM in this process, or plain transformers as its definition.

Both have the same methods: `placement()`, `generate(...)`, `reset()`. Weights are changed by whoever
holds the placement, only while no request is alive, and `reset()` follows before the next one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from ..weights.checkpoint import Checkpoint
from .messages import Completion, Feed, Progress, Sampling
from .placement import Placement


class LiveEngine(ABC):
    """One live model. `name`: what answers, with its version."""

    name: str

    @abstractmethod
    def placement(self) -> Placement:
        """Where the checkpoint's tensors live."""

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None,
        done: Progress,
        feed: Feed | None = None,
    ) -> list[Completion | None]:
        """Answers in the order of the prompts, then of those that `feed` added; None: dropped."""

    def wrote(self, live: torch.Tensor) -> None:
        """A live parameter was written: forget what was made of it."""
        return None

    @abstractmethod
    def reset(self) -> None:
        """Forget all that older weights computed."""


def metas(
    checkpoint: Checkpoint, dtype: torch.dtype
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (checkpoint.shape(name), dtype) for name in checkpoint.names}
