"""Runs of older versions stay readable: one stored folder for each version of run.db.

runs/vN/screen is a screening of four programs, runs/vN/loop a run of two iterations, both on the tiny zoo,
made by the code of that version; only the folders' names were made relative. A change of the schema adds
a migration, and a folder made by the version before it.
"""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.candidate import Status
from selfdev_engine.engine.records.candidate_json import to_json
from selfdev_engine.engine.records.compare import compare_candidates
from selfdev_engine.engine.records.inputs import Input
from selfdev_engine.engine.records.schema import FIRST_VERSION, VERSION
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.folder import completed, open_folder
from selfdev_engine.engine.screening.identity import record_inputs
from selfdev_engine.selfdev import config as run_config
from selfdev_engine.selfdev.report import write_report

RUNS = Path(__file__).with_name("runs")
VERSIONS = [f"v{version}" for version in range(FIRST_VERSION, VERSION)]


@pytest.fixture
def run(tmp_path):
    """run(version, kind): a copy of that run's folder."""

    def copied(version: str, kind: str) -> Path:
        folder = tmp_path / kind
        shutil.copytree(RUNS / version / kind, folder)
        data = (folder / "run.db.gz").read_bytes()
        (folder / "run.db").write_bytes(gzip.decompress(data))
        (folder / "run.db.gz").unlink()
        return folder

    return copied


def test_every_version_has_its_runs():
    assert sorted(path.name for path in RUNS.iterdir()) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_screening_is_read_and_not_changed(run, version):
    folder = run(version, "screen")
    before = (folder / "run.db").read_bytes()
    with Store.read(folder / "run.db") as store:
        found = {c.id: c for c in store.candidates()}
        assert found["mean"].status is Status.DUPLICATE and found["mean"].duplicate_of == "again"
        assert found["broken"].status is Status.REJECTED and found["broken"].rejection
        assert to_json(store, "signs")["n"] == 8
        assert compare_candidates(store, "again", "base").n == 8
        assert store.best() in ("again", "signs")
    write_report(folder)
    assert (folder / "run.db").read_bytes() == before
    assert "signs" in (folder / "report.html").read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_loop_is_read_and_not_changed(run, version):
    folder = run(version, "loop")
    before = (folder / "run.db").read_bytes()
    with Store.read(folder / "run.db") as store:
        assert sorted(store.iterations()) == [1, 2]
        assert len(store.candidates(1)) == len(store.candidates(2)) == 24
        assert len(store.preferences(1)) == {"v5": 24, "v6": 28}.get(version, 40)
        assert {c.arm for c in store.candidates()} == {"main"}
        if version == "v5":
            assert {c.stop_reason for c in store.candidates(1)} == {"end"}
            assert [c.id for c in store.candidates() if c.held_out] == ["i1-2", "i1-3"]
        best = "i1-4" if version == "v6" else "i1-10"
        assert store.score(best, "test").n == 4
        assert compare_candidates(store, best, "base", "test").n == 4
    write_report(folder)
    assert (folder / "run.db").read_bytes() == before


@pytest.mark.parametrize("kind", ["screen", "loop"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_answer_keeps_its_question(run, version, kind):
    """Also where the answers move to other tables: compared with the file as plain SQL reads it."""
    path = run(version, kind) / "run.db"
    with closing(sqlite3.connect(path)) as db:
        columns = "candidate, split, question, prompt, response, extracted, correct, idx"
        wanted = db.execute(f"SELECT {columns} FROM answers ORDER BY rowid").fetchall()
    with Store.open(path) as store:
        keys = (*columns.split(", ")[:-1], "index")
        assert [tuple(sample[key] for key in keys) for sample in store.samples()] == wanted
        (count,) = store._db.execute("SELECT count(*) FROM questions").fetchone()
        assert count == len({row[2:4] for row in wanted}) < len(wanted)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_writes_makes_it_todays(run, version):
    path = run(version, "screen") / "run.db"
    with Store.open(path) as store:
        assert store.candidate("signs").failed_by is None
        assert not list(store.undecided(["signs", "broken", "mean"]))
    with Store.read(path) as store:
        assert store.candidate("signs").status is Status.SCORED


def test_a_folder_that_cannot_be_written_is_read(run):
    folder = run(VERSIONS[0], "screen")
    (folder / "run.db").chmod(0o444)
    folder.chmod(0o555)
    try:
        with Store.read(folder / "run.db") as store:
            assert store.candidate("signs").status is Status.SCORED
    finally:
        folder.chmod(0o755)


def opened(*words) -> None:
    with open_folder(*words):
        pass


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("kind", "fill"), [("screen", completed), ("loop", run_config.completed)])
def test_settings_that_it_did_not_know_have_their_defaults(run, version, kind, fill):
    """So the same command goes on with it; another setting is named."""
    folder = run(version, kind)
    wanted = fill(yaml.safe_load((folder / "config.yaml").read_text()))
    opened(folder, wanted, "resume", fill)
    with pytest.raises(UsageError, match=r"other settings: seed is 0 there and 7 here"):
        opened(folder, {**wanted, "seed": 7}, "resume", fill)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_it_was_scored_with_counts_although_it_recorded_no_inputs(run, version):
    folder = run(version, "screen")
    with Store.open(folder / "run.db") as store:
        made = store.made_with("base")
        now = [Input("engine", "", parts={"version": "vllm 99"})]
        with pytest.raises(UsageError, match=f"by {made['engine']}, and vllm 99 is installed"):
            record_inputs(store, now, folder)
        record_inputs(store, now, folder, accept_engine=True)
        assert store.inputs()["engine"].parts == {"version": "vllm 99"}


def test_a_nested_setting_that_differs_is_named(run):
    folder = run(VERSIONS[0], "loop")
    wanted = run_config.completed(yaml.safe_load((folder / "config.yaml").read_text()))
    other = {**wanted, "dpo": {**wanted["dpo"], "beta": 0.5}}
    with pytest.raises(UsageError, match=r"dpo\.beta is 0\.3 there and 0\.5 here"):
        opened(folder, other, "resume", run_config.completed)
