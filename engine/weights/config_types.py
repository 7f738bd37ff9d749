"""Tells which settings in config.json have a type that loaders refuse, or would misread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .headers import shown

Config = Mapping[str, Any]
# Most of what a config holds has a type by its key alone, in every family. null means: not set.
NUMBERS = """
    rms_norm_eps layer_norm_eps layer_norm_epsilon layernorm_epsilon norm_epsilon norm_eps rope_theta
    initializer_range attention_dropout hidden_dropout resid_pdrop embd_pdrop attn_pdrop
    partial_rotary_factor rotary_pct rotary_emb_base final_logit_softcapping attn_logit_softcapping
    query_pre_attn_scalar embedding_multiplier residual_multiplier attention_multiplier logits_scaling
""".split()
COUNTS = """
    max_position_embeddings n_positions n_ctx max_seq_len seq_length head_dim sliding_window
    max_window_layers first_k_dense_replace num_local_experts num_experts_per_tok
""".split()
FLAGS = (
    "tie_word_embeddings use_cache use_sliding_window mlp_bias attention_bias is_encoder_decoder"
)
FLAGS = FLAGS.split()
TOKENS = "bos_token_id eos_token_id pad_token_id decoder_start_token_id".split()
NAMES = "hidden_act hidden_activation activation_function torch_dtype dtype".split()
# What these families need, because nothing stands in for it.
NEEDED = "intermediate_size rms_norm_eps max_position_embeddings vocab_size hidden_size".split()
ROTATIONS = ("rope_parameters", "rope_scaling")
ROTATION_NAMES = ("type", "rope_type")


# Some families say a list, one for each layer.
def is_number(value: object) -> bool:
    if isinstance(value, list):
        return all(map(is_number, value))
    return type(value) is int or (type(value) is float and math.isfinite(value))


def is_count(value: object) -> bool:
    return type(value) is int or (isinstance(value, list) and all(type(v) is int for v in value))


def is_flag(value: object) -> bool:
    return type(value) is bool


def is_name(value: object) -> bool:
    return isinstance(value, str)


KINDS: tuple[tuple[Sequence[str], Callable[[object], bool], str], ...] = (
    (NUMBERS, is_number, "a number"),
    (COUNTS, is_count, "a whole number"),
    (FLAGS, is_flag, "true or false"),
    (TOKENS, is_count, "the number of a token, or a list of them"),
    (NAMES, is_name, "a name"),
)


def faults_of_types(config: Config, needs_all: bool) -> Iterator[str]:
    """Yield settings whose values are of another type; with `needs_all` also needed ones that are null."""
    for keys, right, wanted in KINDS:
        for key in keys:
            if (value := config.get(key)) is not None and not right(value):
                yield f"{key} is {shown(repr(value))}, not {wanted}"
    for key in NEEDED if needs_all else ():
        if key in config and config[key] is None:
            yield f"{key} is null, and nothing stands in for it"
    for key in ROTATIONS:
        yield from faults_of_rotation(key, config.get(key))


def faults_of_rotation(key: str, rope: object) -> Iterator[str]:
    """Yield what is wrong with a rotation, whose settings may stand there once for each kind of layer."""
    if rope is None:
        return
    if not isinstance(rope, Mapping):
        yield f"{key} is {shown(repr(rope))}, not a mapping"
        return
    for name, value in rope.items():
        if isinstance(value, Mapping):
            yield from faults_of_rotation(f"{key}.{name}", value)
        elif name in ROTATION_NAMES and not is_name(value):
            yield f"{key}.{name} is {shown(repr(value))}, not a name"
        elif name not in ROTATION_NAMES and (is_written(value) or value != value):
            yield f"{key}.{name} is {shown(repr(value))}, not a number"


def is_written(value: object) -> bool:
    """Tell whether the value is the text of a number."""
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False
