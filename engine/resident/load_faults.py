"""Says in one line why a model was not loaded: what the loader said, and the setting that it is about."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..weights.headers import shown
from .placement import error_in_words

# Settings that many errors name without being about them.
NAMES = ("model_type", "architectures", "transformers_version", "_name_or_path", "name_or_path")
OWN_CODE = re.compile(r"trust_remote_code|contains custom code")
MOST_SETTINGS = 2


def why(part: str, error: BaseException, config: Mapping[str, Any], said: str = "") -> str:
    """Return why a model was not loaded, because of this `part`: "config", "tokenizer" or "model".

    `said` is what the error says, where its first line is not that.
    """
    if OWN_CODE.search(str(error)):
        return "it needs code of its own (auto_map), which is never run here: it can only be merged"
    said = said or error_in_words(error)
    if part == "tokenizer":
        version = importlib.metadata.version("tokenizers")
        return f"its tokenizer is damaged, or of a newer release than tokenizers {version}: {said}"
    about = [f"{key} is {value!r}" for key, value in texts(config) if is_in(value, str(error))]
    return said + (f" (config.json: {', '.join(about[:MOST_SETTINGS])})" if about else "")


def texts(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings that are texts, by their full names."""
    for key, value in config.items():
        name = f"{above}{shown(key)}"
        if isinstance(value, Mapping):
            yield from texts(value, f"{name}.")
        elif isinstance(value, str) and key not in NAMES:
            yield name, shown(value)


def is_in(value: str, text: str) -> bool:
    """Tell whether a text names a value as a word of its own."""
    return len(value) > 2 and bool(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text))
