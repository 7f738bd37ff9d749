"""The table of layers' tensors, beside the classes of transformers that it is about."""

from __future__ import annotations

import pytest
from selfdev_engine.engine.weights.families import PARTS, faults_of_family

DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


@pytest.fixture(scope="module")
def layers() -> dict[str, set[str]]:
    """The names of the tensors of one layer of each family, as transformers makes it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    found = {}
    for kind in PARTS:
        given = {"num_layers": 1, "attention_types": [[["global"], 1]]} if kind == "gpt_neo" else {}
        config = AutoConfig.for_model(kind, **given)
        for key in DEPTHS:
            if hasattr(config, key):
                setattr(config, key, 1)
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:1]
        with torch.device("meta"):
            names = AutoModelForCausalLM.from_config(config).state_dict()
        found[kind] = {name.split(".0.", 1)[1] for name in names if ".0." in name}
    return found


def test_a_family_s_own_layers_are_accepted(layers):
    assert {
        kind: list(faults_of_family({"model_type": kind}, names)) for kind, names in layers.items()
    } == {kind: [] for kind in PARTS}


def test_layers_of_other_families_are_refused(layers):
    for kind in PARTS:
        for other, names in layers.items():
            refused = list(faults_of_family({"model_type": kind}, names))
            # Layers that have the same tensors show no difference.
            assert bool(refused) == bool(set(PARTS[kind].split()) ^ set(PARTS[other].split())), (kind, other, refused)  # fmt: skip


def test_biases_that_a_config_names_are_known():
    names = {*PARTS["qwen2"].split()}
    assert list(faults_of_family({"model_type": "llama"}, names))
    assert not list(faults_of_family({"model_type": "llama", "attention_bias": True}, names))
    assert not list(faults_of_family({"model_type": "a family of tomorrow"}, names))
    assert not list(faults_of_family({"model_type": ["llama"]}, names))
