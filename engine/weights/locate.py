"""Finds a model's folder: a path, or a hub id that is downloaded."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError


def locate(place: str) -> Path:
    """Return the folder of a model, given its path or its hub id.

    A hub id is downloaded where it is not here yet. UsageError where no such model is found.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UsageError(f"{place}: a model is a folder, this is a file")
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        raise UsageError(f"{place}: no such model folder")
    return download(place)


def download(hub_id: str) -> Path:
    """Download a hub model's weights, config and tokenizer. UsageError where that fails."""
    import huggingface_hub

    patterns = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"]
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).split("\n")[0][:160]
        raise UsageError(
            f"{hub_id}: no such folder, and not to be had from the hub ({reason})"
        ) from None
