"""Models that the installed transformers or vLLM does not know: a short line, true, and early where it can be."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident import known_kinds
from selfdev_engine.engine.resident.known_kinds import knows
from selfdev_engine.engine.resident.messages import EngineSettings
from selfdev_engine.engine.resident.model import Model, is_finite
from selfdev_engine.engine.resident.runnable import check_runnable
from selfdev_engine.engine.resident.transformers_engine import TransformersEngine, fault_of
from selfdev_engine.engine.weights.checkpoint import Checkpoint


@pytest.fixture
def base(small_models, tmp_path) -> Path:
    return shutil.copytree(small_models / "base", tmp_path / "base")


def change(folder: Path, name: str = "config.json", **values: object) -> Checkpoint:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return Checkpoint.open(str(folder))


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_kind_that_no_release_here_knows_is_said_by_the_config_alone(base, engine):
    says = r"config\.json: model_type is 'llama9', not known to transformers \d[^;]*"
    newer = change(base, model_type="llama9", transformers_version="99.1")
    with pytest.raises(UsageError, match=rf"{says}by 99\.1\): .*can be merged, but not asked"):
        check_runnable(newer, engine)
    with pytest.raises(UsageError, match=rf"{says}, and code of its own \(auto_map\) is never run"):
        check_runnable(change(base, auto_map={"AutoConfig": "configuration.Own"}), engine)


def test_kinds_that_are_known(monkeypatch):
    """All that transformers maps; and where its tables are not found, the loader decides."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert all(knows("transformers", kind) for kind in CONFIG_MAPPING_NAMES)
    assert not knows("transformers", "foo") and not knows("transformers", "Llama.onfig")
    monkeypatch.setitem(known_kinds.KINDS, "torch", ("no/such/table.py",))
    assert knows("torch", "llama9")
    assert knows("no_such_library", "llama9")


@pytest.mark.engine
def test_kinds_of_vllms_own(base):
    assert knows("vllm", "chatglm") and not knows("transformers", "chatglm")


SETTINGS = {  # a config's change -> what the line says
    "activation": ({"hidden_act": "swigloo"}, r"\(config\.json: hidden_act is 'swigloo'\)"),
    "rotation": ({"rope_parameters": {"rope_type": "foo", "rope_theta": 1e4}}, r"rope_parameters\.rope_type is 'foo'"),
    "dtype": ({"dtype": "bfloat17"}, r"dtype is 'bfloat17'"),
    "end": ({"eos_token_id": "</s>"}, r"'eos_token_id' with value '</s>' doesn't match"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_transformers_does_not_know_is_named(base, name):
    values, says = SETTINGS[name]
    found = change(base, **values)
    with pytest.raises(UsageError, match=rf"transformers .* cannot load it: .*{says}") as error:
        TransformersEngine(found, EngineSettings("transformers"))
    assert len(str(error.value)) < 600 and fault_of(found) is not None


def test_a_tokenizer_of_a_newer_release_is_called_one(base):
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    found = change(base, "tokenizer.json", model={**tokenizer["model"], "type": "SuperBPE"})
    with pytest.raises(UsageError, match=r"its tokenizer is damaged, or of a newer release than"):
        TransformersEngine(found, EngineSettings("transformers"))
    assert (fault := fault_of(found)) and fault.part == "tokenizer"


def test_code_of_a_models_own_is_not_run(base):
    (base / "own.py").write_text("raise SystemExit('it was run')\n")
    found = change(base, model_type="own", auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(UsageError, match=r"needs code of its own \(auto_map\), which is never run"):
        TransformersEngine(found, EngineSettings("transformers"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_with_nan_or_inf_are_not_asked(base, value):
    """As `merge` refuses them; in a tensor that no merge here takes, too."""
    path, name = base / "model.safetensors", "model.norm.weight"
    tensors = load_file(path)
    assert Model(engine_of(base), Checkpoint.open(str(base))).fingerprint
    tensors[name][3] = value
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UsageError, match=rf"safetensors: {re.escape(name)} holds NaN or Inf"):
        Model(engine_of(base), Checkpoint.open(str(base)))


def engine_of(folder: Path) -> TransformersEngine:
    return TransformersEngine(Checkpoint.open(str(folder)), EngineSettings("transformers"))


def test_what_is_finite():
    largest = torch.finfo(torch.float16).max
    assert is_finite(torch.full((4096,), largest, dtype=torch.float16))
    assert is_finite(torch.empty(0)) and is_finite(torch.tensor(torch.inf))
    assert not is_finite(torch.tensor([[0.0, torch.nan]], dtype=torch.bfloat16))


def test_a_good_model_has_no_fault(base):
    assert fault_of(Checkpoint.open(str(base))) is None
