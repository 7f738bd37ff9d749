"""A run.db in which a value is of another kind: one line with its place, in each command that looks."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.schema import VERSION
from selfdev_engine.engine.records.sound import tables
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.cli.completion import completing
from selfdev_engine.selfdev.export import prepare_export
from selfdev_engine.selfdev.look import compare_runs, diff, show_candidate, show_run, top
from selfdev_engine.selfdev.open_run import open_run
from selfdev_engine.selfdev.report import write_report
from selfdev_engine.selfdev.runs import list_runs

from .report.conftest import make_loop

LOOKS = {
    "show": show_run,
    "show ID": lambda run: show_candidate(run, "i2-4"),
    "top": lambda run: top(run, 5),
    "diff": lambda run: diff(run, "i2-4", "base"),
    "compare": lambda run: compare_runs(run, run),
    "export": lambda run: prepare_export(run, "i2-4", run / "out"),
    "report": write_report,
    "open_run": open_run,
}
COLUMNS = [
    (table, column.name, column.type)
    for table, columns in tables().items()
    for column in columns
    if table not in ("answers", "statistics", "questions")
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return make_loop(tmp_path_factory.mktemp("damaged") / "loop")


@pytest.fixture
def run(kept, tmp_path) -> Path:
    return shutil.copytree(kept, tmp_path / "loop")


def spoil(run: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(run / "run.db")) as db, db:
        assert db.execute(statement, values).rowcount > 0, statement


def said_by(look: Callable[[Path], object], run: Path) -> str | None:
    """What is said of a damaged run; None where what is damaged is not read."""
    try:
        look(run)
    except UsageError as error:
        return str(error)
    return None


def filled(run: Path) -> None:
    """Put a row into each table that the run has none in."""
    with Store.open(run / "run.db") as store:
        store.add_event("warning", text="x")
        store.add_plan("cafe", b"{}")
        store._db.execute("INSERT INTO inputs VALUES ('base', 'b', '[]', '{}')")


@pytest.mark.parametrize(("table", "column", "kind"), COLUMNS)
def test_a_value_of_another_kind_is_one_line(run, table, column, kind):
    filled(run)
    value = "abc" if kind in ("INTEGER", "REAL", "BLOB") else b"\xff\x00"
    # An index or a rowid of its own takes no such value.
    spoil(run, f"UPDATE {table} SET {column} = ? WHERE rowid = 1", value)
    with pytest.raises(UsageError) as found:
        show_run(run)
    said = str(found.value)
    assert f"run.db is damaged: table {table}, column {column}, row with " in said
    assert "belongs; restore the folder from a copy, or start the run again" in said
    assert "\n" not in said
    rows = list_runs(run.parent)
    assert len(rows) == 1 and f"table {table}, column {column}" in rows[0]["error"]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE scores SET score = 9e999", "is inf, where a finite number belongs"),
        ("UPDATE candidates SET seconds = -9e999", "is -inf, where a finite number"),
        ("UPDATE scores SET n = 1.5", "n, row with candidate 'base' and .* is 1.5, where a whole"),
        ("UPDATE candidates SET source = NULL WHERE id = 'i1-0'", "only the base has no program"),
        (
            "UPDATE candidates SET status = 'odd' WHERE id = 'i1-2'",
            "column status, row with id 'i1-2': "
            "it is 'odd', which is no status that this version knows",
        ),
        (
            "UPDATE scores SET correct = 40 WHERE candidate = 'i1-0'",
            "candidate 'i1-0' and split 'dev': "
            "more answers are right than the 20 that were given; restore",
        ),
        (
            "UPDATE scores SET n = 0, correct = 0, strict = 0, flexible = 0",
            "n is 0, and a score is",
        ),
        ("UPDATE scores SET strict = -1", "a count of right answers is below 0"),
        (
            "UPDATE scores SET score = 0.9 WHERE candidate = 'i1-0'",
            "score is 0.9, and 17 of 20 answ",
        ),
        ("UPDATE scores SET low = 0.99", "its interval, 0.99 to .* is none of its score"),
        ("UPDATE candidates SET source = CAST(x'ff' AS TEXT) WHERE id = 'i2-4'", "UTF-8"),
        ("UPDATE answers SET correct = 'abc' WHERE candidate = 'base'", "is 'abc', where 0 or 1"),
        ("UPDATE answers SET idx = x'00' WHERE candidate = 'i2-4' AND idx = 3", "column idx"),
    ],
)
def test_what_no_column_takes_is_said(run, statement, says):
    spoil(run, statement)
    with pytest.raises(UsageError, match=rf"run\.db.*{says}"):
        write_report(run)


def test_no_count_of_a_run_passes_over_what_is_not_known(run):
    spoil(run, "UPDATE candidates SET status = 'odd' WHERE id = 'i1-2'")
    for look in LOOKS.values():
        assert "it is 'odd', which is no status" in (said_by(look, run) or "")
    assert "it is 'odd'" in list_runs(run.parent)[0]["error"]


def test_whoever_looks_is_told(run):
    spoil(run, "UPDATE scores SET score = 'abc'")
    for look in LOOKS.values():
        with pytest.raises(UsageError, match=r"run\.db is damaged: table scores, column score"):
            look(run)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "DELETE FROM answers WHERE candidate = 'i1-0'",
            "0 of 0 are right, and the score counts 1",
        ),
        ("DELETE FROM answers WHERE candidate = 'i1-0' AND idx = 3", "of 19 are right, and the"),
        ("UPDATE answers SET correct = 1 - correct WHERE candidate = 'i1-0' AND idx = 3", "of 20"),
    ],
)
def test_answers_that_do_not_give_their_score_are_said(run, statement, says):
    """By whatever reads them; a score alone costs no look at thousands of answers."""
    spoil(run, statement)
    looks = {
        "show ID": lambda run: show_candidate(run, "i1-0"),
        "top": lambda run: top(run, 100),
        "report": write_report,
        "compare": lambda run: open_run(run).compare("i1-0", "base"),
    }
    for look in looks.values():
        told = said_by(look, run) or ""
        assert (
            "table answers, rows with candidate 'i1-0' and split 'dev': " in told and says in told
        )


def test_a_table_or_a_column_that_is_gone_is_said(run):
    with closing(sqlite3.connect(run / "run.db")) as db, db:
        db.execute("ALTER TABLE candidates DROP COLUMN seconds")
    with pytest.raises(UsageError, match=r"run\.db is damaged: table candidates: .*column seconds"):
        show_run(run)
    with closing(sqlite3.connect(run / "run.db")) as db, db:
        db.execute("ALTER TABLE candidates ADD COLUMN seconds REAL")
        db.execute("DROP TABLE inputs")
    with pytest.raises(UsageError, match=r"run\.db is damaged: it lacks the table inputs"):
        open_run(run)


ODD = {"list": [], "text": "x", "number": 7, "empty": {}, "null": None}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    ("table", "column"), [("settings", "value"), ("iterations", "data"), ("candidates", "linear"),
                          ("candidates", "params"), ("inputs", "files"), ("inputs", "parts")],
)  # fmt: skip
def test_json_of_another_form_is_one_line_or_means_nothing(run, table, column, odd):
    """Never another error: what is read of it is there, or its absence is said."""
    filled(run)
    spoil(run, f"UPDATE {table} SET {column} = ?", json.dumps(ODD[odd]))
    for name, look in LOOKS.items():
        told = said_by(look, run)
        assert told is None or name == "export" or f"is damaged: table {table}" in told
    assert list_runs(run.parent)


def parts(value: object, place: tuple = ()):
    """Yield the place of each value within a value."""
    yield place
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()  # fmt: skip
    for key, one in found:
        yield from parts(one, (*place, key))


@pytest.mark.slow
@pytest.mark.parametrize("odd", ["x", None, "gone"])
@pytest.mark.parametrize("table", ["settings", "iterations"])
def test_every_value_in_a_result_or_an_iteration_may_be_odd(run, table, odd):
    """Each value within the JSON becomes another, or goes: one line, or it is not needed."""
    column = "value" if table == "settings" else "data"
    with closing(sqlite3.connect(run / "run.db")) as db:
        (text,) = db.execute(
            f"SELECT {column} FROM {table} ORDER BY length({column}) DESC"
        ).fetchone()
    for place in list(parts(json.loads(text)))[1:]:
        value = json.loads(text)
        inner = value
        for key in place[:-1]:
            inner = inner[key]
        if odd == "gone":
            del inner[place[-1]]
        else:
            inner[place[-1]] = odd
        spoil(run, f"UPDATE {table} SET {column} = ? WHERE rowid = 1", json.dumps(value))
        for look in (write_report, open_run):
            told = said_by(look, run)
            assert told is None or f"run.db is damaged: table {table}" in told, place


def test_one_damaged_run_does_not_end_ls(run, selfdev):
    shutil.copytree(run, run.parent / "whole")
    spoil(run, "UPDATE scores SET score = 'abc'")
    answer = selfdev("ls", run.parent)
    bad = next(line for line in answer.stdout.splitlines() if "damaged" in line)
    assert answer.code == 0 and "table scores, column score" in bad
    assert any("whole" in line and "best 0." in line for line in answer.stdout.splitlines())
    for words in (["show", run], ["show", run, "best"], ["top", run], ["report", run],
                  ["diff", run, "best", "base"], ["compare", run, "best", "base"],
                  ["export", run, "best", "--out", run / "x"]):  # fmt: skip
        told = selfdev(*words)
        assert told.code == 2 and len(told.stderr.splitlines()) == 1 and not told.stdout, words
        assert "run.db is damaged: table scores, column score, row with" in told.stderr


def test_the_schema_is_the_one_that_is_checked():
    assert VERSION == 7 and tables()["scores"][5].fault.startswith("typeof(score) NOT IN")


def test_an_interval_beside_a_corrected_p_is_explained(run, selfdev):
    """Also of a run whose stored verdict does not say it."""
    assert "p is corrected for all of them (Holm)" in write_report(run).read_text()
    row = {"a": "i2-4", "b": "base", "difference": 0.1, "low": 0.01, "high": 0.2, "p": 0.03}
    row |= {"p_holm": 0.065}
    with Store.open(run / "run.db") as store:
        found = {**store.setting("result"), "verdict": "It is.", "comparisons": [row, row]}
        store.set_setting("result", found)
    assert "It is. Each interval is of its comparison alone" in selfdev("show", run).stdout
    with Store.open(run / "run.db") as store:
        store.set_setting("result", {**found, "comparisons": [row]})
    assert show_run(run)["verdict"] == "It is."


@pytest.mark.parametrize(
    "text", [None, "", "# nothing\n", "[]", "a: [", "\0", "experts: 3", "arms: x"]
)
def test_lost_settings_name_a_way_out(run, text):
    (run / "config.yaml").unlink()
    if text is not None:
        (run / "config.yaml").write_text(text)
    for look in (show_run, write_report, open_run):
        told = said_by(look, run) or ""
        assert told.startswith(f"{run / 'config.yaml'}: ") and "copy that folder's" in told
    assert "copy that folder's config.yaml here" in list_runs(run)[0]["error"]


def test_a_copy_shows_the_score_of_what_it_copies(run, selfdev):
    """Also where that repeats another update, and so has no score of its own."""
    with Store.open(run / "run.db") as store:
        for name, original in (("c1", "i2-4"), ("c2", "i2-1")):
            store.add_candidates([{"id": name, "source": "x", "iteration": 2}])
            store.decide(name, status="copy", duplicate_of=original)
    seen = open_run(run)
    for name, original in (("c1", "i2-4"), ("c2", "i2-1")):
        shown, wanted = show_candidate(run, name), show_candidate(run, original)
        keys = ("score", "n", "test", "against_base")
        assert [shown[k] for k in keys] == [wanted[k] for k in keys] and shown["score"] is not None
        assert seen[name].dev == seen[original].dev and seen[name].test == seen[original].test
        assert f"copy of {original}, whose score it has" in selfdev("show", run, name).stdout
        assert seen.compare(name, "base") == seen.compare(original, "base")
    assert not {"c1", "c2"} & {c.id for c in seen.top(1000)}


def test_a_planted_id_drives_no_terminal(run):
    """In the head of a diff, which is JSON, too, and in what the shell completes."""
    bad = "a\x1b[2J\nb"
    with Store.open(run / "run.db") as store:
        store.add_candidates([{"id": bad, "source": "x"}])
    assert diff(run, bad, "base")["diff"].splitlines()[0] == r"--- a\x1b[2J\nb"
    complete = completing(lambda _: (bad, "ab"))
    found = complete(click.Context(click.Command("x")), click.Argument(["y"]), "a")
    assert [item.value for item in found] == ["ab"]


def test_a_comparison_in_python_wants_two_candidates_and_a_split(run):
    seen = open_run(run)
    with pytest.raises(UsageError, match="both are i2-4; give two candidates"):
        seen.compare("i2-4", "i2-4")
    with pytest.raises(UsageError, match="split: give one of dev, test, not 'tst'"):
        seen.compare("i2-4", "base", "tst")


# ---- a run that was killed before its result


def test_a_run_that_was_cut_off_after_its_test_says_so_everywhere(run, selfdev):
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "iterations: 2\n")
    spoil(run, "DELETE FROM settings WHERE key = 'result'")
    best = show_run(run)["best"]["id"]
    for table in ("scores", "answers"):
        spoil(run, f"DELETE FROM {table} WHERE split = 'test' AND candidate != 'i2-4'")
        spoil(run, f"UPDATE {table} SET candidate = ? WHERE split = 'test'", best)
    page = write_report(run).read_text()
    said = f"The final test was begun and not ended: the best program by dev, {best}, has 0.4"
    assert said in page and "Not tested" not in page
    assert said in show_run(run)["verdict"] and said in selfdev("show", run).stdout
    assert said in open_run(run)._repr_html_() and open_run(run).verdict is None
    assert list_runs(run)[0]["status"] == "unfinished"
    spoil(run, "DELETE FROM scores WHERE split = 'test'")
    assert show_run(run)["verdict"] is None and "Not tested" in write_report(run).read_text()
