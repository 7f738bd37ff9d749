"""Checks the files beside the weights that every loader parses, so that a damaged one is named early."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import UsageError
from .disguises import disguise_of
from .headers import shown
from .small_file import read_bytes

PARSED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
PARSED = (*PARSED, "special_tokens_map.json", "added_tokens.json", "chat_template.json")


def check_json(path: Path) -> None:
    """Raise UsageError where the file is no JSON in UTF-8: then no loader takes the model."""
    try:
        found = json.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        why = disguise_of(path) or shown(str(error))
        raise UsageError(f"{path}: not JSON: {why}; download or save it again") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: not a JSON object; download or save it again")
