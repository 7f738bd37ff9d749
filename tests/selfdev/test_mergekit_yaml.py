"""Reads configurations of mergekit: what each says, and which file, line and key is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.selfdev.cli.merge import merge_command
from selfdev_engine.selfdev.mergekit_yaml import Recipe, read_configuration

MODELS = """models:
- model: a
  parameters: {weight: 1.0, density: 0.5}
- model: b
  parameters:
    weight: 3
    density: 0.25
"""
TIES = MODELS + "merge_method: ties\nbase_model: base\n"
SLICES = """slices:
- sources:
  - {model: a, layer_range: [0, 2]}
  - {model: b, layer_range: [0, 2]}
- sources:
  - {model: a, layer_range: [2, 4]}
  - {model: b, layer_range: [2, 4]}
merge_method: task_arithmetic
base_model: base
parameters: {weight: 0.5}
"""

FILTERS = """models:
- {model: a, parameters: {weight: [{filter: mlp, value: 1}, {value: 0}]}}
- {model: b, parameters: {weight: [{filter: mlp, value: 2}, {value: 0}]}}
merge_method: task_arithmetic
base_model: base
"""


def read(folder: Path, text: str) -> Recipe:
    (folder / "config.yml").write_text(text)
    return read_configuration(folder / "config.yml")


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    return str(caught.value).removeprefix(str(folder / "config.yml"))


# ---- what is read


def test_each_model_keeps_its_own_numbers(tmp_path):
    found = read(tmp_path, TIES + "parameters: {normalize: false, int8_mask: true, lambda: 0.7}\n")
    assert (found.method, found.base) == ("ties", "base")
    assert found.experts == {"a": "a", "b": "b"}
    assert found.params == {
        "weights": "1.0,3.0", "densities": "0.5,0.25", "scale": 0.7, "normalize": False,
    }  # fmt: skip
    assert not found.notes


def test_what_no_model_says_holds_for_all(tmp_path):
    text = "models: [{model: x/a}, {model: y/a, parameters: {weight: 2}}]\nmerge_method: task_arithmetic\n"
    found = read(tmp_path, text + "base_model: base\nparameters: {weight: 0.5, normalize: true}\n")
    assert found.experts == {"a": "x/a", "a-2": "y/a"}
    assert found.params["weights"] == "0.2,0.8"


def test_a_linear_merge_takes_its_first_model_as_the_base(tmp_path):
    found = read(tmp_path, MODELS + "merge_method: linear\n")
    assert (found.base, found.experts) == ("a", {"b": "b"})
    assert (found.method, found.params) == ("task_arithmetic", {"weights": "0.75"})


def test_the_base_among_the_models_is_no_expert(tmp_path):
    found = read(tmp_path, TIES.replace("base_model: base", "base_model: a"))
    assert found.experts == {"b": "b"} and found.params["weights"] == "3.0"


def test_what_a_method_does_not_have_is_said(tmp_path):
    found = read(tmp_path, TIES.replace("ties", "task_arithmetic"))
    assert "models[0].parameters.density: is not used by this method" in found.notes


def test_slices_of_all_layers_are_one_merge(tmp_path):
    found = read(tmp_path, SLICES)
    assert found.layers == 4 and found.params["weights"] == "0.5,0.5"


# ---- what is refused, with the line and the key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TIES + "tokenizer_source: union\n", ":10: tokenizer_source: "),
        (
            TIES.replace("density: 0.25", "densty: 0.25"),
            ":7: models[1].parameters.densty: this method has no such parameter; did you mean 'density'? "
            "it has density, int8_mask, lambda, normalize, rescale, weight",
        ),
        (TIES + "parameters: {normalise: false}\n", "parameters.normalise: this method has no such parameter; did you mean 'normalize'?"),
        (TIES.replace("parameters:\n", "paramters:\n"), ":5: models[1].paramters: unknown key; did you mean 'parameters'?"),
        (TIES.replace("merge_method", "merge_methd"), ":8: merge_methd: unknown key; did you mean 'merge_method'?"),
        (SLICES.replace("sources", "souces", 1), ":2: slices[0].souces: unknown key; did you mean 'sources'?"),
        (SLICES.replace("layer_range", "layer_rang", 1), ":3: slices[0].sources[0].layer_rang: unknown key; did you mean 'layer_range'?"),
        (TIES + "chat_template: llama3\n", ":10: chat_template: "),
        (TIES + "base_modle: x\n", ":10: base_modle: unknown key; did you mean 'base_model'?"),
        (TIES.replace("ties", "slerp"), ":8: merge_method: slerp is not offered here"),
        (TIES.replace("ties", "tis"), ":8: merge_method: no method 'tis'; did you mean 'ties'?"),
        (
            TIES.replace("merge_method: ties\nbase_model: base\n", "merge_method: ties\n"),
            "base_model",
        ),
        (TIES.replace("0.25", "[0, 0.5]"), ":7: models[1].parameters.density: one value"),
        (TIES.replace("0.25", "[{filter: mlp, value: 1}]"), "a filter"),
        (FILTERS.replace("filter: mlp, value: 2", "filter: attn, value: 2"), "a filter"),
        (FILTERS.replace("{value: 0}]", "{value: 1}]", 1), "a filter"),
        (FILTERS.replace("filter: mlp", "filter: '*'"), "a filter"),
        (FILTERS.replace("task_arithmetic", "ties"), "a filter"),
        (TIES.replace("0.25", "1.5"), ":7: models[1].parameters.density: write a number over 0"),
        (
            TIES.replace("weight: 3", "weight: yes"),
            ":6: models[1].parameters.weight: write a number",
        ),
        (TIES.replace("weight: 3", "weight: .inf"), ":6: models[1].parameters.weight"),
        (TIES.replace("    weight: 3\n", ""), ":5: models[1].parameters.weight: is missing"),
        (TIES.replace("model: b", "model: b+lora"), ":4: models[1].model: a model with an adapter"),
        (TIES.replace("model: b", "model: a"), ":4: models[1].model: the model is there twice"),
        (TIES.replace("- model: b", "- modle: b"), ":4: models[1].modle: unknown key; did you mean 'model'?"),
        (TIES + "parameters: {rescale: true}\n", ":10: parameters.rescale: only false"),
        (TIES + "parameters: {lambda: much}\n", ":10: parameters.lambda: write a number"),
        (TIES + "parameters: {normalize: 'no'}\n", ":10: parameters.normalize: write a number"),
        (TIES + "dtype: float8\n", ":10: dtype: write"),
        (
            TIES.replace("ties", "breadcrumbs"),
            ":7: models[1].parameters.density: breadcrumbs has one",
        ),
        (
            MODELS + "merge_method: linear\nparameters: {normalize: false}\n",
            ":9: parameters.normalize",
        ),
        (
            MODELS.replace(" 1.0", " -3") + "merge_method: linear\n",
            ":1: models: the weights add up to 0",
        ),
        (
            TIES.replace(" 1.0", " -3").replace("ties", "task_arithmetic")
            + "parameters: {normalize: true}\n",
            ":1: models: the weights add up to 0, and this method divides by their sum; give others, or normalize: false",
        ),
        (SLICES.replace("[2, 4]", "[1, 3]"), ":6: slices[1].sources[0].layer_range"),
        (
            SLICES.replace("[2, 4]}\nmerge", "[2, 5]}\nmerge"),
            ":7: slices[1].sources[1].layer_range",
        ),
        (SLICES.replace("b, layer_range: [2", "c, layer_range: [2"), ":5: slices[1]: differs"),
        (SLICES + MODELS, "models: write either models or slices"),
        ("merge_method: [ties]\n", ":1: merge_method"),
        ("models: []\nmerge_method: linear\n", ":1: models: write a list"),
        ("a: 1\n", "lacks the key merge_method"),
        ("- 1\n", "not a mergekit configuration"),
        ("a: {\n", "not YAML"),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path, text, said):
    assert said in refused(tmp_path, text)


# ---- the command


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"), Size(), torch.float32, spread=0.02)


def merge(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(merge_command, [str(word) for word in words], standalone_mode=False)
    return done.exit_code, done.output


def configuration(models, **keys) -> str:
    weighted = [
        {"model": str(place), "parameters": {"weight": weight}}
        for place, weight in zip(models.experts.values(), (0.5, 0.3, 0.2), strict=True)
    ]
    return json.dumps({"merge_method": "linear", "models": weighted, **keys})


def test_a_linear_configuration_is_the_mean_of_whole_weights(models, tmp_path):
    file, out = tmp_path / "linear.yaml", tmp_path / "out"
    file.write_text(configuration(models, dtype="float32"))
    code, text = merge(file, "--out", out)
    assert code == 0, text
    experts = [load_file(place / "model.safetensors") for place in models.experts.values()]
    merged, base = (
        load_file(out / "model.safetensors"),
        load_file(models.base / "model.safetensors"),
    )
    for name in base:
        wanted = sum(w * e[name].double() for w, e in zip((0.5, 0.3, 0.2), experts, strict=True))
        moved = (wanted - base[name].double()).norm()
        assert float((merged[name].double() - wanted).norm() / moved) < 2e-5, name


@pytest.mark.parametrize(
    ("keys", "words", "said"),
    [
        ({}, ("--base", "x"), "--base: "),
        ({}, ("--param", "density=1"), "--param: "),
        ({"dtype": "float16"}, (), ":1: dtype: the base is stored in float32"),
    ],
)
def test_the_command_refuses(models, tmp_path, keys, words, said):
    file, out = tmp_path / "linear.yaml", tmp_path / "out"
    file.write_text(configuration(models, **keys))
    code, text = merge(file, "--out", out, *words)
    assert (code, out.exists()) == (2, False) and said in text


def test_a_program_without_a_base_is_told_so(tmp_path):
    code, text = merge("ties", "--expert", "a=a", "--out", tmp_path / "out")
    assert code == 2 and "--base is missing" in text
