"""One part of the tiny zoo, in a process of its own:

    python -m selfdev_engine.selfdev.zoo.tiny family|generator FOLDER SETTINGS_JSON

family: a Mistral of about 1 M parameters learns arithmetic until it is half good; three experts go
on from it, one skill each, MLP projections only (so merging the MLPs is the whole story). Weights
are bf16, as those of real checkpoints; results hold after rounding.
generator: a Mistral of about 1.9 M parameters learns the grammar of merge programs.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...engine.sandbox.guard import die_with_parent
from ..prompts import PROMPT_FILE
from .arithmetic import Pool, make_pool, write_tasks
from .arithmetic import SKILLS as SKILL_TABLE
from .grammar import HEAD, program

SKILLS = tuple(SKILL_TABLE)
PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<s>", "</s>")
IGNORED = -100
QUESTION_TOKENS = 14  # <s>99-99=, an answer of 4 characters, </s>


@dataclass(frozen=True)
class ZooSettings:
    """Steps and sizes; the defaults make the zoo of the demo."""

    seed: int = 0
    goal: float = 0.45  # share of training questions that the base gets right before it stops
    max_base_steps: int = 700
    decay_steps: int = 30
    base_batch: int = 63
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    expert_steps: int = 200
    expert_rate: float = 2e-3
    expert_batch: int = 64
    least_part: float = 0.15  # of the way from the base, in an expert's training
    own_share: float = 0.96  # of an expert's examples; the rest keeps the other skills alive
    generator_steps: int = 300
    generator_batch: int = 32
    generator_rate: float = 3e-3
    num_programs: int = 20_000


def tell(done: int, total: int) -> None:
    print(f"step {done} {total}", flush=True)


# ---- the family: base and experts -----------------------------------------------------------------


@dataclass(frozen=True)
class Examples:
    """Token ids of question + answer, and labels of the answer alone; padded."""

    ids: Tensor
    labels: Tensor

    def batch(self, count: int, draw: torch.Generator) -> Examples:
        rows = torch.randint(len(self.ids), (count,), generator=draw)
        return Examples(self.ids[rows], self.labels[rows])

    @staticmethod
    def join(parts: Sequence[Examples]) -> Examples:
        ids = torch.cat([p.ids for p in parts])
        longest = int((ids != PAD).sum(1).max())
        labels = torch.cat([p.labels for p in parts])
        return Examples(ids[:, :longest], labels[:, :longest])


def byte_tokenizer() -> Any:
    """One token a byte, after three special ones; a question begins with <s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIALS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "bos_token", "eos_token"), SPECIALS, strict=True)),
        clean_up_tokenization_spaces=False,
    )


def encode(rows: Sequence[tuple[str, str]], tokenizer: Any) -> Examples:
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


def new_base(vocab: int) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=vocab,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        sliding_window=None,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return MistralForCausalLM(config)


def loss_of(model: Any, examples: Examples) -> Tensor:
    wanted = examples.labels[:, 1:]
    keep = wanted != IGNORED
    hidden = model.model(input_ids=examples.ids, use_cache=False).last_hidden_state[:, :-1][keep]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden), wanted[keep])


def step(model: Any, optimizers: Sequence[Any], rates: Sequence[float], examples: Examples) -> None:
    for optimizer, rate in zip(optimizers, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
    loss_of(model, examples).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    for optimizer in optimizers:
        optimizer.step()


@torch.no_grad()
def accuracy(model: Any, examples: Examples) -> float:
    """Share of answers that greedy decoding gets right to the last token."""
    guesses = model(input_ids=examples.ids).logits[:, :-1].argmax(-1)
    wanted = examples.labels[:, 1:]
    return float(((guesses == wanted) | (wanted == IGNORED)).all(1).float().mean())


def train_base(model: Any, data: dict[str, Examples], s: ZooSettings) -> None:
    """Muon on the layers' matrices, AdamW on the rest, until half good; then the rate decays."""
    matrices = [p for n, p in model.named_parameters() if "layers" in n and p.ndim == 2]
    others = [p for n, p in model.named_parameters() if "layers" not in n or p.ndim != 2]
    muon = torch.optim.Muon(
        matrices, lr=s.muon_rate, weight_decay=0.0, momentum=0.95, adjust_lr_fn="original"
    )
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


def train_expert(model: Any, skill: str, data: dict[str, Examples], s: ZooSettings) -> None:
    """AdamW on the MLP projections; mostly the expert's own skill.

    Each step is taken at a random part of the way from the base, so that a part of the task vector
    works, too: that is what a merge adds.
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
    """Parameters at a part of the way from start to masters; copies of them."""
    for parameter, old, master in zip(trained, start, masters, strict=True):
        parameter.copy_(old + part * (master - old))
    return [parameter.clone() for parameter in trained]


def total_steps(s: ZooSettings) -> int:
    return s.max_base_steps + len(SKILLS) * s.expert_steps


def rounded(model: Any) -> Any:
    """The model as its bf16 checkpoint is, in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return model


def save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    import copy

    copy.deepcopy(model).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_family(folder: Path, s: ZooSettings) -> dict[str, Any]:
    tokenizer = byte_tokenizer()
    pools = {skill: make_pool(skill) for skill in SKILLS}
    tasks = write_tasks(folder / "tasks", pools)
    data = {skill: encode(pool.train, tokenizer) for skill, pool in pools.items()}
    torch.manual_seed(s.seed)
    base = new_base(len(tokenizer))
    train_base(base, data, s)
    start = {k: v.clone() for k, v in rounded(base).state_dict().items()}
    models = {"base": base}
    for skill in SKILLS:
        models[skill] = new_base(len(tokenizer))
        models[skill].load_state_dict(start)
        train_expert(models[skill], skill, data, s)
        rounded(models[skill])
    places = {"base": "base", **{skill: f"experts/{skill}" for skill in SKILLS}}
    for name, model in models.items():
        save(model, tokenizer, folder / places[name], torch.bfloat16)
    return {
        "base": places.pop("base"),
        "experts": places,
        "tasks": {name: str(path.relative_to(folder)) for name, path in tasks.items()},
        "accuracy": accuracies(models, tasks, tokenizer),
    }


def accuracies(models: dict[str, Any], tasks: dict[str, Path], tokenizer: Any) -> dict[str, Any]:
    """By model and task, over all lines, in bf16 as the engines compute."""
    examples = {}
    for task, path in tasks.items():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        examples[task] = encode([(row["question"], row["answer"]) for row in rows], tokenizer)
    return {
        name: {task: round(accuracy(model.bfloat16(), e), 4) for task, e in examples.items()}
        for name, model in models.items()
    }


# ---- the generator ----------------------------------------------------------------------------------


def program_tokenizer(texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIALS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["\n" + text for text in texts] + [HEAD] * 50, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "bos_token", "eos_token"), SPECIALS, strict=True)),
        clean_up_tokenization_spaces=False,
    )


def new_generator() -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=512,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=32,
        max_position_embeddings=512,
        sliding_window=None,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return MistralForCausalLM(config)


def batches(rows: list[list[int]], s: ZooSettings, draw: random.Random) -> Callable[[], list[Any]]:
    """Batches of like length: eight at a time are drawn, sorted and shuffled."""
    waiting: list[list[Any]] = []

    def take() -> list[Any]:
        if not waiting:
            pool = sorted(draw.sample(rows, 8 * s.generator_batch), key=len)
            waiting.extend(
                pool[i : i + s.generator_batch] for i in range(0, len(pool), s.generator_batch)
            )
            draw.shuffle(waiting)
        return waiting.pop()

    return take


def make_generator(folder: Path, s: ZooSettings) -> dict[str, Any]:
    draw = random.Random(s.seed)
    texts = [program(draw) for _ in range(s.num_programs)]
    tokenizer = program_tokenizer(texts[:4000])
    head = tokenizer(HEAD)["input_ids"]
    rows = [head + tokenizer("\n" + text)["input_ids"] + [EOS] for text in texts]
    torch.manual_seed(s.seed)
    model = new_generator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.generator_rate)
    take = batches(rows, s, draw)
    for i in range(s.generator_steps):
        factor = min(1, (i + 1) / 30) * (1 - 0.95 * i / s.generator_steps)
        step(model, (optimizer,), (s.generator_rate * factor,), padded(take(), len(head)))
        tell(i, s.generator_steps)
    save(model, tokenizer, folder / "generator", torch.float32)
    (folder / "generator" / PROMPT_FILE).write_text(HEAD)
    return {"generator": "generator"}


def padded(rows: list[list[int]], prompt: int) -> Examples:
    """Ids and labels of the completions; the prompt is given."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), PAD)
    labels = torch.full((len(rows), longest), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, prompt : len(row)] = torch.tensor(row[prompt:])
    return Examples(ids, labels)


def main() -> None:
    part, folder, words = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    die_with_parent()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings = replace(ZooSettings(), **json.loads(words or "{}"))
    made = {"family": make_family, "generator": make_generator}[part](folder, settings)
    (folder / f"{part}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
