"""A worker on another machine makes a trained generator of the first one and an adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import (
    PLACES,
    EngineSettings,
    Folding,
    Json,
    Sampling,
)
from selfdev_engine.engine.resident.process import WorkerProcess
from selfdev_engine.engine.weights.adapter import BEFORE, FIRST, SECOND, update_of
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint

PROMPTS = [f"{n}+{n}=" for n in range(3)]
DRAWS, SEEDS = Sampling(4, temperature=1.0), [1, 2, 3]


class Elsewhere(WorkerProcess):
    """A worker that reads copies of what it is sent; `sent` has the names of the files of each call."""

    def __init__(self, log: Path, copies: Path) -> None:
        super().__init__(log, {})
        self.copies, self.sent = copies, list[list[str]]()

    def send(self, header: Json, payload: bytes = b"", files: Sequence[str] = ()) -> None:
        if files:
            self.sent.append([Path(name).name for name in files])
            folder = Path(files[0]).parent
            copy = self.copies / str(len(self.sent))
            shutil.copytree(folder, copy)
            header = {**header, PLACES: {str(folder): str(copy)}}
        super().send(header, payload)


@pytest.fixture
def trained(small_models, tmp_path) -> Path:
    """The folder of a generator that training left, beside its adapter."""
    factors, tensors = {}, load_file(small_models / "base" / "model.safetensors")
    for name in [name for name in tensors if ".mlp." in name]:
        rows, cols = tensors[name].shape
        first, second = torch.randn(4, cols), torch.randn(rows, 4) / 10
        module = BEFORE + name.removesuffix(".weight")
        factors |= {module + FIRST: first, module + SECOND: second}
        tensors[name] = tensors[name] + update_of(first, second, 0.5)
    shutil.copytree(small_models / "base", tmp_path / "trained")
    save_file(tensors, tmp_path / "trained" / "model.safetensors", {"format": "pt"})
    (tmp_path / "adapter").mkdir()
    save_file(factors, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 2}')
    return tmp_path / "trained"


@pytest.fixture
def there(small_models, tmp_path) -> Iterator[tuple[Client, Elsewhere]]:
    """A worker that has the base, and gets everything else as copies."""
    line = Elsewhere(tmp_path / "log", tmp_path / "copies")
    line.send(EngineSettings(engine="transformers").to_json())
    with Client(line, 300.0) as client:
        client.open_model("target", str(small_models / "base"))
        yield client, line


def asked(client: Client, trained: Path, base: Path) -> list[str]:
    """Have it answer as the trained generator; its answers."""
    adapter = trained.with_name("adapter")
    files = tuple(sorted(str(file) for file in trained.iterdir()))
    folding = Folding(str(base), str(adapter), tuple(sorted(map(str, adapter.iterdir()))))
    told = ("target", str(trained), PROMPTS, DRAWS, SEEDS, files, folder_fingerprint(trained))
    return [answer.text for answer in client.sample(*told, folding)]


def test_the_adapter_is_all_that_travels(small_models, trained, there):
    client, line = there
    base = small_models / "base"
    first = asked(client, trained, base)
    client.restore()
    assert asked(client, trained, base) == first
    assert line.sent == [["adapter_config.json", "adapter_model.safetensors"]] * 2
    assert client.fingerprint("target") == folder_fingerprint(trained)
    with Client.start(EngineSettings(engine="transformers")) as here:
        here.open_model("target", str(base))
        assert asked(here, trained, base) == first
        assert here.fingerprint("target") == folder_fingerprint(trained)


def test_other_weights_than_training_wrote_are_never_asked(small_models, trained, there):
    """Where folding gives another bit the files follow, and come at once from then on."""
    client, line = there
    config = trained.with_name("adapter") / "adapter_config.json"
    config.write_text(json.dumps({"r": 4, "lora_alpha": 2.001}))
    base = small_models / "base"
    first = asked(client, trained, base)
    assert client.fingerprint("target") == folder_fingerprint(trained)
    client.restore()
    assert asked(client, trained, base) == first
    assert ["model.safetensors" in names for names in line.sent] == [False, True, True]
