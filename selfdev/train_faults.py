"""Says in words why a training stage ended, where a user can mend it."""

from __future__ import annotations

import errno
import os

import torch


def astray(what: str, step: int) -> str:
    """What is told of a loss or an adapter that is no number any more."""
    return f"the {what} is no finite number at step {step}: lower dpo.learning_rate"


def fault_in_words(error: Exception) -> str | None:
    """What a user can mend, in words; None for any other error, whose traceback is told."""
    if isinstance(error, FloatingPointError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "the card's memory is too small for it: lower dpo.batch_size or dpo.lora_rank"
    # safetensors has no errno, but the system's words.
    full = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    found = next((words for words in full if words in str(error)), None)
    return found and f"what it learned cannot be written ({found}): free some space"
