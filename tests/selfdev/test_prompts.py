"""Prompts: what opens the program stays open, in plain text and in a chat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.program import extract
from selfdev_engine.selfdev.config import load_config
from selfdev_engine.selfdev.prompts import (
    in_chat,
    load_prompt,
    opening,
    program_text,
    prompt_of,
    stops,
)
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


PAPER = Path(__file__).parents[2] / "configs" / "paper-gsm8k.yaml"


def test_the_prompt_tells_the_task_and_the_models_by_name(tmp_path):
    prompt = prompt_of(load_config(PAPER), tmp_path)
    assert "better at word problems of grade-school mathematics than" in prompt
    code = prompt.split("```python\n")[1].split("```")[0]
    names = compile(code, "<prompt>", "exec") and list(load_config(PAPER).experts)
    assert names[0] == "GAIR/Abel-7B-002"
    places = [code.index(f"    {name!r}: torch.rand(shape),\n") for name in names]
    assert places == sorted(places) and "    # fine-tuned for mathematical reasoning" in code
    assert "{{" not in prompt


def test_a_prompt_of_the_users_has_the_variables_too(tmp_path):
    (tmp_path / "ask.txt").write_text("Be good at {{goal}}:\n{{models}}\n{{other}}\n")
    (tmp_path / "c.yaml").write_text(
        "base: org/b\nexperts: {a: org/a, b: {model: org/b, about: knows b}}\ntask: gsm8k\n"
        "generation: {prompt: ask.txt, goal: sums}\n"
    )
    prompt = prompt_of(load_config(tmp_path / "c.yaml"), tmp_path)
    lines = "    'a': torch.rand(shape),\n    # knows b\n    'b': torch.rand(shape),"
    assert prompt == "Be good at sums:\n" + lines + "\n{{other}}"


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


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no\\nuser') }}", "{% if %}", "{{ x.y.z }}"]
)
def test_a_chat_template_that_fails_is_one_line(generator, template):
    config = json.loads((generator / "tokenizer_config.json").read_text())
    place = generator / "tokenizer_config.json"
    place.write_text(json.dumps({**config, "chat_template": template}))
    with pytest.raises(
        UsageError, match=r"chat template fails: .+; .*chat_template: none"
    ) as found:
        in_chat("Write.", generator)
    assert "\n" not in str(found.value)
