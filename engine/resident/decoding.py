"""Decides how a model is asked: its prompt's tokens, and where answers end. Both engines use this.

Of generation_config.json only the ends of answers are taken: what else it says (penalties, least
lengths, suppressed tokens, temperatures) changes no score.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint
from ..weights.disguises import disguise_of
from ..weights.headers import shown
from ..weights.small_file import read_bytes

GENERATION = "generation_config.json"


def encode(tokenizer: Any, prompt: str) -> list[int]:
    """Return a prompt's tokens. A prompt that spells the BOS token gets it once, not twice."""
    begin, rest = tokenizer.bos_token, prompt
    while begin and rest.startswith(begin):
        rest = rest.removeprefix(begin)
    if rest != prompt:
        tokens = list(tokenizer.encode(rest))
        if tokens[:1] == [tokenizer.bos_token_id]:
            return tokens
    return list(tokenizer.encode(prompt))


def ends_of(checkpoint: Checkpoint, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: by tokenizer, config and generation_config.json."""
    said = (tokenizer.eos_token_id, checkpoint.config.get("eos_token_id"))
    found = set[int]()
    for value in (*said, generation_config(checkpoint.folder / GENERATION).get("eos_token_id")):
        ids = value if isinstance(value, list) else [value]
        found.update(one for one in ids if type(one) is int and one >= 0)
    return sorted(found)


def generation_config(path: Path) -> dict[str, Any]:
    """Return the file's object; {} where there is no file. UsageError where it is damaged."""
    if not path.exists():
        return {}
    try:
        found = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {disguise_of(path) or shown(str(error))}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: not a JSON object")
    return found


def described(ends: list[int]) -> str:
    """Say how answers were made, for the record of a score."""
    return f"greedy, ends at {', '.join(map(str, ends)) or 'no token'}"
