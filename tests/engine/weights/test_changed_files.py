"""Checkpoints that are cut off or rewritten while they are used: named, never a signal or a verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import PartlyDone, UsageError
from selfdev_engine.engine.merge import merge_to_folder
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screen import screen_programs
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.engine.weights.checkpoint import Checkpoint

NAMES = [f"layers.{i}.mlp.up_proj.weight" for i in range(4)]
BODY = "def merge_models(d, device):\n    a, b = d.values()\n    return {}\n"


@pytest.fixture
def models(tmp_path) -> Path:
    """Large enough that tensors have pages of their own: 1 MiB each."""
    for name in ("base", "x", "y"):
        (tmp_path / name).mkdir()
        save_file({n: torch.randn(512, 512) for n in NAMES}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path


def file_of(models: Path, name: str) -> Path:
    return models / name / "model.safetensors"


def rewrite(file: Path) -> None:
    """In place, as older versions of save_file do: cut off, then written anew, of the same size."""
    other = file.with_name("other")
    save_file({n: t + 1 for n, t in load_file(file).items()}, other)
    file.write_bytes(other.read_bytes())


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.rename(file)


HOW = {
    "cut_off": (lambda file: os.truncate(file, 5000), "cut off to 5000 of"),
    "emptied": (lambda file: os.truncate(file, 0), "cut off to 0 of"),
    "rewritten": (rewrite, "written to"),
    "replaced": (replace, "another file has its place"),
    "removed": (lambda file: file.unlink(), "it is gone"),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("victim", ["base", "x"])
def test_a_file_that_changes_during_a_merge_is_named(models, how, victim):
    change, says = HOW[how]

    def progress(done: int, total: int) -> None:
        if done == 1:
            change(file_of(models, victim))

    with pytest.raises(UsageError, match=f"{victim}/model.safetensors: changed while .*{says}"):
        merge_to_folder(
            extract(BODY.format("0.5 * a + b")), base=str(models / "base"),
            experts={n: str(models / n) for n in "xy"}, out=models / "out", progress=progress,
        )  # fmt: skip
    assert not (models / "out").exists()


def test_what_is_mapped_reads_as_zeros_where_the_file_ends(models):
    checkpoint = Checkpoint.open(str(models / "x"))
    mapped = [checkpoint.mapped(name) for name in NAMES]
    whole = mapped[0].clone()
    os.truncate(file_of(models, "x"), checkpoint.entries[NAMES[1]].start)
    assert torch.equal(mapped[0], whole)
    assert not mapped[3].any()
    with pytest.raises(UsageError, match="cut off to"):
        checkpoint.check_unchanged()
    with pytest.raises(UsageError, match="cut off to"):
        checkpoint.tensor(NAMES[0])


UNGUARDED = """
import mmap, os, sys
from selfdev_engine.engine.weights.state import map_file
from pathlib import Path
file = Path(sys.argv[1])
guarded = map_file(file)
with file.open("rb") as stream:
    other = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate(file, 0)
print(guarded[100_000], flush=True)
other[100_000]
"""


def test_other_bus_errors_still_end_a_process(models):
    """The guard is for our maps alone."""
    words = [sys.executable, "-c", UNGUARDED, file_of(models, "x")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "0\n"
    assert done.returncode == -7  # SIGBUS


class Watcher:
    """Does something when the first candidate is decided."""

    def __init__(self, act) -> None:
        self.act = act

    def stage(self, label, total=None) -> None:
        pass

    def update(self, done, total=None) -> None:
        if done:
            self.act()

    def facts(self, look) -> None:
        pass


def test_a_file_that_changes_during_a_screening_ends_it_with_its_name(small_models, tmp_path):
    """Driver and worker have it mapped; both live on, and nothing is kept that was made of it."""
    for name in ("base", "x", "y"):
        (tmp_path / name).mkdir()
        for path in (small_models / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    settings = ScreenSettings(
        base=str(tmp_path / "base"),
        experts={n: str(tmp_path / n) for n in "xy"},
        task=f"jsonl:{small_models / 'task.jsonl'}",
        engine="transformers",
    )
    programs = [(f"p{i}", BODY.format(f"{i + 2} * a.abs() - b")) for i in range(12)]
    file = file_of(tmp_path, "x")
    run, watcher = tmp_path / "run", Watcher(lambda: os.truncate(file, 0))
    with pytest.raises(
        PartlyDone, match=r"x/model\.safetensors: changed while it was in use"
    ) as found:
        screen_programs(programs, settings, run, watcher)
    assert isinstance(found.value.cause, UsageError)
    with Store.read(run / "run.db") as store:
        decided = [c for c in store.candidates() if c.status]
        assert {c.status for c in decided} == {"scored"}
        assert len(decided) < len(programs)
        assert not any("lost" in kind for (kind,) in store._db.execute("SELECT kind FROM events"))
    assert "SIGBUS" not in (run / "engine.log").read_text()
    assert json.loads((tmp_path / "x" / "config.json").read_text())
