"""What a model's folder holds besides weights, where a stranger has made the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.output.companions import Companions


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.jinja").write_text("password")
    return folder


def test_a_folder_of_templates_that_is_a_link_gives_nothing_away(model):
    (model / "additional_chat_templates").symlink_to(model.parent / "secret")
    with pytest.raises(UsageError, match=r"key\.jinja: a link that leads out"):
        Companions.of(model)


def test_a_chain_of_links_is_followed_to_its_end(model):
    (model / "a.txt").symlink_to("b.txt")
    (model / "b.txt").symlink_to("config.json")
    assert set(Companions.of(model).files) == {"a.txt", "b.txt", "config.json"}
    (model / "b.txt").unlink()
    (model / "b.txt").symlink_to(model.parent / "secret" / "key.jinja")
    with pytest.raises(UsageError, match="leads out"):
        Companions.of(model)


@pytest.mark.parametrize(
    "target", ["../model2/x", "../secret/key.jinja", "/proc/self/environ", "/"]
)
def test_a_link_out_of_the_folder_is_refused(model, target: str):
    """Also to a neighbour whose name begins like the model's."""
    neighbour = model.parent / "model2"
    neighbour.mkdir()
    (neighbour / "x").write_text("theirs")
    (model / "vocab.txt").symlink_to(target)
    if target == "/":  # A link to a folder is no companion at all.
        assert set(Companions.of(model).files) == {"config.json"}
        return
    with pytest.raises(UsageError, match="leads out"):
        Companions.of(model)


def test_blobs_count_for_a_snapshot_of_that_repository_only(tmp_path):
    ours, theirs = tmp_path / "models--org--a", tmp_path / "models--org--b"
    for root in (ours, theirs):
        (root / "snapshots" / "1").mkdir(parents=True)
        (root / "blobs").mkdir()
        (root / "blobs" / "x").write_text("{}")
    folder = ours / "snapshots" / "1"
    (folder / "config.json").symlink_to("../../blobs/x")
    assert set(Companions.of(folder).files) == {"config.json"}
    (folder / "tokenizer.json").symlink_to(theirs / "blobs" / "x")
    with pytest.raises(UsageError, match=r"tokenizer\.json: a link that leads out"):
        Companions.of(folder)


def test_blobs_outside_a_hub_repository_do_not_count(model):
    (model.parent / "blobs").mkdir()
    (model.parent / "blobs" / "x").write_text("{}")
    (model / "vocab.txt").symlink_to("../blobs/x")
    with pytest.raises(UsageError, match="leads out"):
        Companions.of(model)


def test_names_are_only_names(model, tmp_path):
    """Odd names are copied as they are, into the new folder and nowhere else."""
    names = ("a\nb.txt", "\x1b[2J.txt", "$(id).txt", "-rf.txt", "..txt", "ü.txt")
    for name in names:
        (model / name).write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    Companions.of(model).copy(out)
    found = {path.name for path in out.iterdir()}
    assert found == {"config.json", *(n for n in names if not n.startswith("."))}
    assert sorted(os.listdir(tmp_path)) == ["model", "out", "secret"]
