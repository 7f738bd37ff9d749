"""Decides whether one engine can hold the weights of two models, one after the other."""

from __future__ import annotations

from ..weights.checkpoint import Checkpoint
from ..weights.contents import COMPANIONS, companion_digests
from .decoding import GENERATION, generation_config

CONFIG = "config.json"
# Keys of a config that change no answer.
NAMES = ("_name_or_path", "transformers_version", "_commit_hash")


def are_alike(base: Checkpoint, other: Checkpoint) -> bool:
    """Tell whether two checkpoints differ in their weights alone: same shapes, config, tokenizer, ends."""
    return base.folder == other.folder or (
        shapes(base) == shapes(other)
        and said(base) == said(other)
        and tokenizer(base) == tokenizer(other)
    )


def shapes(model: Checkpoint) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (entry.dtype, entry.shape) for name, entry in model.entries.items()}


def said(model: Checkpoint) -> tuple[dict[str, object], object]:
    """Return what a config says of the model, and which tokens end an answer."""
    config = {key: value for key, value in model.config.items() if key not in NAMES}
    return config, generation_config(model.folder / GENERATION).get("eos_token_id")


def tokenizer(model: Checkpoint) -> dict[str, str]:
    return companion_digests(model.folder, tuple(name for name in COMPANIONS if name != CONFIG))
