"""Fixtures for all tests: the installed command, and the tiny zoo that `make test` made before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        return json.loads(self.stdout)


@pytest.fixture(scope="session")
def selfdev() -> Callable[..., Answer]:
    """selfdev("merge", ..., cwd=...) -> Answer; the console script, in a process of its own."""

    def call(*words: object, timeout_s: float = 300, **options: Any) -> Answer:
        command = [str(Path(sys.executable).parent / "selfdev-engine"), *map(str, words)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=env, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(autouse=True)
def compiler_of_torch() -> Iterator[None]:
    """Take back the stand-in for torch's compiler that `merge` leaves in a process of its own."""
    name = "torch._dynamo"
    before = sys.modules.get(name)
    yield
    if not hasattr(sys.modules.get(name, before), "__file__"):
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before


@dataclass(frozen=True)
class Zoo:
    """The tiny zoo's paths, absolute."""

    folder: Path
    base: Path
    experts: dict[str, Path]
    generator: Path
    tasks: dict[str, Path]

    @property
    def models(self) -> list[str]:
        """--base and --expert words for a command."""
        experts = [w for name, path in self.experts.items() for w in ("--expert", f"{name}={path}")]
        return ["--base", str(self.base), *experts]


@pytest.fixture(scope="session")
def zoo(selfdev: Callable[..., Answer]) -> Zoo:
    """The tiny zoo, made once and kept in zoo/tiny."""
    folder = REPO / "zoo" / "tiny"
    answer = selfdev("zoo", folder, "--json", timeout_s=900)
    assert answer.code == 0, answer.stderr
    made = answer.json
    return Zoo(
        folder,
        folder / made["base"],
        {name: folder / path for name, path in made["experts"].items()},
        folder / made["generator"],
        {name: folder / path for name, path in made["tasks"].items()},
    )


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two experts of a Llama of a few thousand parameters; a task of six questions."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models")
    vocab = {c: i for i, c in enumerate(["<pad>", "</s>", "?", *"0123456789+= "])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="?"
    )
    config = LlamaConfig(
        vocab_size=len(vocab), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(3)
    base = LlamaForCausalLM(config)
    for name in ("base", "x", "y"):
        if name != "base":
            for key, parameter in base.named_parameters():
                if ".mlp." in key:
                    parameter.data += 0.05 * torch.randn_like(parameter)
        base.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rows = [{"question": f"{i}+{i + 1}=", "answer": str(i)} for i in range(6)]
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
