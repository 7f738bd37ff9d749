"""Settings, examples and the training step that the models of the zoos share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Cache, LlamaForCausalLM, MistralForCausalLM, PreTrainedTokenizerBase

    Model = LlamaForCausalLM | MistralForCausalLM

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<s>", "</s>")

IGNORED = -100


@dataclass(frozen=True)
class ZooSettings:
    """Steps, rates and sizes. The defaults make the zoo of `make demo`."""

    seed: int = 0
    goal: float = 0.45  # share of right answers at which the base begins to stop
    max_base_steps: int = 700
    decay_steps: int = 30
    base_batch: int = 63
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    expert_steps: int = 200
    expert_rate: float = 2e-3
    expert_batch: int = 64
    # An expert trains at points from this part of its task vector up to the whole.
    least_part: float = 0.15
    # Share of the expert's own skill in its examples; the rest keeps the other skills alive.
    own_share: float = 0.96
    generator_steps: int = 300
    generator_batch: int = 32
    generator_rate: float = 3e-3
    num_programs: int = 20_000
    writer_steps: int = 60
    writer_batch: int = 8
    writer_rate: float = 1e-4
    # The range of a zoo: one that leaves it is made again from other random numbers, `attempts` times in
    # all. Base on the mixed task; what an expert gains on its skill; what the best of a few linear merges
    # gains on the mixed task over base and experts, and how good it is at most.
    attempts: int = 5
    base_range: tuple[float, float] = (0.35, 0.55)
    least_skill: float = 0.05
    least_gain: float = 0.02
    most_merged: float = 0.8


def stream_of(seed: int, attempt: int = 0) -> int:
    """The seed of all random numbers of an attempt at the zoo of a seed. No two share one."""
    return 1000 * seed + 10 * attempt


@dataclass(frozen=True)
class Examples:
    """Padded token ids [N, T] of question + answer, and labels [N, T] of the answer alone.

    `prefix` [P] holds token ids that stand before every row; they are computed once for all rows.
    """

    ids: Tensor
    labels: Tensor
    prefix: Tensor | None = None

    def batch(self, count: int, draw: torch.Generator) -> Examples:
        rows = torch.randint(len(self.ids), (count,), generator=draw)
        return Examples(self.ids[rows], self.labels[rows])

    @staticmethod
    def join(parts: Sequence[Examples]) -> Examples:
        ids = torch.cat([p.ids for p in parts])
        longest = int((ids != PAD).sum(1).max())
        labels = torch.cat([p.labels for p in parts])
        return Examples(ids[:, :longest], labels[:, :longest])


def loss_of(model: Model, examples: Examples) -> Tensor:
    """Mean cross-entropy over the labelled tokens."""
    wanted = examples.labels[:, 1:]
    keep = wanted != IGNORED
    past = None if examples.prefix is None else after(model, examples.prefix, len(examples.ids))
    output = model.model(input_ids=examples.ids, past_key_values=past, use_cache=past is not None)
    hidden = output.last_hidden_state[:, :-1][keep]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), wanted[keep])


def after(model: Model, prefix: Tensor, count: int) -> Cache:
    """Keys and values of the prefix for a batch of `count` rows. Gradients flow through them."""
    past = model.model(input_ids=prefix[None], use_cache=True).past_key_values
    past.batch_repeat_interleave(count)
    return past


def step(
    model: Model,
    optimizers: Sequence[torch.optim.Optimizer],
    rates: Sequence[float],
    examples: Examples,
) -> None:
    """One step of each optimizer at its learning rate; the gradient's norm is clipped to 1."""
    for optimizer, rate in zip(optimizers, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
    loss_of(model, examples).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    for optimizer in optimizers:
        optimizer.step()


def save(model: Model, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tell(done: int, total: int) -> None:
    """Print the line from which the driver reads the progress of a part."""
    print(f"step {done} {total}", flush=True)
