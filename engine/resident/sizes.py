"""Computes an engine's sizes from a model's config and headers alone. Nothing here loads torch."""

from __future__ import annotations

from typing import Literal, get_args

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint
from ..weights.headers import ITEMSIZE_BYTES

EngineDtype = Literal["bfloat16", "float16", "float32"]
# Bytes of a key-value cache, and tokens of prompt and answer, where settings do not bound them.
MOST_KV_BYTES = 512 << 20
MAX_MODEL_LEN = 4096
BLOCK_SIZE = 32  # tokens


def base_dtype(checkpoint: Checkpoint) -> EngineDtype:
    """Return the dtype of most of a checkpoint's bytes. UsageError where no engine runs it."""
    sizes: dict[str, int] = {}
    for entry in checkpoint.entries.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.size_bytes
    dtype = max(sizes, key=sizes.__getitem__)
    for known in get_args(EngineDtype):
        if dtype == known:
            return known
    raise UsageError(f"{checkpoint.folder}: weights of {dtype} cannot be run")


def context_of(checkpoint: Checkpoint, max_model_len: int | None = None) -> int:
    """Return how many tokens prompt and answer may have together.

    UsageError where `max_model_len` is more than the model reads.
    """
    longest = int(checkpoint.config.get("max_position_embeddings", max_model_len or MAX_MODEL_LEN))
    if max_model_len is not None and max_model_len > longest:
        raise UsageError(
            f"engine.max_model_len: {max_model_len} tokens; {checkpoint.folder} reads {longest} "
            "(max_position_embeddings in its config.json)"
        )
    return min(longest, max_model_len or MAX_MODEL_LEN)


def cache_bytes(
    checkpoint: Checkpoint, context: int, max_num_seqs: int, most_bytes: int | None
) -> int:
    """Return the bytes of the key-value cache: full contexts of all sequences, where memory allows.

    It is no larger than can be used, since vLLM's reset after each swap walks every block of it.
    `most_bytes` is its bound; UsageError where that is too little for one full context.
    """
    most = MOST_KV_BYTES if most_bytes is None else most_bytes
    if (token_bytes := bytes_per_token(checkpoint)) is None:
        return most
    # Blocks of one full context; vLLM keeps one more block empty.
    sequence = -(-context // BLOCK_SIZE)
    least = (sequence + 1) * BLOCK_SIZE * token_bytes
    if most_bytes is not None and most_bytes < least:
        raise UsageError(
            f"--memory: {most_bytes / 2**20:.1f} MiB of it are for the engine's key-value cache; one "
            f"sequence of {context} tokens takes {least / 2**20:.1f} MiB: allow more"
        )
    return min(most, (max_num_seqs * sequence + 1) * BLOCK_SIZE * token_bytes)


def bytes_per_token(checkpoint: Checkpoint) -> int | None:
    """Return the bytes of keys and values of one token.

    None where the config does not say its heads and layers in the usual fields.
    """
    config = checkpoint.config
    try:
        heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
        size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
        itemsize_bytes = ITEMSIZE_BYTES[base_dtype(checkpoint)]
        return 2 * int(config["num_hidden_layers"]) * heads * size * itemsize_bytes
    except (KeyError, TypeError):
        return None


def prompt_limit(context: int, max_new_tokens: int) -> int:
    """Return how many tokens of a prompt are kept, its last ones; at least half of the context.

    lm-evaluation-harness cuts prompts in the same way.
    """
    return max(context - max_new_tokens, context // 2, 1)
