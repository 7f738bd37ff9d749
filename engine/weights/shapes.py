"""What a plan of memory needs to know of a model: its tensors' shapes, its config. Loads no torch.

They come from the headers of a checkpoint, or for a model that is not downloaded from its published
config: a dense decoder's tensors follow from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .checkpoint import Checkpoint
from .headers import ITEMSIZE_BYTES, main_dtype
from .known_models import KNOWN, Config
from .selection import pattern_of

MOST_SIZE = 1 << 40
DENSE = ("mistral", "llama", "qwen2", "qwen3")
# Linear layers of a dense decoder's block, which adapters are trained for, too.
LINEAR = re.compile(r"\.(q|k|v|o|gate|up|down)_proj\.weight$")


@dataclass(frozen=True)
class Shape:
    """The dtype and sizes of one tensor."""

    dtype: str  # torch's name
    sizes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.sizes) * ITEMSIZE_BYTES[self.dtype]


@dataclass(frozen=True)
class ModelShapes:
    """A model's config and the shapes of its tensors by name."""

    config: Config
    tensors: Mapping[str, Shape]

    @property
    def size_bytes(self) -> int:
        return sum(shape.size_bytes for shape in self.tensors.values())

    @property
    def itemsize_bytes(self) -> int:
        """The bytes of an element in the dtype of most of the bytes; engines run in it."""
        shapes = self.tensors.values()
        return ITEMSIZE_BYTES[main_dtype((shape.dtype, shape.size_bytes) for shape in shapes)]

    @property
    def num_elements(self) -> int:
        return sum(math.prod(shape.sizes) for shape in self.tensors.values())

    def number(self, *keys: str) -> int | None:
        """Return the first of these fields of the config that is there; None where it is no size."""
        value = next((v for key in keys if (v := self.config.get(key)) is not None), None)
        is_size = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_SIZE
        return value if is_size else None

    def selected(self, include: str) -> list[str]:
        """Return the names of the tensors to merge, as `selection.select` does of a checkpoint.

        UsageError where `include` is not a regular expression.
        """
        matches = pattern_of(include).search
        return [name for name in self.tensors if matches(name)]


def shapes_of(checkpoint: Checkpoint) -> ModelShapes:
    """Return the shapes of a checkpoint by its headers."""
    entries = checkpoint.entries.items()
    tensors = {name: Shape(entry.dtype, entry.shape) for name, entry in entries}
    return ModelShapes(checkpoint.config, tensors)


def published_shapes(hub_id: str) -> ModelShapes | None:
    """Return the shapes of a model whose config is known here; None of another."""
    if (config := KNOWN.get(hub_id)) is None:
        return None
    return ModelShapes(config, dict(dense_tensors(config)))


def dense_tensors(config: Config) -> Iterator[tuple[str, Shape]]:
    """Yield the tensors of a dense decoder (Llama and its like) by its config."""
    assert config["model_type"] in DENSE, config["model_type"]
    dtype, hidden, vocab = config["torch_dtype"], config["hidden_size"], config["vocab_size"]

    def shape(*sizes: int) -> Shape:
        return Shape(dtype, sizes)

    yield "model.embed_tokens.weight", shape(vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        for name, sizes in block_tensors(config):
            yield f"model.layers.{layer}.{name}", shape(*sizes)
    yield "model.norm.weight", shape(hidden)
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", shape(vocab, hidden)


def block_tensors(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the tensors of one block with their sizes."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    size = hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    for name, rows in (("q", queries), ("k", keys), ("v", keys)):
        yield f"self_attn.{name}_proj.weight", (rows, hidden)
        if config["model_type"] == "qwen2":
            yield f"self_attn.{name}_proj.bias", (rows,)
    yield "self_attn.o_proj.weight", (hidden, queries)
    if config["model_type"] == "qwen3":
        yield from ((f"self_attn.{name}_norm.weight", (size,)) for name in "qk")
    yield from ((f"mlp.{name}_proj.weight", (inner, hidden)) for name in ("gate", "up"))
    yield "mlp.down_proj.weight", (hidden, inner)
    yield from ((f"{n}_layernorm.weight", (hidden,)) for n in ("input", "post_attention"))


def adapter_elements(model: ModelShapes, rank: int) -> int:
    """Return the numbers of a LoRA adapter on all linear layers of the blocks."""
    linear = (shape.sizes for name, shape in model.tensors.items() if LINEAR.search(name))
    return rank * sum(rows + cols for rows, cols in linear)
