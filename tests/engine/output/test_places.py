"""Nothing of the user's is lost: what is replaced, by whom, and what a result never replaces."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.evaluate import is_log
from selfdev_engine.engine.output.claim import check_free, is_held, one_writer
from selfdev_engine.engine.output.file import write_file
from selfdev_engine.engine.output.folder import (
    check_out,
    exchange,
    put_in_place,
    scratch_beside,
)
from selfdev_engine.engine.output.owned import MARKER, write_marker
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.folder import open_folder
from selfdev_engine.engine.screening.place import check_inputs_apart
from selfdev_engine.engine.weights.selection import Selection

HOLD = """
import sys, time
from pathlib import Path
from selfdev_engine.engine.output.claim import one_writer
with one_writer(Path(sys.argv[1]), "there"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def selection(tmp_path):
    for name in ("base", "x"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        save_file({"a.mlp.up_proj.weight": torch.zeros(2, 3)}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "none"}')
    models = tmp_path / "models"
    return Selection.open(str(models / "base"), {"x": str(models / "x")}, "mlp")


def model_folder(place: Path, *more: str) -> Path:
    place.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", *more):
        (place / name).write_text("{}")
    return place


# ---- one writer


def test_a_lock_ends_with_its_holder_however_it_ends(tmp_path):
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"there: is in use: process {holder.pid} is writing"):
            one_writer(lock, "there").__enter__()
        with pytest.raises(UsageError, match=f"there: is in use: process {holder.pid} is writing"):
            check_free(lock, "there")
        holder.send_signal(signal.SIGKILL)
    with one_writer(lock, "there"):
        assert lock.exists()
    assert not lock.exists()
    check_free(lock, "there")


def test_the_same_folder_by_another_name_is_the_same_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with scratch_beside(tmp_path / "out"), pytest.raises(UsageError, match="in use"):
        scratch_beside(tmp_path / "link").__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_only_our_own_leftovers_are_cleared_away(tmp_path):
    mine = [
        ".out.2024.old",
        ".out.1.selfdev-scratch",
        ".out.5.99999999.x",
        ".out-2.selfdev-scratch-1",
    ]
    for name in [*mine, ".out.selfdev-scratch-abc"]:
        (tmp_path / name).mkdir()
    with scratch_beside(tmp_path / "out"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(mine)


# ---- what --overwrite replaces


def test_inputs_are_never_inside_outputs(tmp_path, selection):
    models, out = tmp_path / "models", tmp_path / "out"
    with pytest.raises(UsageError, match=r"holds an input: the base \(.*base\) is inside"):
        check_out(models, selection, True)
    write_marker(model_folder(out), {})
    (out / "p.py").write_text("")
    with pytest.raises(UsageError, match="holds an input: the program"):
        check_out(out, selection, True, {"the program": out / "p.py"})
    (out / "blob").write_text("")
    (models / "x" / "merges.txt").symlink_to(out / "blob")  # as a hub's snapshots link to blobs
    with pytest.raises(UsageError, match="holds an input: expert x"):
        check_out(out, selection, True)
    with pytest.raises(UsageError, match="holds an input: the data"):
        check_inputs_apart(tmp_path, {"the data": models})


def test_outputs_are_never_inside_models(tmp_path, selection, monkeypatch):
    """Also by a link, and by a path from within."""
    models = tmp_path / "models"
    (tmp_path / "link").symlink_to(models / "x")
    for out, what in (
        (models / "base" / "a" / "b", "the base"),
        (tmp_path / "link" / "a", "expert x"),
    ):
        with pytest.raises(UsageError, match=rf"lies inside the folder of {what} \(.*name a place"):
            check_out(out, selection, False)
    monkeypatch.chdir(models / "base")
    with pytest.raises(UsageError, match="--out merged: lies inside the folder of the base"):
        check_out(Path("merged"), selection, False)
    assert check_out(models / "based", selection, False) is None


def test_a_disk_without_room_is_said_before_anything_is_merged(tmp_path, selection, monkeypatch):
    size = (tmp_path / "models" / "base" / "model.safetensors").stat().st_size
    for total, free, fits in ((0, 0, True), (1 << 30, size, True), (1 << 30, size - 1, False)):
        usage = lambda _, found=(total, total - free, free): shutil._ntuple_diskusage(*found)  # noqa: E731
        monkeypatch.setattr(shutil, "disk_usage", usage)
        if fits:
            check_out(tmp_path / "out", selection, False)
        else:
            with pytest.raises(UsageError, match=r"no space left: .* take 0\.0 MiB"):
                check_out(tmp_path / "out", selection, False)


def put(name: str, text: str = "mine"):
    def change(out: Path) -> None:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)

    return change


STRANGE = {
    name: (put(name), f"holds {name}, which no")
    for name in ("notes.txt", ".git", "thesis.json", "run.db", "model.py", "additional_chat_templates/x.py")
}  # fmt: skip
STRANGE |= {
    "a folder named as a file of models": (put("config.json.d/x"), r"holds config\.json\.d/x"),
    "an empty folder": (lambda out: (out / "plots").mkdir(), "holds plots, which no"),
    "a link to a folder": (lambda out: (out / "data").symlink_to("/tmp"), "holds data, which no"),
    "a name that forges a line": (put("a\nb"), r"holds a\\nb, which no"),
}


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_model_is_not_replaced(tmp_path, selection, name, marked):
    """Neither in a model of others, nor in one that this program merged before."""
    change, says = STRANGE[name]
    out = model_folder(tmp_path / "out")
    if marked:
        write_marker(out, {"program": "p"})
    assert check_out(out, selection, True) is not None
    change(out)
    before = sorted(out.rglob("*"))
    with pytest.raises(UsageError, match=says):
        check_out(out, selection, True)
    assert sorted(out.rglob("*")) == before


def test_a_file_that_was_worked_on_since_is_not_replaced(tmp_path, selection):
    """Also one with a name that models have: a model card, or a template."""
    out = model_folder(tmp_path / "out", "README.md")
    write_marker(out, {})
    (out / "README.md").write_text("my measurements")
    with pytest.raises(UsageError, match=r"README\.md, which was changed since it was merged"):
        check_out(out, selection, True)
    (out / "README.md").unlink()
    assert check_out(out, selection, True) is not None
    put("chat_template.jinja")(out)
    with pytest.raises(UsageError, match=r"chat_template\.jinja, which no merge wrote"):
        check_out(out, selection, True)


@pytest.mark.parametrize("text", ["", "null", "[]", '{"made_by": "selfdev-engine 0.1"}', "\0"])
def test_an_older_or_damaged_marker_lists_nothing(tmp_path, selection, text):
    out = model_folder(tmp_path / "out")
    (out / MARKER).write_text(text)
    assert check_out(out, selection, True) is not None
    put("notes.txt")(out)
    with pytest.raises(UsageError, match=r"holds notes\.txt, which no model folder has"):
        check_out(out, selection, True)


# ---- where nothing can be made


def run_folder(place: Path) -> Path:
    opened(place)
    return place


@pytest.mark.parametrize("name", [".", "..", "../..", "here/../.", "link"])
def test_the_present_folder_stays(tmp_path, selection, monkeypatch, name):
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (inner / "here").mkdir()
    (inner / "here").rmdir()
    monkeypatch.chdir(inner)
    if name == "link":
        (tmp_path / "link").symlink_to(inner)
        name = str(tmp_path / "link")
    with pytest.raises(UsageError, match="is the present folder, or holds it"):
        check_out(Path(name), selection, True)


def test_a_run_that_is_the_present_folder_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(run_folder(tmp_path / "run"))
    opened(Path("."))
    with pytest.raises(UsageError, match="is the present folder"):
        opened(Path("."), "replace")
    assert seed_of(tmp_path / "run") == 0


@pytest.mark.parametrize("name", ["best", "scratch/best", "generators/2/out", "."])
def test_a_result_in_a_run_or_in_another_result_is_refused(tmp_path, selection, name):
    """Both are deleted by --overwrite, and a run clears its scratch folder."""
    run, merged = run_folder(tmp_path / "run"), model_folder(tmp_path / "merged")
    write_marker(merged, {})
    for place, says in ((run, "lies in the folder of a run"), (merged, "lies in a merged model")):
        if name != ".":
            with pytest.raises(UsageError, match=says):
                check_out(place / name, selection, True)
            with pytest.raises(UsageError, match=says):
                opened(place / name)
    for place in (".x.selfdev-scratch-1/out", ".run.selfdev-replaced-1"):
        with pytest.raises(UsageError, match=r"names? of folders that are deleted"):
            check_out(tmp_path / place, selection, True)


def test_what_others_put_into_a_run_is_not_deleted_with_it(tmp_path):
    run = run_folder(tmp_path / "run")
    for name in ("samples.jsonl", "report.html", "engine.log", "config.yaml.77", "run.db-wal"):
        put(name)(run)
    put("scratch/updates-ab.safetensors")(run)
    for name in ("generators/2/model.safetensors", "generators/3.partial/x", "generators/4.log"):
        put(name)(run)
    for name in ("adapters/2/adapter_model.safetensors", "adapters/3.partial/training.json"):
        put(name)(run)
    for name in ("arms/sft/adapters/2/x", "arms/sft/generators/2/x"):
        put(name)(run)
    put("transfers/0123456789ab/run.db")(run)
    opened(run, "replace", seed=1)
    for name in (
        *("thesis.tex", "scratch/plot.png", "generators/notes", "best/model.safetensors"),
        *("transfers/0123456789ab/mine", "transfers/mine/run.db", "arms/notes"),
    ):
        put(name)(run)
        with pytest.raises(UsageError, match=f"holds {name}, which no run wrote"):
            opened(run, "replace", seed=2)
        assert (run / name).read_text() == "mine" and seed_of(run) == 1
        (run / name).unlink()
        for left in {run / "best", run / "transfers" / "mine"} & {(run / name).parent}:
            left.rmdir()


def test_a_readme_alone_is_no_model(tmp_path, selection):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("my project")
    with pytest.raises(UsageError, match=r"holds README.md"):
        check_out(tmp_path / "out", selection, True)


def test_what_appears_meanwhile_stays(tmp_path, selection):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    for appear in (lambda: model_folder(out), lambda: out.write_text("mine")):
        replaced = check_out(out, selection, False)
        fresh.mkdir()
        (fresh / "config.json").write_text("new")
        appear()
        with pytest.raises(UsageError, match=r"left as it is; the merged model is .*out-2"):
            put_in_place(fresh, out, replaced)
        kept = tmp_path / "out-2"
        assert (kept / "config.json").read_text() == "new"
        for path in (kept, out):
            subprocess.run(["rm", "-r", path], check=True)


def test_a_folder_that_changes_meanwhile_is_not_replaced(tmp_path, selection):
    out, fresh = model_folder(tmp_path / "out"), model_folder(tmp_path / "fresh")
    replaced = check_out(out, selection, True)
    (out / "results.csv").write_text("mine")
    with pytest.raises(UsageError, match="changed by others"):
        put_in_place(fresh, out, replaced)
    assert (out / "results.csv").read_text() == "mine"


@pytest.mark.parametrize("has_exchange", [True, False])
def test_two_folders_swap(tmp_path, monkeypatch, has_exchange):
    if not has_exchange:
        monkeypatch.setattr("ctypes.CDLL", lambda *a, **k: None)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "name").read_text() == "a"
    assert (tmp_path / "a").exists() == has_exchange


# ---- runs


def opened(folder: Path, existing="resume", seed=0, fails=False, begins=True) -> None:
    with open_folder(folder, {"seed": seed}, existing, dict) as begun:
        with Store.open(folder / "run.db") as store:
            store.set_setting("seed", seed)
        if begins:
            begun()
        if fails:
            raise UsageError("it fails")


def seed_of(folder: Path) -> object:
    with Store.read(folder / "run.db") as store:
        return store.setting("seed")


def test_a_run_has_one_writer_and_any_number_of_readers(tmp_path):
    run = tmp_path / "run"
    with open_folder(run, {"seed": 0}, "resume", dict):
        for existing in ("resume", "replace", "refuse"):
            with pytest.raises(UsageError, match=f"in use: process {os.getpid()}"):
                opened(run, existing)
    opened(run)
    with open_folder(run, {"seed": 0}, "resume", dict):
        assert seed_of(run) == 0


@pytest.mark.parametrize("name", ["config.yaml", "run.db", "thesis.tex"])
def test_only_a_run_is_replaced_or_gone_on_with(tmp_path, name):
    (tmp_path / name).write_text("years of work")
    for existing in ("resume", "replace", "refuse"):
        with pytest.raises(UsageError, match=r"holds files, but no run \(run\.db\)"):
            opened(tmp_path, existing)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "years of work"


def test_an_old_run_comes_back_unless_the_new_one_has_begun(tmp_path):
    run = tmp_path / "run"
    opened(run, seed=1)
    with pytest.raises(UsageError, match="it fails"):
        opened(run, "replace", seed=2, fails=True, begins=False)
    assert seed_of(run) == 1
    with pytest.raises(UsageError, match="it fails"):
        opened(run, "replace", seed=2, fails=True)
    assert seed_of(run) == 2
    opened(run, "replace", seed=3)
    assert seed_of(run) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_old_run_comes_back_after_a_kill(tmp_path):
    run = tmp_path / "run"
    opened(run, seed=1)
    run.rename(tmp_path / ".run.selfdev-replaced-123")  # killed before there was a new one
    opened(run, seed=1)
    assert seed_of(run) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


# ---- single files


def test_a_file_of_somebody_elses_is_never_replaced(tmp_path):
    place = tmp_path / "task.jsonl"
    place.write_text('{"question": "1+1=", "answer": "2"}\n')
    with pytest.raises(UsageError, match=r"task\.jsonl: is there already"):
        write_file("--log-samples", place, "{}\n", is_log)
    assert "1+1" in place.read_text()
    log = '{"prompt": "p", "response": "r", "strict": true, "candidate": "m"}\n'
    for text in (log, log * 2):
        write_file("--log-samples", tmp_path / "log", text, is_log)
        assert (tmp_path / "log").read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "task.jsonl"]


def test_a_writer_waits_for_one_who_only_looks(tmp_path):
    lock = tmp_path / "lock"
    lock.touch()
    with lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with one_writer(lock, "it"):
            assert is_held(lock)
