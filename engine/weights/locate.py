"""Finds a model's folder: a path, or a hub id that is downloaded."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ..errors import UsageError, first_line
from ..given import at_home

# The page of a model.
ADDRESS = re.compile(r"https?://huggingface\.co/([^/]+/[^/?#]+)")
# The folder of a repository in the hub's cache.
HUB_FOLDER = re.compile(r"models--(.+)")


def locate(place: str) -> Path:
    """Return the folder of a model, given its path or its hub id.

    A hub id is downloaded where it is not here yet. UsageError where no such model is found.
    """
    return local(place) or download(place)


def local(place: str) -> Path | None:
    """Return the folder at a path, or None for a hub id. UsageError where a path has no folder."""
    if not place.strip():
        raise UsageError("an empty path to a model; is a variable unset?")
    folder = at_home(place)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UsageError(f"{place}: a model is a folder, this is a file")
    if found := ADDRESS.match(place):
        raise UsageError(f"{place}: an address; write the hub id, {found[1]}")
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        raise UsageError(f"{place}: no such model folder")
    return None


def check_utf8(folder: Path) -> None:
    """Raise UsageError where a path is no UTF-8: no tokenizer opens it, and no run's settings can hold it."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        mend = (
            "rename it"
            if sys.getfilesystemencoding() == "utf-8"
            else f"set PYTHONUTF8=1, since names are {sys.getfilesystemencoding()} here"
        )
        raise UsageError(f"{folder}: its path is no UTF-8: {mend}") from None


def here(place: str) -> Path | None:
    """Return the folder of a model that is on this machine, at a path or in the cache of the hub.

    None where it would have to be downloaded. UsageError for what can be neither.
    """
    if folder := local(place):
        return folder
    import huggingface_hub

    try:
        found = huggingface_hub.try_to_load_from_cache(place, "config.json")
    except ValueError as error:
        raise UsageError(f"{place}: no such model folder, and no hub id: {error}") from None
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder and any(folder.glob("*.safetensors")) else None


def download(hub_id: str) -> Path:
    """Download a hub model's weights, config and tokenizer. UsageError where that fails."""
    import huggingface_hub

    patterns = ["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt", "*.tiktoken"]
    # A model card names the licence.
    patterns.append("README.md")
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except Exception as error:
        reason = first_line(error, 160)
        raise UsageError(
            f"{hub_id}: as a path, no such folder from {Path.cwd()}; as a hub id, not to be had "
            f"({reason})"
        ) from None


def known_as(folder: Path) -> str:
    """Return ORG/MODEL for a folder in the hub's cache, else the folder's own name."""
    return hub_id(folder) or folder.name or folder.resolve().name


def hub_id(folder: Path) -> str | None:
    """Return ORG/MODEL for a folder in the hub's cache; None for any other."""
    place = folder.resolve()
    found = HUB_FOLDER.fullmatch(place.parent.parent.name)
    if found and place.parent.name == "snapshots":
        return found[1].replace("--", "/", 1)
    return None


def hub_blobs(folder: Path) -> Path | None:
    """Return where the hub's cache keeps the files to which a snapshot's folder links.

    None for a folder outside that cache.
    """
    repository = folder.resolve().parent.parent
    return repository / "blobs" if HUB_FOLDER.fullmatch(repository.name) else None
