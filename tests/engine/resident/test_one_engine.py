"""One engine for the base and for the model that writes programs: neither leaves a trace in the other."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident.alike import are_alike
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import EngineSettings, Sampling
from selfdev_engine.engine.resident.worker import settings_of_next
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint

PROMPTS = [f"{n}+{n}=" for n in range(6)]
DRAWS = Sampling(4, temperature=1.0)


@pytest.fixture
def writer(small_models, tmp_path):
    """A model with the base's shapes and other values in every tensor, as after training."""
    folder = tmp_path / "writer"
    shutil.copytree(small_models / "base", folder)
    tensors = load_file(folder / "model.safetensors")
    changed = {name: (tensor * 1.5 + 0.01).contiguous() for name, tensor in tensors.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_the_base_is_back_after_samples_and_scores_do_not_change(small_models, writer, tmp_path):
    base, seeds = str(small_models / "base"), list(range(len(PROMPTS)))
    settings = EngineSettings(engine="transformers")
    with Client.start(settings, tmp_path / "log") as client:
        prints = client.open_model("target", base)
        first, answers, _ = client.score(b"", PROMPTS, Sampling(4))
        drawn = client.sample("target", str(writer), PROMPTS, DRAWS, seeds)
        there = folder_fingerprint(writer)
        assert client.fingerprint("target") == there != prints
        told = ("target", str(writer), PROMPTS, DRAWS, seeds, ())
        assert client.sample(*told, fingerprint=there) == drawn
        with pytest.raises(UsageError, match="found other weights there than the driver"):
            client.sample(*told, fingerprint=prints)
        assert client.sample("target", str(writer), PROMPTS, DRAWS, seeds) == drawn
        again, same, _ = client.score(b"", PROMPTS, Sampling(4))
        assert (again, same) == (first, answers) and again == prints
        assert client.fingerprint("target") == folder_fingerprint(base)
        # The writer is loaded anew, although it was the last one that was asked for.
        assert client.sample("target", str(writer), PROMPTS, DRAWS, seeds) == drawn
        assert client.sample("target", base, PROMPTS, DRAWS, seeds) != drawn
        assert client.fingerprint("target") == prints
        # In an engine of its own it writes the same.
        client.open_model("generator", str(writer))
        assert client.sample("generator", str(writer), PROMPTS, DRAWS, seeds) == drawn


def test_models_that_differ_in_more_than_weights_are_not_alike(small_models, writer):
    base = Checkpoint.open(str(small_models / "base"))

    def alike() -> bool:
        return are_alike(base, Checkpoint.open(str(writer)))

    assert alike() and are_alike(base, base)
    config = json.loads((writer / "config.json").read_text())
    for change, is_alike in (({"transformers_version": "9"}, True), ({"rope_theta": 7.0}, False)):
        (writer / "config.json").write_text(json.dumps(config | change))
        assert alike() is is_alike
    (writer / "config.json").write_text(json.dumps(config))
    kept = (writer / "tokenizer.json").read_text()
    (writer / "tokenizer.json").write_text(kept + " ")
    assert not alike()
    (writer / "tokenizer.json").write_text(kept)
    (writer / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert not alike()


def test_a_second_engine_has_the_cache_that_is_planned_for_it():
    """The base's, 20 GiB on a card of 80, would not be there again."""
    settings = EngineSettings(cache_bytes=20, second_cache_bytes=5)
    assert settings_of_next(settings, 0).cache_bytes == 20
    assert settings_of_next(settings, 1).cache_bytes == 5
    assert settings_of_next(EngineSettings(cache_bytes=20), 1).cache_bytes == 20
