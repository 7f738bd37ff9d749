"""`ls`, `show`, `top`, `diff` and `compare RUN1 RUN2`, on runs that were really made."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.output.claim import one_writer
from selfdev_engine.engine.records.candidate import BASE
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.folder import keep_labels
from selfdev_engine.engine.screening.place import LOCK
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.selfdev import cli
from selfdev_engine.selfdev.cli.look import params_text
from selfdev_engine.selfdev.look import compare_runs, diff, show_candidate, show_run, top
from selfdev_engine.selfdev.open_run import open_run
from selfdev_engine.selfdev.runs import find_run, list_runs

STORED = Path(__file__).parents[1] / "engine" / "records" / "runs" / "v5"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with runs/screen and runs/loop, the loop written to last."""
    for at, kind in enumerate(("screen", "loop"), start=1_000_000):
        folder = tmp_path / "runs" / kind
        folder.mkdir(parents=True)
        shutil.copy(STORED / kind / "config.yaml", folder)
        (folder / "run.db").write_bytes(gzip.decompress((STORED / kind / "run.db.gz").read_bytes()))
        os.utime(folder / "run.db", (at, at))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_are_listed_with_their_labels_and_the_newest_first(selfdev, place):
    with Store.open(place / "runs" / "screen" / "run.db") as store:
        settings = ScreenSettings("", {}, "", name="first try", note="with\x1b[2J the old zoo")
        keep_labels(store, settings)
        keep_labels(store, ScreenSettings("", {}, ""))  # a later command without labels
    os.utime(place / "runs" / "screen" / "run.db", (9, 9))
    (place / "runs" / "broken").mkdir()
    (place / "runs" / "broken" / "run.db").write_text("no database")
    (place / "runs" / "empty").mkdir()
    found = {Path(run["run"]).name: run for run in selfdev("ls", "--json").json["runs"]}
    assert list(found) == ["broken", "loop", "screen"]
    assert "error" in found["broken"] and found["screen"]["name"] == "first try"
    assert (found["loop"]["command"], found["loop"]["status"]) == ("run", "done")
    assert found["loop"]["candidates"] == 59 and found["loop"]["best"]["id"] == "i1-10"
    assert found["screen"]["counts"] == {"scored": 2, "duplicate": 1, "rejected": 1}
    text = selfdev("ls", "runs").stdout
    assert "first try: with\\x1b[2J the old zoo" in text and "broken" in text
    assert selfdev("ls", "nowhere").code == 2


def test_a_run_that_is_not_finished_says_so(place):
    with Store.open(place / "runs" / "screen" / "run.db") as store:
        store.add_candidates([{"id": "late", "source": "x"}])
    found = {Path(run["run"]).name: run for run in list_runs(Path("runs"))}
    assert found["screen"]["status"] == "unfinished" and found["screen"]["counts"]["open"] == 1
    with one_writer(Path("runs/screen") / LOCK, "", keep=True):
        assert list_runs(Path("runs/screen"))[0]["status"] == "running"
    assert list_runs(Path("runs/screen"))[0]["status"] == "unfinished"


def test_last_is_the_newest_run_and_is_said(selfdev, place):
    answer = selfdev("show", "last", "--json")
    assert answer.json["run"] == "runs/loop" and "last is runs/loop" in answer.stderr
    shutil.copytree("runs/screen", "last")
    with pytest.raises(UsageError, match="last fits twice"):
        find_run(Path("last"))
    with pytest.raises(UsageError, match=r"holds no run\.db\); did you mean 'runs/loop'"):
        find_run(Path("runs/lop"))
    shutil.rmtree("last")
    shutil.rmtree("runs")
    with pytest.raises(UsageError, match="there is no run in"):
        find_run(Path("last"))


def test_a_look_leaves_the_time_of_a_run(selfdev, place):
    """SQLite makes a file beside a database that is read."""
    with Store.open(place / "runs" / "screen" / "run.db"):
        pass
    os.utime(place / "runs" / "screen" / "run.db", (1_000_000, 1_000_000))
    for words in (["show", "runs/screen"], ["ls"]):
        assert selfdev(*words).code == 0
    assert [run["run"] for run in list_runs(Path("runs"))] == ["runs/loop", "runs/screen"]


def test_a_candidate_is_shown_with_all_that_is_known(selfdev, place):
    found = selfdev("show", "runs/loop", "best", "--json").json
    assert (found["id"], found["status"], found["correct"], found["n"]) == ("i1-10", "scored", 6, 8)
    assert found["test"]["n"] == 4 and found["iteration"] == 1 and found["arm"] == "main"
    assert found["against_base"]["difference"] == pytest.approx(1 / 8)
    assert found["source"].startswith("import torch")
    text = selfdev("show", "runs/loop", "best").stdout
    assert "+0.125 on 8 questions, p = 1" in text and found["source"].strip() in text
    broken = selfdev("show", "runs/screen", "broken").stdout
    assert "rejected (runtime, line 2): NameError" in broken
    assert show_candidate(Path("runs/screen"), "again")["twins"] == ["mean"]
    params = {"density": 0.3, "weights": "1,0 2"}
    assert params_text(params) == "--param density=0.3 --param 'weights=1,0 2'"
    base = show_candidate(Path("runs/loop"), "base")
    assert base["source"] is None and base["against_base"] is None
    wrong = selfdev("show", "runs/loop", "i1-1O", "--json")
    assert wrong.code == 2 and "did you mean" in wrong.json["error"]


def test_a_run_is_shown_at_a_glance(selfdev, place):
    found = show_run(Path("runs/loop"))
    assert sum(found["rejected"].values()) == found["counts"]["rejected"] == 24
    assert found["arms"] == {"main": "i1-10"} and found["verdict"].startswith("On 4 test questions")
    text = selfdev("show", "runs/loop").stdout
    assert "24 rejected" in text and "5 of 8 = 0.625" in text and found["verdict"] in text


def test_the_best_are_ranked_and_compared(selfdev, place):
    found = selfdev("top", "runs/loop", "--n", "4", "--json").json
    rows = found["candidates"]
    assert len(rows) == 4 and found["base"]["correct"] == 5
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    every = top(Path("runs/loop"), 1000)["candidates"]
    assert BASE not in {row["id"] for row in every} and len(every) == 35
    assert rows == every[:4]
    assert all(row["against_base"]["p"] <= 1 for row in every)
    assert len(selfdev("top", "runs/loop", "--n", "4").stdout.splitlines()) == 6
    assert selfdev("top", "runs/loop", "--n", "0").code == 2


def test_the_best_of_one_arm_are_ranked_alone(selfdev, place):
    with Store.open(place / "runs" / "loop" / "run.db") as store:
        half = store.ranking(1000, sampled=True)[1::2]
        every = len(store.ranking(1000, sampled=True))
        store._db.executemany(
            "UPDATE candidates SET arm = 'none' WHERE id = ?", [(name,) for name in half]
        )
        store._db.commit()
    with (place / "runs" / "loop" / "config.yaml").open("a") as config:
        config.write("\narms: {none: {learn: none}}\n")
    ids = {
        arm: [row["id"] for row in top(Path("runs/loop"), 1000, arm)["candidates"]]
        for arm in ("main", "none")
    }
    assert ids["none"] == half and not {*ids["main"]} & {*half}
    assert len(ids["main"]) == every - len(half)
    shown = selfdev("show", "runs/loop", "task_arithmetic-0.2-0.2")
    assert shown.stdout.startswith("task_arithmetic-0.2-0.2  (known before the run)\n")
    found = selfdev("top", "runs/loop", "--arm", "none", "--n", "3", "--json").json["candidates"]
    assert [row["id"] for row in found] == half[:3]
    wrong = selfdev("top", "runs/loop", "--arm", "nome")
    assert wrong.code == 2 and "there are main, none" in wrong.stderr and "'none'" in wrong.stderr


def test_long_ids_head_columns_of_their_own(selfdev, place):
    with Store.open(place / "runs" / "screen" / "run.db") as store:
        store._db.execute("UPDATE candidates SET id = 'task_arithmetic-0.4' WHERE id = 'again'")
    said = selfdev("diff", "runs/screen", "signs", "task_arithmetic-0.4").stdout
    assert "  signs  task_arithmetic-0.4\n" in said or "no linear equivalents" in said


def test_two_programs_are_told_apart(selfdev, place):
    found = selfdev("diff", "runs/screen", "signs", "again", "--json").json
    lines = found["diff"].splitlines()
    assert lines[:2] == ["--- signs", "+++ again"]
    texts = [show_candidate(Path("runs/screen"), name)["source"] for name in ("signs", "again")]
    assert patched(texts[0], found["diff"]) == texts[1].splitlines()
    one, other = (found["linear"][key]["coefficients"] for key in ("first", "second"))
    for expert, change in found["linear"]["difference"].items():
        assert one[expert] + change == pytest.approx(other[expert])
    assert "residual" in selfdev("diff", "runs/screen", "signs", "again").stdout
    same = diff(Path("runs/loop"), "task_arithmetic-0.2-0.2", "task_arithmetic-0.2-0.4")
    assert same["diff"] == "" and same["params"]["second"] == {"weights": "0.2,0.4"}
    with pytest.raises(UsageError, match="both are i1-10"):
        diff(Path("runs/loop"), "best", "i1-10")


def patched(text: str, change: str) -> list[str]:
    """The lines that `patch` makes of a text."""
    Path("old").write_text(text.rstrip("\n") + "\n")
    words = ["patch", "-s", "-o", "new", "old", "-"]
    if not shutil.which("patch"):
        pytest.skip("needs the program patch")
    subprocess.run(words, input=change + "\n", text=True, check=True)
    return Path("new").read_text().splitlines()


def test_two_runs_are_compared(selfdev, place):
    shutil.copytree("runs/screen", "runs/other")
    config = Path("runs/other/config.yaml")
    config.write_text(config.read_text().replace("seed: 0", "seed: 7"))
    found = selfdev("compare", "runs/screen", "runs/other", "--json").json
    assert found["config"] == [{"what": "seed", "first": 0, "second": 7}]
    assert found["paired"]["difference"] == 0 and found["paired"]["n"] == 8
    text = selfdev("compare", "runs/screen", "runs/other").stdout
    assert "seed: 0 and 7" in text and "best against best" in text
    assert compare_runs(Path("runs/loop"), Path("runs/screen"))["paired"]["first"] == "i1-10"
    unlike = selfdev("compare", "runs/loop", "runs/screen").stdout
    assert "that only a `run` or a `screen` has (--json)" in unlike and "not set" not in unlike
    assert selfdev("compare", "runs/screen", "runs/screen").code == 2
    forgot = selfdev("compare", "runs/loop", "best")
    assert forgot.code == 2
    assert "to compare two candidates of runs/loop, name both" in forgot.stderr
    assert selfdev("compare", "last", "best", "base", "--json").json["first"] == "i1-10"


def test_a_programs_words_forge_no_line(selfdev, tmp_path):
    forged = "x\x1b[2J\u2028y"
    (tmp_path / "config.yaml").write_text("base: b\nexperts: {x: x}\n")
    samples = [Sample(i, f"q{i}", "p", "r", "r", True, True, True) for i in range(4)]
    with Store.open(tmp_path / "run.db") as store, store.transaction():
        store.add_candidates([{"id": forged, "source": f"# {forged}"}, {"id": "b", "source": "x"}])
        for name in (forged, "b"):
            store.add_score(name, "jsonl:t", "dev", score_of(samples, "flexible"), samples, {})
            store.decide(name, status="scored", detail=forged)
    for words in (["show", tmp_path], ["show", tmp_path, forged], ["top", tmp_path], ["diff", tmp_path, forged, "b"]):  # fmt: skip
        answer = selfdev(*words)
        assert answer.code == 0 and not {"\x1b", "\u2028"} & set(answer.stdout), words


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_list_of_commands_says_what_they_say(name):
    found = cli.cli.get_command(click.Context(cli.cli), name)
    assert found is not None and found.get_short_help_str(200) == cli.COMMANDS[name][1]


def test_a_misspelt_command_is_known(selfdev):
    wrong = selfdev("mrge", "--json")
    assert wrong.code == 2 and "did you mean 'merge'?" in wrong.json["error"]
    assert "there are doctor" in selfdev("quite-other").stderr


LIGHT = """
import sys
from selfdev_engine.selfdev.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
wrong = {"torch", "transformers", "rich"} & set(sys.modules)
assert not wrong, wrong
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["ls"], ["show", "last"], ["show", "last", "best"], ["top", "last"],
              ["diff", "last", "best", "base"], ["compare", "last", "best", "base"],
              ["compare", "runs/loop", "runs/screen"]],
)  # fmt: skip
def test_looking_loads_no_torch(place, words):
    subprocess.run([sys.executable, "-P", "-c", LIGHT, *words], check=True, capture_output=True)


def completed(words: str) -> set[str]:
    """What the installed command offers to bash after these words."""
    begun = ["selfdev-engine", *words.split(" ")]
    env = {
        **os.environ,
        "_SELFDEV_ENGINE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(begun),
        "COMP_CWORD": str(len(begun) - 1),
    }
    command = str(Path(sys.executable).parent / "selfdev-engine")
    done = subprocess.run([command], env=env, capture_output=True, text=True, check=True)
    return {line.split(",", 1)[1] for line in done.stdout.split()}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sho", {"show"}),
        ("show ", {"last", "runs/loop", "runs/screen"}),
        ("show runs/loop b", {"base", "best"}),
        ("diff last base main", {"main/best"}),
        ("compare runs/loop best bas", {"base"}),
        ("export last bes", {"best"}),
        ("show nowhere b", set()),
        ("merge ti", {"ties"}),
        ("methods ti", {"ties"}),
        ("merge ties --param den", {"density=0.2", "densities=1,1"}),
        ("merge ties --expert a=x --param wei", {"weights=1"}),
        ("merge mine.py --param ", {"alpha=0.5", "beta="}),
        ("screen mine.py --param al", {"alpha=0.5"}),
        ("trace linear --param no", {"normalize=true"}),
        ("merge nowhere --param ", set()),
        ("merge --param ", set()),
        ("eval x --task gs", {"gsm8k"}),
        ("merge ties --backend c", {"cpu"}),
        ("bench gr", {"growth"}),
        ("top --json run", {"runs/loop", "runs/screen"}),
    ],
)
def test_the_shell_completes(place, words, offered):
    Path("mine.py").write_text("def merge_models(d, device, alpha=0.5, beta=None):\n    pass\n")
    assert completed(words) == offered


def test_the_shell_knows_every_row_of_the_benchmark():
    from selfdev_engine.bench.registry import ROWS

    assert set(completed("bench ")) == set(ROWS)


def test_a_folder_that_cannot_be_read_hides_no_other(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Store.open(tmp_path / name / "run.db").close()
    looks = Path.exists
    # The system refuses nothing to root, as which tests may run.

    def refused(path: Path) -> bool:
        if path.parent.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return looks(path)

    monkeypatch.setattr(Path, "exists", refused)
    rows = {Path(row["run"]).name: row for row in list_runs(tmp_path)}
    assert (
        set(rows) == {"a", "b"} and "you may not read it: change its rights" in rows["b"]["error"]
    )


WRONG = {
    "foreign": "it has no tables of a run; name the folder of a run; where this was one, restore it",
    "text": "file is not a database; name the folder of a run",
    "newer": "format 99; this version reads 3 to 7: read it with a newer version of selfdev-engine",
    "folder": "is a folder, where a run has its database, a file; name the folder of a run",
    "refused": "you may not read it: change its rights or its folder's (chmod u+rX), or read it as",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_database_of_a_run_says_what_to_do(place, selfdev, monkeypatch, what):
    run = Path("runs/screen")
    database = run / "run.db"
    if what in ("folder", "text", "foreign"):
        database.unlink()
    if what == "folder":
        database.mkdir()
    elif what == "text":
        database.write_text("hello " * 100)
    elif what in ("newer", "foreign"):
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("CREATE TABLE mine (x)" if what == "foreign" else "PRAGMA user_version = 99")
    else:
        may = os.access
        # The system refuses nothing to root, as which tests may run.
        monkeypatch.setattr(os, "access", lambda p, m: "screen" not in str(p) and may(p, m))
    for look in (
        lambda: show_run(find_run(run)),
        lambda: open_run(run),
        lambda: Store.open(database),
    ):
        with pytest.raises(UsageError, match=re.escape(WRONG[what])):
            look()
    for folder in (run, Path("runs")):
        errors = [row["error"] for row in list_runs(folder) if "error" in row]
        assert len(errors) == 1 and WRONG[what] in errors[0]
