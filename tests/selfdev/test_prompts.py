"""Prompts: what opens the program stays open, in plain text and in a chat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selfdev_engine.engine.program import extract
from selfdev_engine.selfdev.prompts import in_chat, load_prompt, opening, program_text, stops
from tokenizers import Tokenizer, models, pre_tokenizers

BODY = "\n    return sum(model_dict.values())"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def generator(tmp_path) -> Path:
    """A folder with a tokenizer that has a chat template."""
    tokenizer = Tokenizer(models.WordLevel({"x": 0, "<s>": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "chat_template": TEMPLATE,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_the_default_prompt_opens_a_program_in_a_fence(tmp_path):
    prompt = load_prompt("default", tmp_path)
    assert opening(prompt).startswith("```python\nimport torch\n\ndef merge_models(")
    assert stops(prompt) == ("\n```",)
    for completion in (BODY, BODY + "\n```\n\nThis adds them up."):
        program = extract(program_text(prompt, completion))
        assert program.code.count("def merge_models") == 1
        assert program.code.startswith("import torch")


@pytest.mark.parametrize(
    ("prompt", "completion", "ends"),
    [
        ("Write.\n\nimport torch\n\ndef merge_models(model_dict, device):", BODY, ()),
        ("def merge_models(", "model_dict, device):" + BODY, ()),
        ("Write a function.", "```python\ndef merge_models(model_dict, device):" + BODY, ()),
    ],
)
def test_other_prompts(prompt, completion, ends):
    assert stops(prompt) == ends
    program = extract(program_text(prompt, completion))
    assert program.code.rstrip().endswith("return sum(model_dict.values())")


def test_a_chat_template_holds_the_question_and_leaves_the_program_open(generator):
    plain = load_prompt("default", generator)
    prompt = in_chat(plain, generator)
    assert prompt.startswith("<s><user># Task")
    assert prompt.endswith("</user><assistant>" + opening(plain))
    assert program_text(prompt, BODY) == program_text(plain, BODY)


def test_a_generator_with_its_own_prompt_or_no_template_is_asked_plainly(generator):
    own = generator / "prompt.txt"
    own.write_text("def merge_models(")
    assert in_chat("def merge_models(", generator) == "def merge_models("
    own.unlink()
    config = json.loads((generator / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (generator / "tokenizer_config.json").write_text(json.dumps(config))
    assert in_chat("Write.", generator) == "Write."
