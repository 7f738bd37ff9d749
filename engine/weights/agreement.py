"""Compares config.json with the headers of the weights: of two models, the result would load nowhere, or wrongly.

Loaders make up what they do not find, and leave out what they do not know, with a warning at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..errors import UsageError
from .checkpoint import Checkpoint
from .config_keys import EXTRA_LAYERS, HEADS, LAYERS, MULTIPLE, NARROWER, PADDED, WIDTHS
from .config_types import faults_of_types
from .families import faults_of_family
from .headers import shown
from .ties import EMBEDDING, HEAD

STACK = re.compile(r"(layers|h|blocks)\.(\d+)\.(.+)")
# Families whose blocks are all alike, under these names and sizes.
UNIFORM = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "olmo2", "smollm3")
# Kinds whose embedding has rows beyond the vocabulary.
MORE_ROWS = ("mllama", "mllama_text_model", "moshi")
Config = Mapping[str, Any]


def check_agreement(model: Checkpoint) -> None:
    """Raise UsageError where the config says other sizes than the weights have."""
    config = language_part(model.config)
    # Code of the model's own, and a second stack, may mean anything.
    if "auto_map" in model.config or model.config.get("is_encoder_decoder") is True:
        return
    needs_all = model.config.get("model_type") in UNIFORM
    faults = chain(faults_of_sizes(config), faults_of_types(config, needs_all))
    if fault := next(faults, ""):
        raise UsageError(
            f"{model.folder / 'config.json'}: {fault}, so nothing could load the result"
        )
    embeddings = [n for n in model.names if EMBEDDING.search(n) and len(model.shape(n)) == 2]
    if not embeddings:
        return
    name = max(embeddings, key=lambda n: model.shape(n))
    for fault in (
        *faults_of_embedding(model, config, name),
        *faults_of_layers(model, config, stack_of(model, name)),
        *faults_of_head(model, name),
    ):
        raise UsageError(
            f"{model.folder / 'config.json'}: {fault}: config and weights do not belong together"
        )


def language_part(config: Config) -> Config:
    """Return the config of the language model, which may stand inside that of a larger model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) and "vocab_size" in inner else config


def size(config: Config, *keys: str) -> tuple[str, int] | None:
    """Return the first of these keys that has a value, with it; None where it is no size."""
    for key in keys:
        if (value := config.get(key)) is not None:
            return (key, value) if type(value) is int and value >= 0 else None
    return None


def faults_of_sizes(config: Config) -> Iterator[str]:
    """Yield sizes that are no whole numbers from 1."""
    for key in ("vocab_size", "intermediate_size", "num_key_value_heads", *LAYERS, *HEADS, *WIDTHS):
        value = config.get(key)
        # Some families say a list, one for each layer.
        if (
            value is not None
            and not isinstance(value, list)
            and (type(value) is not int or value < 1)
        ):
            yield f"{key} is {shown(repr(value))}, not a whole number from 1"


def faults_of_embedding(model: Checkpoint, config: Config, name: str) -> Iterator[str]:
    """Yield how the embedding's sizes are not those of the config."""
    rows, columns = model.shape(name)
    if (found := size(config, "vocab_size")) and config.get("model_type") not in MORE_ROWS:
        multiple = config.get(MULTIPLE)
        filled = (
            -(-found[1] // multiple) * multiple if type(multiple) is int and multiple > 0 else 0
        )
        if rows not in (found[1], config.get(PADDED), filled):
            yield said(found, model, name)
    found = size(config, *WIDTHS)
    if found and columns not in (found[1], *(config.get(key) for key in NARROWER)):
        yield said(found, model, name)


def said(found: tuple[str, int], model: Checkpoint, name: str) -> str:
    return f"{found[0]} is {found[1]}, but {shown(name)} has shape {list(model.shape(name))}"


# ---- the stack of layers


@dataclass(frozen=True)
class Stack:
    """The names of a stack's tensors by layer, without what they have in common."""

    start: str  # such as "model.layers."
    layers: Mapping[int, frozenset[str]]


def stack_of(model: Checkpoint, embedding: str) -> Stack:
    """Return the stack of layers beside an embedding."""
    match = EMBEDDING.search(embedding)
    assert match is not None, embedding
    start, inner = embedding[: match.end(1)], ""
    layers: dict[int, set[str]] = {}
    for name in model.names:
        if name.startswith(start) and (found := STACK.fullmatch(name[len(start) :])):
            inner = found[1]
            layers.setdefault(int(found[2]), set()).add(found[3])
    return Stack(f"{start}{inner}.", {n: frozenset(names) for n, names in layers.items()})


def faults_of_layers(model: Checkpoint, config: Config, stack: Stack) -> Iterator[str]:
    """Yield how the stack's layers are not those of the config."""
    found = size(config, *LAYERS)
    if not stack.layers or not found:
        return
    there, extra = sorted(stack.layers), config.get(EXTRA_LAYERS)
    missing = next((n for n in range(found[1]) if n not in stack.layers), None)
    if missing is not None:
        yield f"{found[0]} is {found[1]}, but the weights hold no {stack.start}{missing}"
    elif there[-1] >= found[1] + (extra if type(extra) is int else 0):
        yield f"{found[0]} is {found[1]}, but the weights hold {stack.start}{there[-1]}"
    else:
        yield from faults_of_family(config, frozenset[str]().union(*stack.layers.values()))
        if model.config.get("model_type") in UNIFORM:
            yield from faults_of_blocks(model, config, stack)


def faults_of_blocks(model: Checkpoint, config: Config, stack: Stack) -> Iterator[str]:
    """Yield what a block lacks that others have, and sizes of the first block that are not the config's."""
    if (norm := f"{stack.start.rpartition('layers.')[0]}norm.weight") not in model.entries:
        yield f"the weights lack {norm}"
    every = frozenset[str]().union(*stack.layers.values())
    for number, names in stack.layers.items():
        if lacking := sorted(n for n in every - names if "rotary" not in n):
            yield f"the weights lack {stack.start}{number}.{lacking[0]}, which other layers have"
    for part, found in sizes_of_block(config):
        name = f"{stack.start}0.{part}.weight"
        if name in model.entries and model.shape(name)[:1] != (found[1],):
            yield said(found, model, name)


def sizes_of_block(config: Config) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield parts of a block with the rows that the config gives them, and the key that says so."""
    if found := size(config, "intermediate_size"):
        yield "mlp.gate_proj", found
        yield "mlp.up_proj", found
    head, wide = size(config, "head_dim"), size(config, *WIDTHS)
    all_heads, kept = size(config, *HEADS), size(config, "num_key_value_heads")
    plain = config.get("model_type") in ("llama", "mistral", "qwen2", "olmo2", "smollm3")
    if head is None and plain and wide and all_heads and all_heads[1]:
        head = "head_dim", wide[1] // all_heads[1]
    if head and all_heads:
        words = f"{all_heads[0]} ({all_heads[1]}) x head_dim"
        yield "self_attn.q_proj", (words, all_heads[1] * head[1])
    if head and kept:
        words = f"{kept[0]} ({kept[1]}) x head_dim"
        yield "self_attn.k_proj", (words, kept[1] * head[1])


# ---- the head


def faults_of_head(model: Checkpoint, embedding: str) -> Iterator[str]:
    """Yield that loaders would make up an output head."""
    classes = model.config.get("architectures")
    writes = isinstance(classes, list) and any(
        str(c).endswith(("CausalLM", "LMHeadModel")) for c in classes
    )
    rows = model.shape(embedding)[:1]
    has_head = any(
        HEAD.search(name) or (len(model.shape(name)) == 2 and model.shape(name)[:1] == rows)
        for name in model.names
        if name != embedding and not re.search(r"\.\d+\.", name)
    )
    told = model.config.get(
        "tie_word_embeddings", language_part(model.config).get("tie_word_embeddings")
    )
    if told is False and writes and not has_head:
        yield "tie_word_embeddings is false, but the weights hold no output head, so loaders would make one up"
