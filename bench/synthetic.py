"""Checkpoints of random weights in the layout of Mistral, of any size; for bench and parity tests.

Base weights are N(0, 0.02) and task vectors N(0, `spread`), partly shared between the experts, as
they are between fine-tunes of one model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

EXPERTS = ("a", "b", "c")
SHARED = 0.6  # of a task vector's length is common to all experts


@dataclass(frozen=True)
class Size:
    """A Mistral model's dimensions."""

    hidden: int = 32
    intermediate: int = 80
    layers: int = 2
    vocab: int = 96
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, by name."""
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
    """Folders of a base and its experts."""

    base: Path
    experts: dict[str, Path]

    @property
    def words(self) -> list[str]:
        """--base and --expert for a command."""
        experts = [w for name, path in self.experts.items() for w in ("--expert", f"{name}={path}")]
        return ["--base", str(self.base), *experts]

    @property
    def files(self) -> list[Path]:
        """All weights, the base's first."""
        folders = [self.base, *self.experts.values()]
        return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def make_models(
    root: Path, size: Size, dtype: torch.dtype, *, spread: float = 5e-4, experts: int = 3
) -> Models:
    """Write a base and its experts below `root`."""
    names = EXPERTS[:experts]
    for number, model in enumerate(("base", *names)):
        tensors = {
            name: weights(shape, index, number, spread).to(dtype)
            for index, (name, shape) in enumerate(size.shapes().items())
        }
        folder = root / model
        folder.mkdir(parents=True)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(size.config(dtype), indent=2) + "\n")
    return Models(root / "base", {name: root / name for name in names})


def weights(shape: tuple[int, ...], index: int, model: int, spread: float) -> Tensor:
    """Tensor `index` of model 0 (the base) or of an expert; the same wherever it is asked for."""
    draw = torch.Generator().manual_seed(3 * index)
    made = torch.randn(shape, generator=draw).mul_(0.02)
    if model:
        common = torch.randn(shape, generator=draw.manual_seed(3 * index + 1))
        own = torch.randn(shape, generator=draw.manual_seed(1000 * model + 3 * index + 2))
        made += spread * (SHARED * common + (1 - SHARED**2) ** 0.5 * own)
    return made
