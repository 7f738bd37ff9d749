"""The interface of a live model that answers prompts.

vLLM in this process is one, plain transformers the other: slow, and the definition of what vLLM
must answer. Weights are changed by whoever holds the placement, only while no request is alive, and
`reset()` follows before the next one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch

from ..weights.checkpoint import Checkpoint
from .messages import Completion, Feed, Progress, Sampling
from .parts import Parts
from .placement import Placement


class LiveEngine(ABC):
    """One live model.

    `name` says what answers, with its version; `decoding` says how it is asked. `advice` ends messages
    about a model that cannot be used: it says what else to try.
    """

    name: str
    decoding: str
    advice = ""

    @abstractmethod
    def placement(self, parts: Parts) -> Placement:
        """Return where the checkpoint's tensors live. Raises Unplaceable."""

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None,
        done: Progress,
        feed: Feed | None = None,
    ) -> list[Completion | None]:
        """Answer the prompts, then those that `feed` added; answers come in this order.

        None stands for an answer that was dropped. `done` is told how many prompts are answered.
        """

    def wrote(self, live: torch.Tensor) -> None:
        """Forget what was made of a live parameter, since it was written."""
        return None

    @abstractmethod
    def reset(self) -> None:
        """Forget all that older weights computed."""


def metas(
    checkpoint: Checkpoint, names: Iterable[str], dtype: torch.dtype
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return (shape, dtype) of each of these tensors by name, as `record` wants it."""
    return {name: (checkpoint.shape(name), dtype) for name in names}
