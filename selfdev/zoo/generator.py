"""Makes the generator of the tiny zoo: a Mistral of 1.9 M parameters that writes merge programs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import MistralForCausalLM, PreTrainedTokenizerFast

from ..prompts import PROMPT_FILE
from .grammar import HEAD, program
from .models import new_mistral, wrapped
from .training import (
    EOS,
    IGNORED,
    PAD,
    SPECIALS,
    Examples,
    ZooSettings,
    save,
    step,
    stream_of,
    tell,
)

VOCAB_SIZE = 512


def program_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on these programs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIALS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["\n" + text for text in texts] + [HEAD] * 50, trainer)
    return wrapped(tokenizer)


def new_generator() -> MistralForCausalLM:
    return new_mistral(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        num_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )


def batches(rows: list[list[int]], size: int, draw: random.Random) -> Callable[[], list[list[int]]]:
    """Function that returns the next batch of rows of about equal length.

    Rows for eight batches are drawn, sorted by length, cut into batches and shuffled.
    """
    waiting: list[list[list[int]]] = []

    def take() -> list[list[int]]:
        if not waiting:
            pool = sorted(draw.sample(rows, 8 * size), key=len)
            waiting.extend(pool[i : i + size] for i in range(0, len(pool), size))
            draw.shuffle(waiting)
        return waiting.pop()

    return take


def make_generator(folder: Path, s: ZooSettings) -> dict[str, str]:
    s = replace(s, seed=stream_of(s.seed))
    draw = random.Random(s.seed)
    texts = [program(draw) for _ in range(s.num_programs)]
    tokenizer = program_tokenizer(texts[:4000])
    head = tokenizer(HEAD)["input_ids"]
    rows = [head + tokenizer("\n" + text)["input_ids"] + [EOS] for text in texts]
    torch.manual_seed(s.seed)
    model = new_generator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.generator_rate)
    take = batches(rows, s.generator_batch, draw)
    for i in range(s.generator_steps):
        factor = min(1, (i + 1) / 30) * (1 - 0.95 * i / s.generator_steps)
        step(model, (optimizer,), (s.generator_rate * factor,), padded(take(), head))
        tell(i, s.generator_steps)
    save(model, tokenizer, folder / "generator")
    (folder / "generator" / PROMPT_FILE).write_text(HEAD)
    return {"generator": "generator"}


def padded(rows: list[list[int]], head: list[int]) -> Examples:
    """Rows as examples with the prompt as their prefix.

    The prompt's last token stays in every row, because it predicts the first token after it.
    """
    prompt = len(head) - 1
    longest = max(map(len, rows)) - prompt
    ids = torch.full((len(rows), longest), PAD)
    labels = torch.full((len(rows), longest), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row) - prompt] = torch.tensor(row[prompt:])
        labels[i, 1 : len(row) - prompt] = torch.tensor(row[prompt + 1 :])
    return Examples(ids, labels, torch.tensor(head[:prompt]))
