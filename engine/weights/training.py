"""Plans what a stage of training takes of a card, or of the host where there is none. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from .config_keys import LAYERS, WIDTHS
from .shapes import ModelShapes, adapter_elements

# Where activations of all blocks take more than this, those of one block are kept and others computed anew.
MOST_ACTIVATIONS_BYTES = 2 << 30
# Assumed: what a process of training takes beside its model.
PROCESS_BYTES = 2 << 30
Terms = dict[str, int]


@dataclass(frozen=True)
class Training:
    """One stage of DPO: adapters of this rank, in batches of so many pairs of so many tokens."""

    rank: int
    batch_size: int
    tokens: int  # tokens of a prompt and a program
    stages: int

    def ranks(self, num_gpus: int) -> int:
        """Return how many cards share a batch."""
        return ranks_of(self.batch_size, num_gpus)


def ranks_of(batch_size: int, num_cards: int) -> int:
    """Return the number of processes: the most, up to one a card, that share a batch evenly."""
    return max(n for n in range(1, max(1, num_cards) + 1) if batch_size % n == 0)


def card_terms(model: ModelShapes, training: Training, num_gpus: int) -> Terms:
    """Return what a stage takes of a card, with weights in the model's dtype.

    LoRA in float32, with a copy as the reference and one of the best step so far; gradients, of which several
    ranks have another copy in buckets to be averaged (`gradient_as_bucket_view` is off); Adam's two moments;
    activations of one block at a time, since those of the others are computed anew. TRL computes log-probabilities
    in tiles; logits of one program are there when the margin is measured.
    """
    ranks = training.ranks(num_gpus)
    tokens = 2 * training.batch_size // ranks * training.tokens
    return {
        "weights": model.size_bytes,
        **adapter_terms(model, training.rank, 2 if ranks > 1 else 1),
        "activations": one_block_bytes(model, tokens, 2),
        "logits": logits_bytes(model, training.tokens),
    }


def host_terms(model: ModelShapes, training: Training) -> Terms:
    """Return what a stage takes of the host: all in float32. Activations are those that are kept there."""
    tokens = 2 * training.batch_size * training.tokens
    kept = one_block_bytes if recomputes(model, tokens) else all_blocks_bytes
    return {
        "weights": 4 * model.num_elements,
        **adapter_terms(model, training.rank, 1),
        "activations": kept(model, tokens, 4),
        "logits": logits_bytes(model, training.tokens),
        "reserve": PROCESS_BYTES,
    }


def adapter_terms(model: ModelShapes, rank: int, gradients: int) -> Terms:
    size_bytes = 4 * adapter_elements(model, rank)
    return {
        "adapter": 3 * size_bytes,
        "gradients": gradients * size_bytes,
        "optimizer": 2 * size_bytes,
    }


def recomputes(model: ModelShapes, tokens: int) -> bool:
    """Tell whether a stage without a card computes activations anew, as one with a card always does.

    Gradients are the same. It takes a third more time, which small models need not spend.
    """
    return all_blocks_bytes(model, tokens, 4) > MOST_ACTIVATIONS_BYTES


def all_blocks_bytes(model: ModelShapes, tokens: int, itemsize: int) -> int:
    """Return the bytes of what the backward pass needs of every block."""
    return (model.number(*LAYERS) or 32) * tokens * itemsize * block_width(model)


def one_block_bytes(model: ModelShapes, tokens: int, itemsize: int) -> int:
    """Return the bytes of every block's input, and of what the backward pass needs of one block."""
    inputs = (model.number(*LAYERS) or 32) * widths(model)[0]
    return tokens * itemsize * (inputs + block_width(model))


def block_width(model: ModelShapes) -> int:
    """Return how many numbers of a token a block keeps for the backward pass."""
    hidden, widest = widths(model)
    return 8 * hidden + 4 * widest


def logits_bytes(model: ModelShapes, tokens: int) -> int:
    return 3 * 4 * tokens * (model.number("vocab_size") or 0)


def widths(model: ModelShapes) -> tuple[int, int]:
    """Return the widths of a block's state and of its MLP; those of a 7B model where they are not known."""
    hidden = model.number(*WIDTHS) or 4096
    return hidden, model.number("intermediate_size", "n_inner") or 4 * hidden
