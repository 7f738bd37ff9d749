"""What a merged folder has besides weights, read back; and what never comes along."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from selfdev_engine.engine.errors import MissingExtra, UsageError, WorkerLost
from selfdev_engine.engine.merge import merge_to_folder
from selfdev_engine.engine.output import writer as writer_module
from selfdev_engine.engine.output.companions import Companions
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.resident import check, client
from selfdev_engine.engine.resident.messages import Completion
from selfdev_engine.engine.sandbox.box import Sandbox
from selfdev_engine.engine.trace.settings import TraceSettings, open_sandbox
from selfdev_engine.engine.weights.files import INDEX
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint

PROGRAM = extract("def merge_models(d, device):\n    a, b = d.values()\n    return a + 0.5 * b\n")
UP, DOWN = "layers.0.mlp.up_proj.weight", "layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def sandbox():
    with open_sandbox(TraceSettings()) as box:
        yield box


@pytest.fixture
def models(tmp_path) -> Path:
    for name in ("base", "x", "y"):
        folder = tmp_path / name
        folder.mkdir()
        tensors = {n: torch.randn(3, 4) for n in (UP, DOWN)}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path


def merge(models: Path, sandbox: Sandbox, **more):
    experts = {name: str(models / name) for name in "xy"}
    words = {"base": str(models / "base"), "experts": experts, "out": models / "out", **more}
    return merge_to_folder(PROGRAM, sandbox=sandbox, **words)


def test_all_that_belongs_to_a_model_comes_along_and_nothing_else(models, sandbox):
    base, templates = models / "base", models / "base" / "additional_chat_templates"
    templates.mkdir()
    kept = ("tokenizer.json", "chat_template.jinja", "prompt.txt", "tokenizer.model", "LICENSE")
    left = ("adapter_config.json", "modeling_own.py")
    silently = (".env", "pytorch_model.bin", "tf.h5", "pytorch_model.bin.index.json", "README.md")
    for name in (*kept, *left, *silently):
        (base / name).write_text('{"a": 1}')
    (templates / "tool_use.jinja").write_text("{{ tools }}")
    (templates / "notes.txt").write_text("mine")
    (base / "runs").mkdir()
    (base / "runs" / "events").write_text("mine")
    report = merge(models, sandbox)
    found = {str(p.relative_to(models / "out")) for p in (models / "out").rglob("*") if p.is_file()}
    made = {
        "README.md",
        "selfdev-engine.json",
        "config.json",
        "model.safetensors",
        "merge_program.py",
    }
    assert found == {*kept, *made, "additional_chat_templates/tool_use.jinja"}
    assert [note.split()[2] for note in report.notes] == list(left)
    assert "--trust-remote-code" in report.notes[1]
    merge(models, sandbox, out=models / "second", trust_remote_code=True)
    assert (models / "second" / "modeling_own.py").exists()


def test_links_of_the_hubs_cache_are_followed_and_no_others(tmp_path):
    root = tmp_path / "models--org--m"
    folder, blobs = root / "snapshots" / "0123", root / "blobs"
    (folder / "additional_chat_templates").mkdir(parents=True)
    blobs.mkdir()
    for i, name in enumerate(("config.json", "additional_chat_templates/x.jinja")):
        (blobs / str(i)).write_text("{}")
        (folder / name).symlink_to(os.path.relpath(blobs / str(i), (folder / name).parent))
    assert len(Companions.of(folder).files) == 2
    secret = tmp_path / "secret"
    secret.write_text("password")
    (folder / "vocab.txt").symlink_to(secret)
    with pytest.raises(UsageError, match=r"vocab\.txt: a link that leads out .* to .*secret"):
        Companions.of(folder)
    secret.unlink()
    with pytest.raises(UsageError, match=r"vocab\.txt: a link that leads to no file"):
        Companions.of(folder)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: os.mkfifo(p), "no regular file"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "LFS pointer"),
        (lambda p: p.write_text("<!DOCTYPE html>"), "web page"),
        (lambda p: p.write_text(""), "empty"),
        (lambda p: p.write_text('{"model": {"vocab": {"a": 1, "b'), r"tokenizer\.json: not JSON"),
        (lambda p: p.write_bytes(b"\xef\xbb\xbf{}"), r"tokenizer\.json: not JSON: .*BOM"),
        (
            lambda p: p.with_name("special_tokens_map.json").write_text("{,}"),
            r"special_tokens_map\.json: not JSON",
        ),
        (lambda p: p.symlink_to(p), "leads to no file"),
        (lambda p: p.symlink_to("/dev/zero"), "leads out of the model"),
        (lambda p: p.parent.joinpath("chat_template.jinja").symlink_to("/etc/passwd"), "passwd"),
    ],
)
def test_what_is_no_file_of_the_models_is_refused(models, sandbox, make, says):
    make(models / "base" / "tokenizer.json")
    with pytest.raises(UsageError, match=says):
        merge(models, sandbox)
    assert not (models / "out").exists()


def test_loaders_find_every_tensor_whatever_the_files_are_called(models, sandbox):
    """Shards without an index load nowhere; the merged folder has one."""
    (models / "base" / "model.safetensors").unlink()
    for i, name in enumerate((UP, DOWN)):
        file = models / "base" / f"model-0000{i + 1}-of-00002.safetensors"
        save_file({name: torch.ones(3, 4)}, file)
    merge(models, sandbox)
    where = json.loads((models / "out" / INDEX).read_text())["weight_map"]
    assert where == {
        UP: "model-00001-of-00002.safetensors",
        DOWN: "model-00002-of-00002.safetensors",
    }


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_what_cannot_be_read_back_is_not_done(models, sandbox, monkeypatch, name):
    """As if the disk lost what was written."""
    (models / "base" / "tokenizer.json").write_text("{}")
    write = writer_module.Writer.write

    def write_and_lose(self, progress):
        prints = write(self, progress)
        os.truncate(self.folder / name, 1)
        return prints

    monkeypatch.setattr(writer_module.Writer, "write", write_and_lose)
    with pytest.raises(UsageError, match=name):
        merge(models, sandbox)
    assert not (models / "out").exists()


# ---- --check


def test_check_needs_transformers_and_says_so_first(models, sandbox, monkeypatch):
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"-m pip install .*transformers"):
        merge(models, sandbox, check=True)


def test_check_loads_the_folder_and_asks(small_models, sandbox):
    report = merge(small_models, sandbox, check=True)
    assert report.check and report.check.engine.startswith("transformers")
    assert report.weights_fingerprint == folder_fingerprint(small_models / "out")


def test_check_refuses_what_it_could_not_ask_before_anything_is_merged(
    selfdev, small_models, tmp_path
):
    """A base without a tokenizer, and one that does not go on with a text."""
    for spoil, says in (
        (lambda f: (f / "tokenizer.json").unlink(), "base: has no tokenizer"),
        (
            lambda f: (f / "config.json").write_text(
                '{"model_type": "t5", "is_encoder_decoder": true}'
            ),
            "has an encoder",
        ),
    ):
        base = shutil.copytree(small_models / "base", tmp_path / "base", dirs_exist_ok=True)
        spoil(base)
        words = ("--base", base, "--expert", f"x={small_models / 'x'}", "--out", tmp_path / "out")
        answer = selfdev("merge", "linear", *words, "--check", "--json")
        assert answer.code == 2 and says in answer.json["error"]
        assert "merge ..." not in answer.stderr and not (tmp_path / "out").exists()


class Loaded:
    """A worker that loads, or fails as it is told to."""

    engine = "transformers 0"

    def __init__(self, fault: Exception | None) -> None:
        self.fault = fault

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def open_model(self, key: str, folder: str) -> str:
        if self.fault:
            raise self.fault
        return "cafe"

    def generate(self, *_: object) -> list[Completion]:
        return [Completion("2", "stop", 1)]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (None, "the disk gives back other weights than were written"),
        (UsageError("lm_head.weight: no such tensor"), "does not load: lm_head"),
        (UsageError("{}/config.json: odd"), r"does not load: config\.json: odd"),
        (UsageError("{}: odd"), "does not load: its folder: odd"),
        (WorkerLost("killed"), "ended its process: killed"),
    ],
)
def test_check_says_what_is_wrong(tmp_path, monkeypatch, fault, says):
    if isinstance(fault, UsageError):  # the scratch folder's name helps nobody
        fault = UsageError(str(fault).format(tmp_path))
    monkeypatch.setattr(check.Client, "start", lambda *_: Loaded(fault))
    with pytest.raises(UsageError, match=f"--check: .*{says}"):
        check.check_folder(tmp_path, "0123", tmp_path / "log")
