"""Makes the base of the tiny zoo and its experts: three models that are good at one skill each.

The base, a Mistral of about 1 M parameters, learns two-number arithmetic until about half of its
answers are right. The experts train its MLP projections only, so a merge of the MLPs is a merge of
the models. Weights are float32: in bf16 the greedy answers of two engines differ where two tokens
are almost equally likely, and a bad merge makes that more frequent.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import MistralForCausalLM, PreTrainedTokenizerFast

from .arithmetic import SKILLS as SKILL_TABLE
from .arithmetic import make_pool, write_tasks
from .models import new_mistral, wrapped
from .muon import Muon
from .training import (
    BOS,
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

SKILLS = tuple(SKILL_TABLE)
# The longest line: <s>99-99=, an answer of 4 characters, </s>.
QUESTION_TOKENS = 14
# The weights of the linear merges that say whether a zoo is in its range.
MERGE_WEIGHTS = (0.2, 0.4)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte and three special ones; texts begin with <s>."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIALS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    return wrapped(tokenizer)


def encode(rows: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerFast) -> Examples:
    """(question, answer) rows as padded token ids; only answers have labels."""
    encoded = []
    for question, answer in rows:
        head = tokenizer(question)["input_ids"]
        tail = tokenizer(answer, add_special_tokens=False)["input_ids"] + [EOS]
        encoded.append((head, tail))
    ids = torch.full((len(rows), QUESTION_TOKENS), PAD)
    labels = torch.full((len(rows), QUESTION_TOKENS), IGNORED)
    for i, (head, tail) in enumerate(encoded):
        ids[i, : len(head) + len(tail)] = torch.tensor(head + tail)
        labels[i, len(head) : len(head) + len(tail)] = torch.tensor(tail)
    return Examples(ids, labels)


def new_base(tokenizer: PreTrainedTokenizerFast) -> MistralForCausalLM:
    return new_mistral(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
    )


@torch.no_grad()
def accuracy(model: MistralForCausalLM, examples: Examples) -> float:
    """Share of answers that greedy decoding gets right to the last token."""
    guesses = model(input_ids=examples.ids).logits[:, :-1].argmax(-1)
    wanted = examples.labels[:, 1:]
    return float(((guesses == wanted) | (wanted == IGNORED)).all(1).float().mean())


def train_base(model: MistralForCausalLM, data: dict[str, Examples], s: ZooSettings) -> None:
    """Train until `s.goal` of a probe is right, then let the rate decay to zero.

    Matrices of the layers are trained by Muon, all other parameters by AdamW.
    """
    matrices = [p for n, p in model.named_parameters() if "layers" in n and p.ndim == 2]
    others = [p for n, p in model.named_parameters() if "layers" not in n or p.ndim != 2]
    muon = Muon(matrices, lr=s.muon_rate)
    adam = torch.optim.AdamW(others, lr=s.adam_rate, betas=(0.9, 0.98), weight_decay=0.0)
    draw, end, held = torch.Generator().manual_seed(s.seed), s.max_base_steps, 1.0
    probe = Examples.join([Examples(d.ids[-100:], d.labels[-100:]) for d in data.values()])
    found = False
    for i in range(s.max_base_steps):
        if i >= end:
            break
        factor = min(1, (i + 1) / 20) * max(0.15, 1 - i / 450)
        factor = held * (end - i) / s.decay_steps if found else factor
        parts = [d.batch(s.base_batch // len(data), draw) for d in data.values()]
        rates = (s.muon_rate * factor, s.adam_rate * factor)
        step(model, (muon, adam), rates, Examples.join(parts))
        if not found and i % 20 == 19 and accuracy(model, probe) >= s.goal:
            found, end, held = True, i + 1 + s.decay_steps, factor
        tell(min(i, s.max_base_steps - 1), total_steps(s))


def train_expert(
    model: MistralForCausalLM, skill: str, data: dict[str, Examples], s: ZooSettings
) -> None:
    """Train the MLP projections by AdamW, mostly on questions of the expert's own skill.

    Each step is taken at a random point between the base and the expert. So a scaled task vector
    works, too, and a merge adds scaled task vectors.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".mlp." in name)
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trained, lr=s.expert_rate, betas=(0.9, 0.98), weight_decay=0.0)
    number = SKILLS.index(skill)
    draw = torch.Generator().manual_seed(s.seed + 1 + number)
    rest = (1 - s.own_share) / (len(data) - 1)
    start = [p.detach().clone() for p in trained]
    masters = [p.detach().clone() for p in trained]
    for i in range(s.expert_steps):
        part = s.least_part + (1 - s.least_part) * float(torch.rand((), generator=draw))
        before = put_between(trained, start, masters, part)
        factor = min(1, (i + 1) / 5) * (1 - i / s.expert_steps)
        parts = [
            d.batch(round(s.expert_batch * (s.own_share if n == skill else rest)), draw)
            for n, d in data.items()
        ]
        step(model, (adam,), (s.expert_rate * factor,), Examples.join(parts))
        with torch.no_grad():
            for parameter, master, old in zip(trained, masters, before, strict=True):
                master += parameter - old
        tell(s.max_base_steps + number * s.expert_steps + i, total_steps(s))
    put_between(trained, start, masters, 1.0)


@torch.no_grad()
def put_between(
    trained: Sequence[Tensor], start: Sequence[Tensor], masters: Sequence[Tensor], part: float
) -> list[Tensor]:
    """Set the parameters to start + part * (masters - start); returns copies of them."""
    for parameter, old, master in zip(trained, start, masters, strict=True):
        parameter.copy_(old + part * (master - old))
    return [parameter.clone() for parameter in trained]


def total_steps(s: ZooSettings) -> int:
    return s.max_base_steps + len(SKILLS) * s.expert_steps


def make_family(folder: Path, s: ZooSettings) -> dict[str, Any]:
    """Make base, experts and tasks. What leaves the zoo's range is made again from the next stream."""
    faults = []
    for attempt in range(s.attempts):
        made = family_of(folder, replace(s, seed=stream_of(s.seed, attempt)))
        if isinstance(made, dict):
            return {**made, "attempt": attempt}
        faults.append(made)
        shutil.rmtree(folder / "tasks")
    raise SystemExit(f"seed {s.seed}: no attempt is in the zoo's range: {'; '.join(faults)}")


def family_of(folder: Path, s: ZooSettings) -> dict[str, Any] | str:
    """Make them from the random numbers of this seed; or in words why they are no zoo."""
    tokenizer = byte_tokenizer()
    pools = {skill: make_pool(skill, s.seed) for skill in SKILLS}
    tasks = write_tasks(folder / "tasks", pools)
    data = {skill: encode(pool.train, tokenizer) for skill, pool in pools.items()}
    asked = {task: asked_in(path, tokenizer) for task, path in tasks.items()}
    torch.manual_seed(s.seed)
    base = new_base(tokenizer)
    train_base(base, data, s)
    low, high = s.base_range
    if not low <= (score := accuracy(base, asked["mixed"])) <= high:
        return f"the base scores {score:.3f}"
    start = {k: v.clone() for k, v in base.state_dict().items()}
    models = {"base": base}
    for skill in SKILLS:
        models[skill] = new_base(tokenizer)
        models[skill].load_state_dict(start)
        train_expert(models[skill], skill, data, s)
    scores = accuracies(models, asked)
    merges = merge_scores(models, asked["mixed"])
    if fault := out_of_range(scores, max(merges.values()), s):
        return fault
    places = {"base": "base", **{skill: f"experts/{skill}" for skill in SKILLS}}
    for name, model in models.items():
        save(model, tokenizer, folder / places[name])
    return {
        "base": places.pop("base"),
        "experts": places,
        "tasks": {name: str(path.relative_to(folder)) for name, path in tasks.items()},
        "accuracy": scores,
        "merges": merges,
    }


def out_of_range(scores: dict[str, dict[str, float]], merged: float, s: ZooSettings) -> str | None:
    """Say why experts and the best merge are no zoo to search in; None where they are one."""
    for skill in SKILLS:
        if (gain := scores[skill][skill] - scores["base"][skill]) < s.least_skill:
            return f"the expert {skill} gains {gain:.3f} on its skill"
    if (gain := merged - max(by_task["mixed"] for by_task in scores.values())) < s.least_gain:
        return f"the best merge gains {gain:.3f}"
    return f"the best merge scores {merged:.3f}" if merged > s.most_merged else None


@torch.no_grad()
def merge_scores(models: dict[str, MistralForCausalLM], asked: Examples) -> dict[str, float]:
    """Scores of a few linear merges, by their weights."""
    states = {name: model.state_dict() for name, model in models.items()}
    base, scratch = states.pop("base"), MistralForCausalLM(models["base"].config)
    found = {}
    for weights in itertools.product(MERGE_WEIGHTS, repeat=len(states)):
        pairs = list(zip(weights, states.values(), strict=True))
        scratch.load_state_dict(
            {k: b + sum(w * (e[k] - b) for w, e in pairs) for k, b in base.items()}
        )
        found["-".join(map(str, weights))] = round(accuracy(scratch, asked), 4)
    return found


def asked_in(path: Path, tokenizer: PreTrainedTokenizerFast) -> Examples:
    """The questions of a task file, dev and test."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return encode([(row["question"], row["answer"]) for row in rows], tokenizer)


def accuracies(
    models: dict[str, MistralForCausalLM], asked: dict[str, Examples]
) -> dict[str, dict[str, float]]:
    """Share of right answers by model and task, over the dev and test lines."""
    return {
        name: {task: round(accuracy(model, e), 4) for task, e in asked.items()}
        for name, model in models.items()
    }
