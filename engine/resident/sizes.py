"""Sizes of an engine, from a model's config and headers alone."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint

DTYPES: dict[torch.dtype, Any] = {
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float32: "float32",
}
MOST_KV_BYTES = 512 << 20  # unless told otherwise
MAX_MODEL_LEN = 4096
BLOCK_SIZE = 32


def base_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The dtype of most of a checkpoint's elements. UsageError where no engine runs it."""
    sizes: dict[torch.dtype, int] = {}
    for entry in checkpoint.entries.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.size_bytes
    dtype = max(sizes, key=sizes.__getitem__)
    if dtype not in DTYPES:
        raise UsageError(f"{checkpoint.folder}: weights of {dtype} cannot be run")
    return dtype


def context_of(checkpoint: Checkpoint) -> int:
    """Tokens of prompt and answer together."""
    longest = int(checkpoint.config.get("max_position_embeddings", MAX_MODEL_LEN))
    return min(longest, MAX_MODEL_LEN)


def cache_bytes(
    checkpoint: Checkpoint, dtype: torch.dtype, max_num_seqs: int, most_bytes: int | None
) -> int:
    """Of keys and values: for full contexts of all sequences, where that is less than the most.

    No more than can be used: vLLM's reset, after each swap, walks every block of it. UsageError
    where the most is too little for one full context.
    """
    most = MOST_KV_BYTES if most_bytes is None else most_bytes
    config = checkpoint.config
    try:
        heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
        size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
        token_bytes = 2 * int(config["num_hidden_layers"]) * heads * size * dtype.itemsize
    except (KeyError, TypeError):  # a config of parts
        return most
    sequence = -(-context_of(checkpoint) // BLOCK_SIZE)  # blocks; vLLM keeps one more empty
    least = (sequence + 1) * BLOCK_SIZE * token_bytes
    if most_bytes is not None and most_bytes < least:
        raise UsageError(
            f"--memory: {most_bytes / 2**20:.1f} MiB of it are for the engine's key-value cache; one "
            f"sequence of {context_of(checkpoint)} tokens takes {least / 2**20:.1f} MiB: allow more"
        )
    return min(most, (max_num_seqs * sequence + 1) * BLOCK_SIZE * token_bytes)


def prompt_limit(context: int, max_new_tokens: int) -> int:
    """Tokens of a prompt that are kept, its last ones, as lm-evaluation-harness cuts; at least half."""
    return max(context - max_new_tokens, context // 2, 1)
