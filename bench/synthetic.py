"""Writes Mistral checkpoints of any size with random weights, for the bench and for parity tests.

Base weights are normal with standard deviation 0.02, task vectors with `spread`. The experts share
a part of their task vectors, as fine-tunes of one model do.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

EXPERTS = ("a", "b", "c")
CODES = {torch.bfloat16: "BF16", torch.float32: "F32"}
# Length of the part of a task vector that all experts share, relative to the whole.
SHARED = 0.6


@dataclass(frozen=True)
class Size:
    """Dimensions of a Mistral model."""

    hidden: int = 32
    intermediate: int = 80
    layers: int = 2
    vocab: int = 96
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes().values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by name."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = {
            "input_layernorm": (self.hidden,),
            "mlp.down_proj": (self.hidden, self.intermediate),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "post_attention_layernorm": (self.hidden,),
            "self_attn.k_proj": (narrow, self.hidden),
            "self_attn.o_proj": (self.hidden, wide),
            "self_attn.q_proj": (wide, self.hidden),
            "self_attn.v_proj": (narrow, self.hidden),
        }
        layers = {
            f"model.layers.{i}.{name}.weight": shape
            for i in range(self.layers)
            for name, shape in layer.items()
        }
        ends = {"model.embed_tokens.weight": (self.vocab, self.hidden)}
        ends |= {"model.norm.weight": (self.hidden,), "lm_head.weight": (self.vocab, self.hidden)}
        return ends | layers

    def config(self, dtype: torch.dtype) -> dict[str, object]:
        """The content of config.json."""
        return {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "vocab_size": self.vocab,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "tie_word_embeddings": False,
            "torch_dtype": str(dtype).removeprefix("torch."),
        }


HALF_BILLION = Size(1280, 4480, 20, 32_000, 20, 4, 64)  # 0.50 B parameters


@dataclass(frozen=True)
class Models:
    """Checkpoint folders of a base and its experts."""

    base: Path
    experts: dict[str, Path]

    @property
    def words(self) -> list[str]:
        """The options --base and --expert of a command."""
        experts = [w for name, path in self.experts.items() for w in ("--expert", f"{name}={path}")]
        return ["--base", str(self.base), *experts]

    @property
    def files(self) -> list[Path]:
        """All weight files; the base's come first."""
        folders = [self.base, *self.experts.values()]
        return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def make_models(
    root: Path,
    size: Size,
    dtype: torch.dtype,
    *,
    spread: float = 5e-4,
    experts: int = 3,
    distinct: bool = False,
) -> Models:
    """Write a base and its experts below `root`.

    Tensors of equal shape in a model are equal, which is quick to make, unless they are to be `distinct`.
    """
    names = EXPERTS[:experts]
    shapes = size.shapes()
    kind_of = {name: name if distinct else str(shape) for name, shape in shapes.items()}
    kinds = {kind_of[name]: shape for name, shape in shapes.items()}
    for number, model in enumerate(("base", *names)):
        drawn = {
            kind: weights(shape, at, number, spread).to(dtype)
            for at, (kind, shape) in enumerate(kinds.items())
        }
        folder = root / model
        folder.mkdir(parents=True)
        tensors = {name: drawn[kind] for name, kind in kind_of.items()}
        write_tensors(folder / "model.safetensors", tensors)
        (folder / "config.json").write_text(json.dumps(size.config(dtype), indent=2) + "\n")
    return Models(root / "base", {name: root / name for name in names})


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. Tensors may share memory, so that a large model needs little."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        kind = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**kind, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            data: Any = tensor.reshape(-1).view(torch.uint8).numpy()
            file.write(data)


def weights(shape: tuple[int, ...], kind: int, model: int, spread: float) -> Tensor:
    """Random weights of model 0 (the base) or of an expert; equal for equal arguments."""
    draw = torch.Generator().manual_seed(3 * kind)
    made = torch.randn(shape, generator=draw).mul_(0.02)
    if model:
        common = torch.randn(shape, generator=draw.manual_seed(3 * kind + 1))
        own = torch.randn(shape, generator=draw.manual_seed(1000 * model + 3 * kind + 2))
        made += spread * (SHARED * common + (1 - SHARED**2) ** 0.5 * own)
    return made
