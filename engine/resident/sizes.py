"""Computes an engine's sizes from a model's config and headers alone. Nothing here loads torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from ..errors import UsageError
from ..weights.cache import BLOCK_TOKENS
from ..weights.capacity import CPU_CACHE_BYTES
from ..weights.checkpoint import Checkpoint
from ..weights.config_keys import HEADS, LAYERS, WIDTHS
from ..weights.headers import ITEMSIZE_BYTES, shown

EngineDtype = Literal["bfloat16", "float16", "float32"]
# Tokens of prompt and answer, where settings do not bound them.
MAX_MODEL_LEN = 4096
Config = Mapping[str, Any]

# Names that configs have for the number of tokens that a model reads. The least counts, as in vLLM.
LENGTHS = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "seq_len"),
    *("max_sequence_length", "max_seq_length", "max_target_positions", "model_max_length"),
    *("context_length", "max_context_length"),
)
# Kinds of scaled positions whose config states the scaled length already.
SCALED_ALREADY = ("default", "yarn", "deepseek_yarn", "llama3", "longrope", "su", "proportional")
# Where a model of several kinds of input has its language model.
INNER = ("text_config", "llm_config", "language_config")


def base_dtype(checkpoint: Checkpoint) -> EngineDtype:
    """Return the dtype of most of a checkpoint's bytes. UsageError where no engine runs it."""
    dtype = checkpoint.main_dtype
    for known in get_args(EngineDtype):
        if dtype == known:
            return known
    raise UsageError(
        f"{checkpoint.folder}: weights of {dtype} cannot be run; convert them: "
        "from_pretrained(DIR, dtype=torch.float32).save_pretrained(NEW)"
    )


def context_of(
    checkpoint: Checkpoint, max_model_len: int | None = None, config: Config | None = None
) -> int:
    """Return how many tokens prompt and answer may have together.

    `config` is one in which the defaults of the kind of model are filled in; without it config.json
    decides. UsageError where `max_model_len` is more than the model reads, or the config gives a length
    that is no number.
    """
    found = dict(lengths_of(checkpoint, config or checkpoint.config))
    if not found:
        return max_model_len or MAX_MODEL_LEN
    key = min(found, key=found.__getitem__)
    if max_model_len is not None and max_model_len > found[key]:
        raise UsageError(
            f"engine.max_model_len: {max_model_len} tokens; {checkpoint.folder} reads {found[key]} "
            f"({key} in its config.json)"
        )
    return min(found[key], max_model_len or MAX_MODEL_LEN)


def lengths_of(checkpoint: Checkpoint, config: Config) -> Iterator[tuple[str, int]]:
    """Yield each key that bounds the context, with its tokens; scaled positions reach further."""
    for one in (config, *(config[key] for key in INNER if isinstance(config.get(key), Mapping))):
        scale = position_scale(one)
        for key in LENGTHS:
            value = one.get(key)
            if value is None:
                continue
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 1 <= value < math.inf
            ):
                path = checkpoint.folder / "config.json"
                raise UsageError(f"{path}: {key} is {shown(repr(value))}, not a number of tokens")
            yield key, int(value * scale)


def position_scale(config: Config) -> float:
    """Return the factor by which positions reach further than the length that the config states."""
    if "gemma3" in str(config.get("model_type")):
        return 1.0
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return 1.0
    layers = [rope] if not any(isinstance(v, Mapping) for v in rope.values()) else rope.values()
    factors = [
        one["factor"]
        for one in layers
        if isinstance(one, Mapping)
        and one.get("rope_type", one.get("type", "default")) not in SCALED_ALREADY
        and type(one.get("factor")) in (int, float)
    ]
    return min((f for f in factors if 1 <= f < math.inf), default=1.0)


def cache_bytes(
    checkpoint: Checkpoint, context: int, max_num_seqs: int, most_bytes: int | None
) -> int:
    """Return the bytes of the key-value cache: full contexts of all sequences, where memory allows.

    It is no larger than can be used, since vLLM's reset after each swap walks every block of it.
    `most_bytes` is its bound; None: that of a machine without a GPU, since with one there is a plan
    (engine/weights/capacity.py). UsageError where that is too little for one full context.
    """
    most = CPU_CACHE_BYTES if most_bytes is None else most_bytes
    if (token_bytes := bytes_per_token(checkpoint)) is None:
        return most
    # Blocks of one full context; vLLM keeps one more block empty.
    sequence = -(-context // BLOCK_TOKENS)
    least = (sequence + 1) * BLOCK_TOKENS * token_bytes
    if most_bytes is not None and most_bytes < least:
        raise UsageError(
            f"--memory: {most_bytes / 2**20:.1f} MiB of it are for the engine's key-value cache; one "
            f"sequence of {context} tokens takes {least / 2**20:.1f} MiB: allow more"
        )
    return min(most, (max_num_seqs * sequence + 1) * BLOCK_TOKENS * token_bytes)


def bytes_per_token(checkpoint: Checkpoint) -> int | None:
    """Return the bytes of keys and values of one token.

    None where the config does not say its heads and layers in the usual fields.
    """
    config = checkpoint.config
    try:
        heads = first_of(config, HEADS)
        size = int(config.get("head_dim") or first_of(config, WIDTHS) // heads)
        heads = int(config.get("num_key_value_heads") or heads)
        itemsize_bytes = ITEMSIZE_BYTES[base_dtype(checkpoint)]
        return 2 * first_of(config, LAYERS) * heads * size * itemsize_bytes
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def first_of(config: Config, keys: tuple[str, ...]) -> int:
    """Return the value of the first key that is there. KeyError where none is."""
    return int(next((config[key] for key in keys if config.get(key)), None) or config[keys[0]])


def prompt_limit(context: int, max_new_tokens: int) -> int:
    """Return how many tokens of a prompt are kept, its last ones; at least half of the context.

    lm-evaluation-harness cuts prompts in the same way.
    """
    return max(context - max_new_tokens, context // 2, 1)
