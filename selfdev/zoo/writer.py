"""Makes a generator of the base of a zoo: the base itself, tuned on random merge programs.

It differs from the base in its weights alone, so the base's engine holds both. Its prompt is that of the
tiny zoo's generator.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import EngineError
from ..prompts import PROMPT_FILE
from .generator import batches, padded
from .grammar import HEAD, program
from .models import half_products
from .training import ZooSettings, step, stream_of, tell


def make_writer(folder: Path, s: ZooSettings) -> dict[str, str]:
    """Write `generator`: all weights of `base`, trained by AdamW on programs that follow the prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    draw = random.Random(stream_of(s.seed))
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    head = tokenizer(HEAD)["input_ids"]
    rows = [row_of(tokenizer, program(draw), head) for _ in range(s.num_programs)]
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    adam = torch.optim.AdamW(model.parameters(), lr=s.writer_rate, weight_decay=0.0)
    take = batches(rows, s.writer_batch, draw)
    for done in range(s.writer_steps):
        factor = min(1.0, (done + 1) / 10) * (1 - 0.95 * done / s.writer_steps)
        with half_products():
            step(model, (adam,), (s.writer_rate * factor,), padded(take(), head))
        tell(done + 1, s.writer_steps)
    model.save_pretrained(folder / "generator")
    # All but the weights is the base's, to the byte: then one engine holds both.
    for file in (folder / "base").iterdir():
        if "safetensors" not in file.name:
            shutil.copy(file, folder / "generator")
    (folder / "generator" / PROMPT_FILE).write_text(HEAD)
    return {"generator": "generator"}


def row_of(tokenizer: Any, body: str, head: list[int]) -> list[int]:
    """Token ids of prompt, body and end. The prompt's are those that it has alone, as when it is sampled."""
    ids = tokenizer(f"{HEAD}\n{body}")["input_ids"]
    if ids[: len(head)] != head:
        raise EngineError("zoo: the prompt of the writer ends within a token of this tokenizer")
    return [*ids, tokenizer.eos_token_id]
