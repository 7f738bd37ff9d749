"""Values in config.json that no loader takes: named from the file alone, before an engine starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident.known_kinds import check_names
from selfdev_engine.engine.resident.runnable import check_runnable
from selfdev_engine.engine.weights.agreement import check_agreement, language_part
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.config_types import faults_of_types

TYPES = {  # key -> values that loaders refuse
    "rms_norm_eps": ("1e-6", float("nan"), float("inf"), True, [1e-6, "x"]),
    "rope_theta": ("10000", "x"),
    "attention_dropout": ("0", {}),
    "max_position_embeddings": (256.0, "256", True),
    "head_dim": (24.0, "32"),
    "sliding_window": ("4096", 4096.5),
    "tie_word_embeddings": ("false", 0, 1),
    "attention_bias": ("no", 1),
    "eos_token_id": ("2", 2.0, ["2"], True),
    "hidden_act": (3, ["silu"]),
    "dtype": (32, ["float32"]),
    "intermediate_size": (None,),
    "rope_parameters": ("yarn", {"rope_type": 3}, {"rope_theta": "1e4"}, {"full": {"factor": "8"}}),
    "rope_scaling": (8, {"type": None}, {"type": "linear", "factor": float("nan")}),
}
NAMES = {  # key -> names that nothing knows
    "hidden_act": ("sillu",),
    "rope_parameters": ({"rope_type": "nope"}, {"sliding_attention": {"rope_type": "nope"}}),
    "rope_scaling": ({"type": "nope"},),
    "layer_types": (["full_attention", "a"],),
    "dtype": ("floot32", "bfloat17", "torch.int4"),
}
RIGHT = (
    {"rms_norm_eps": 1, "rope_theta": 1e6, "eos_token_id": [2, 3], "pad_token_id": None},
    {"rope_scaling": {"type": "linear", "factor": 2, "attention_factor": None}},
    {"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.5], "long_factor": [2.0, 3]}},
    {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    {"sliding_window": None, "use_cache": False, "dtype": "torch.bfloat16", "hidden_act": "gelu"},
)


def changed(models: Path, folder: Path, key: str, value: object) -> Checkpoint:
    copy = shutil.copytree(models / "base", folder / "base")
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    return Checkpoint.open(str(copy))


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in TYPES.items() for v in values])
def test_a_value_of_another_type_is_named(small_models, tmp_path, key, value):
    with pytest.raises(UsageError, match=rf"config\.json: {key}.* is .*nothing could load"):
        check_agreement(changed(small_models, tmp_path, key, value))


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in NAMES.items() for v in values])
@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_name_that_nothing_knows_is_named(small_models, tmp_path, key, value, engine):
    found = changed(small_models, tmp_path, key, value)
    check_agreement(found)
    with pytest.raises(UsageError, match=rf"config\.json: {key}.* is '.*', not (known|a dtype)"):
        check_runnable(found, engine)


@pytest.mark.parametrize("config", RIGHT)
def test_what_families_write_passes(config):
    assert not list(faults_of_types(config, needs_all=True))
    check_names(SimpleNamespace(config=config, folder=Path("model")))  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_the_defaults_of_every_family_of_transformers_pass(monkeypatch):
    import huggingface_hub.constants
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    # Some ask the hub for a part of theirs.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    seen = 0
    for kind in CONFIG_MAPPING:
        try:
            config = json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=False))
        # Some need parts, or libraries of their own.
        except (ValueError, ImportError, OSError, StrictDataclassError):
            continue
        rotation = language_part(config).get("rope_parameters")
        if isinstance(rotation, dict) and rotation.get("rope_type") == "axial":
            continue  # of pictures: no model that is asked
        assert not list(faults_of_types(language_part(config), needs_all=False)), kind
        check_names(SimpleNamespace(config=config, folder=Path(kind)))  # pyright: ignore[reportArgumentType]
        seen += 1
    assert seen > 300
