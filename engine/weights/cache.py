"""Sizes of a key-value cache in vLLM's blocks, so that vLLM takes what is planned for it.

Supported releases count differently: 0.32 takes one empty block off what it may use, 0.26 does not.
With a sliding window a sequence needs one block more. What is planned here is enough for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config_keys import HEADS, LAYERS, WIDTHS
from .known_models import Config
from .shapes import ModelShapes

BLOCK_TOKENS = 32
# Families whose layers differ in their windows or do not keep keys and values of each head.
MIXED = (
    "gemma2",
    "gemma3",
    "gemma3_text",
    "cohere2",
    "gpt_oss",
    "llama4",
    "deepseek_v2",
    "deepseek_v3",
)


@dataclass(frozen=True)
class CacheShape:
    """How a model's key-value cache grows: bytes of a block, and what one sequence takes."""

    block_bytes: int
    has_window: bool

    @property
    def token_bytes(self) -> int:
        return self.block_bytes // BLOCK_TOKENS

    def blocks_of(self, tokens: int) -> int:
        """Return the most blocks that a sequence of so many tokens can hold."""
        return -(-tokens // BLOCK_TOKENS) + self.has_window

    def bytes_for(self, sequences: int, tokens: int) -> int:
        """Return the bytes of a cache in which so many sequences find room at once."""
        return (sequences * self.blocks_of(tokens) + 1) * self.block_bytes

    def sequences_in(self, size_bytes: int, tokens: int) -> int:
        """Return how many sequences find room at once in a cache of these bytes."""
        return max(0, size_bytes // self.block_bytes - 1) // self.blocks_of(tokens)


def cache_shape(model: ModelShapes) -> CacheShape | None:
    """Return the shape of a model's cache; None where its config does not tell it.

    That is so for layers of several kinds (Gemma-2's windows), and for unusual names of fields.
    """
    layers, queries, hidden = (model.number(*names) for names in (LAYERS, HEADS, WIDTHS))
    heads, size = model.number("num_key_value_heads", *HEADS), model.number("head_dim")
    if size is None and hidden and queries:
        size = hidden // queries
    if not (layers and heads and size) or is_mixed(model.config):
        return None
    token_bytes = 2 * layers * heads * size * model.itemsize_bytes
    return CacheShape(token_bytes * BLOCK_TOKENS, has_window(model.config))


def is_mixed(config: Config) -> bool:
    """Tell whether layers keep caches of several kinds."""
    partly = config.get("use_sliding_window") and config.get("max_window_layers")
    return len(kinds(config)) > 1 or config.get("model_type") in MIXED or bool(partly)


def kinds(config: Config) -> set[str]:
    """Return the kinds of layers that a config lists; none where it lists none."""
    listed = config.get("layer_types")
    return set(map(str, listed)) if isinstance(listed, list) else set()


def has_window(config: Config) -> bool:
    """Tell whether all layers have a sliding window."""
    if found := kinds(config):
        return found == {"sliding_attention"}
    return bool(config.get("sliding_window") and config.get("use_sliding_window", True))
