"""run.db: a step is kept whole or not at all, survives a reopening, and names what it cannot read."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records import database
from selfdev_engine.engine.records.database import is_begun
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store

SAMPLES = [
    Sample(i, f"{i}+1", f"{i}+1=", str(i + 1), str(i + 1), i < 3, i < 2, i < 3) for i in range(4)
]
SCORE = score_of(SAMPLES, "flexible")
KILLED = """
import os, signal, sys
from pathlib import Path
from selfdev_engine.engine.records.store import Store
store = Store.open(Path(sys.argv[1]))
with store.transaction():
    store.add_candidates([{"id": "kept", "source": "x"}])
with store.transaction():
    store.add_candidates([{"id": "lost", "source": "y"}])
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


def test_what_was_written_is_read_again(path):
    with Store.open(path) as store, store.transaction():
        rows = [
            {"id": "b", "source": "text", "params": {"density": 0.5}},
            {"id": "a", "source": ""},
        ]
        store.add_candidates(rows)
        store.add_trace("b", "fused", None, "cafe", 2, 1.5, [0.1, -0.2])
        linear = {"coefficients": {"x": 0.5}, "residual": 0.1}
        store.decide("b", status="scored", linear=linear, weights_fingerprint="f00d", seconds=1.5)
        store.add_score("b", "jsonl:t", "dev", SCORE, SAMPLES, {"engine": "e 1"})
    with Store.open(path) as store:
        b, a = store.candidates()  # in the order given, not by name
        assert (b.id, b.params, b.tier, b.fingerprint) == ("b", {"density": 0.5}, "fused", "cafe")
        assert (b.linear, b.weights_fingerprint, b.seconds) == (linear, "f00d", 1.5)
        assert (a.id, a.status, a.tier) == ("a", None, None)
        assert store.score("b") == SCORE
        assert store.made_with("b") == {"engine": "e 1"}
        assert store.score("a") is None
        assert store.score("b", "test") is None
        lines = list(store.samples())
        assert [line["index"] for line in lines] == [0, 1, 2, 3]
        assert [line["correct"] for line in lines] == [True, True, True, False]
        assert lines[0] | {"candidate": "b", "question": "0+1", "response": "1"} == lines[0]


def test_a_question_is_stored_once_however_many_answer_it(path):
    with Store.open(path) as store, store.transaction():
        for name in ("a", "b", "c"):
            store.add_candidates([{"id": name, "source": name}])
            store.add_score(name, "jsonl:t", "dev", SCORE, SAMPLES, {})
        again = [replace(SAMPLES[0], index=9), replace(SAMPLES[0], index=10, prompt="other")]
        store.add_score("a", "jsonl:t", "test", score_of(again, "flexible"), again, {})
        asked = store._db.execute("SELECT question, prompt FROM questions ORDER BY id").fetchall()
        assert [tuple(row) for row in asked] == [
            *((s.question, s.prompt) for s in SAMPLES),
            ("0+1", "other"),
        ]
        found = list(store.samples())
        assert len(found) == 3 * 4 + 2
        assert [(s["candidate"], s["index"]) for s in found[-2:]] == [("a", 9), ("a", 10)]
        assert store.answers("a", "test") == {("0+1", 0): True, ("0+1", 1): True}
        assert store.answers("b") == {(s.question, 0): s.correct for s in SAMPLES}


def test_a_step_that_fails_leaves_nothing(path):
    def add(store, *names):
        with store.transaction():
            store.add_event("sampled", n=1)
            store.add_candidates([{"id": name, "source": "x"} for name in names])

    with Store.open(path) as store:
        with pytest.raises(sqlite3.IntegrityError):
            add(store, "a", "b", "a")
        assert store.candidates() == []
        add(store, "a", "b")  # and the next step is not hindered
        assert [c.id for c in store.candidates()] == ["a", "b"]


def test_a_kill_in_the_middle_of_a_step_loses_only_that_step(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    with Store.open(path) as store:
        assert [c.id for c in store.candidates()] == ["kept"]
        with store.transaction():
            store.add_candidates([{"id": "next", "source": "z"}])
        assert [c.ordinal for c in store.candidates()] == [0, 1]


def test_a_duplicate_has_the_score_of_the_one_it_points_to(path):
    with Store.open(path) as store:
        store.add_candidates([{"id": "first", "source": "x"}, {"id": "again", "source": "y"}])
        store.add_score("first", "jsonl:t", "dev", SCORE, SAMPLES, {"engine": "e 1"})
        assert store.score("again") is None
        store.decide("again", status="duplicate", duplicate_of="first")
        assert store.score("again") == SCORE


def test_best_is_the_best_program_of_the_loop(path):
    def scored(store, name, correct, iteration=None, source="x"):
        store.add_candidates([{"id": name, "source": source, "iteration": iteration}])
        store.decide(name, status="scored")
        score = replace(SCORE, score=correct / SCORE.n)
        store.add_score(name, "jsonl:t", "dev", score, SAMPLES, {})

    with Store.open(path) as store:
        assert store.best() is None
        scored(store, "base", 2, source=None)
        scored(store, "ties", 1)
        assert store.best() == "ties"
        scored(store, "i0-0", 0, iteration=0)
        scored(store, "i0-1", 1, iteration=0)
        scored(store, "i0-2", 1, iteration=0)
        assert store.best() == "i0-1"
        assert store.best("other") is None


def test_preferences_of_an_iteration_replace_those_of_a_cut_off_try(path):
    with Store.open(path) as store:
        store.set_preferences(1, [("a", "b", False), ("a", "c", True)])
        store.set_preferences(2, [("d", "e", False)])
        store.set_preferences(1, [("x", "y", False)])
        assert store.preferences(1) == [("x", "y", False)]
        assert store.preferences(2) == [("d", "e", False)]
        store.set_iteration(1, {"n": 1})
        store.set_iteration(1, {"n": 2})
        assert store.iterations() == {1: {"iteration": 1, "n": 2}}


def test_an_arm_has_its_own_iterations_and_finds_its_own_candidates_first(path):
    with Store.open(path) as store:
        rows = [{"id": "known", "source": "known"}]
        rows += [
            {"id": f"i1-{i}{at}", "source": f"text {i}", "iteration": 1, "arm": arm}
            for arm, at in (("main", ""), ("other", "@other"))
            for i in range(3)
        ]
        store.add_candidates(rows)
        for row in rows:
            store.decide(row["id"], status="scored")
            store.add_trace(row["id"], "fused", None, row["source"], 0, 1.0, [])
        assert [c.id for c in store.candidates(1)] == ["i1-0", "i1-1", "i1-2"]
        mine = store.candidates(1, "other")
        assert [(c.id, c.arm) for c in mine] == [(f"i1-{i}@other", "other") for i in range(3)]
        assert store.scored_as("text 1", "other") == "i1-1@other"
        assert store.scored_as("text 1", "third") == store.scored_as("text 1") == "i1-1"
        assert store.scored_as("known", "other") == "known"
        near = [name for name, _ in store.scored_near(1, 1, "other")]
        assert near[:4] == ["known", "i1-0@other", "i1-1@other", "i1-2@other"]
        assert store.decided_as(replace(mine[0], id="new")).id == "i1-0@other"
        assert store.decided_as(mine[0]).id == "i1-0"
        store.set_iteration(1, {"n": 1}, "other")
        store.set_preferences(1, [("a", "b", False)], "other")
        assert store.iterations() == {} and store.iterations("other") == {
            1: {"iteration": 1, "n": 1}
        }
        assert store.preferences(1) == [] and len(store.preferences(1, "other")) == 1
        store.hold_out(1, ["i1-0", "i1-1@other"], "other")
        assert [c.id for c in store.candidates() if c.held_out] == ["i1-1@other"]
        store.hold_out(1, ["i1-2@other"], "other")
        assert [c.id for c in store.candidates() if c.held_out] == ["i1-2@other"]


@pytest.mark.parametrize(
    "text", ["a\0b", "\ud800 alone", "'; DROP TABLE candidates; --", "é\u2028"]
)
def test_any_text_a_model_writes_can_be_kept(path, text):
    with Store.open(path) as store:
        store.add_candidates([{"id": "a", "source": text}])
        store.decide("a", status="rejected", kind="syntax", detail="d")
        kept = store.candidates()[0].source
        assert kept == text.replace("\0", "").replace("\ud800", "\\ud800")


def test_readers_look_on_while_a_run_writes(path):
    with Store.open(path) as writer, Store.open(path) as reader:
        writer.add_candidates([{"id": "a", "source": "x"}])
        with writer.transaction():
            writer.add_candidates([{"id": "b", "source": "y"}])
            assert [c.id for c in reader.candidates()] == ["a"]
        assert [c.id for c in reader.candidates()] == ["a", "b"]


def test_files_that_are_no_runs_are_named(path):
    path.write_text("not a database, but long enough to look at " * 40)
    with pytest.raises(UsageError, match=r"run\.db.*not a run's database"):
        Store.open(path)
    os.unlink(path)
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(UsageError, match="a run of format 99; this version reads 3 to 7"):
        Store.open(path)


def test_a_damaged_page_is_one_line_wherever_it_shows(path):
    """The first page is whole, so that the file opens; rows are fetched long after that."""
    with Store.open(path) as store, store.transaction():
        store.add_candidates({"id": f"c{i}", "source": "x" * 50} for i in range(200))
        store.add_event("bug", detail="y" * 10_000)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * len(data[4096:])
    path.write_bytes(data)
    for look in (Store.candidates, Store.counts, Store.events, lambda s: s.candidate("c1")):
        with (
            pytest.raises(UsageError, match=r"run\.db: .*malformed.* damaged"),
            Store.read(path) as store,
        ):
            look(store)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("status", "solved", "is 'solved', which no version knows"),
        ("params", "[1]", "the value is a list of 1, where an object belongs"),
        ("params", "{", "is not JSON"),
        ("linear", "[1]", "the value is a list of 1"),
        ("linear", '{"coefficients": 3, "residual": 0}', "coefficients is 3, where an object"),
        ("linear", '{"coefficients": {"x": "1"}, "residual": 0}', "coefficients.x is '1'"),
    ],
)
def test_a_candidate_of_another_form_is_one_line(path, column, value, says):
    with Store.open(path) as store:
        store.add_candidates([{"id": "a", "source": "x"}])
        store._db.execute(f"UPDATE candidates SET {column} = ?", (value,))
        with pytest.raises(
            UsageError,
            match=f"run.db is damaged: table candidates, column {column}, row with id 'a': .*{says}.*; restore",
        ):
            store.candidates()


def test_look_ups_are_by_index_at_100_000_candidates(path):
    """The statements that the store really sends, as SQLite says it would run them."""
    count, sent = 100_000, list[str]()
    with Store.open(path) as store, store.transaction():
        db = store._db
        store.add_candidates({"id": f"c{i}", "source": "x"} for i in range(count))
        db.execute("UPDATE candidates SET status = 'scored'")
        db.executemany(
            "INSERT INTO traces VALUES (?, 'fused', NULL, ?, 0, ?, '[]', ?)",
            ((f"c{i}", f"{i % 1000 if i % 2 else i}", i / count, 1 - i % 2) for i in range(count)),
        )
        db.execute(
            "INSERT INTO scores SELECT id, 't', 'dev', ordinal % 100, 100, (ordinal % 100) / 100.0, "
            "0, 1, 0, 0, '{}' FROM candidates"
        )
        db.set_trace_callback(sent.append)
        assert store.scored_as("500") == "c500"
        assert store.scored_as("1") is None  # all that have it are duplicates
        assert [name for name, _ in store.scored_near(0.5, 0.500025)] == ["c50000", "c50002"]
        assert [name for name, _ in store.leaders(3)] == ["c99", "c199", "c299"]
        assert store.candidate("c77777") is not None
        assert store.decided_as(store.candidate("c77777")).id == "c0"  # all have one text
        db.set_trace_callback(None)
        plans = {q: [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {q}")] for q in sent}
    assert len(plans) >= 5
    for query, steps in plans.items():
        assert not [step for step in steps if step.startswith("SCAN")], (query, steps)
    used = " ".join(step for steps in plans.values() for step in steps)
    assert all(f"INDEX {name}" in used for name in ("by_fingerprint", "by_norm", "by_score"))


# ---- disks


def test_a_full_disk_is_said_also_at_the_commit(path):
    """What was stored before stays, and the store goes on once there is room."""
    with Store.open(path) as store:
        with store.transaction():
            store.add_candidates([{"id": "kept", "source": "x"}])
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with (
            pytest.raises(UsageError, match=r"run\.db: .*full.*free some space"),
            store.transaction(),
        ):
            store.add_candidates([{"id": "lost", "source": "y" * 100_000}])
        with pytest.raises(UsageError, match=r"run\.db: .*full"):
            store.set_setting("large", "z" * 100_000)
        store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
        with store.transaction():
            store.add_candidates([{"id": "later", "source": "z"}])
        assert [c.id for c in store.candidates()] == ["kept", "later"]


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
def test_a_value_that_is_no_json_is_said(path, text):
    with Store.open(path) as store:
        store.set_setting("seed", 1)
        store.add_candidates([{"id": "a", "source": "x"}])
        store._db.execute("UPDATE settings SET value = ?", (text,))
        store._db.execute("UPDATE candidates SET params = ?", (text,))
    with Store.read(path) as store:
        for read in (lambda: store.setting("seed"), store.candidates):
            with pytest.raises(UsageError, match=r"run\.db is damaged"):
                read()


LIMITED = """
import resource, sys
from pathlib import Path
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.store import Store
with Store.open(Path(sys.argv[1])) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        with store.transaction():
            store.add_candidates({"id": str(i), "source": "y" * 5000} for i in range(300))
    except UsageError as error:
        print(error)
"""


def test_a_disk_that_refuses_is_said(path):
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True)
    assert f"{path}: " in done.stdout and "disk" in done.stdout, done.stderr


@pytest.mark.parametrize("pragma", ["", "PRAGMA journal_mode=WAL"])
def test_a_file_that_a_full_disk_cut_off_before_its_tables_is_no_run_yet(path, pragma):
    path.touch()
    with closing(sqlite3.connect(path)) as db:
        db.execute(pragma)
    assert not is_begun(path) and not is_begun(path.with_name("none"))
    Store.open(path).close()
    assert is_begun(path)
    path.write_text("not a database, but long enough to look at " * 40)
    assert is_begun(path)


def test_what_a_killed_writer_left_in_the_log_is_read_where_nothing_can_be_written(
    path, tmp_path, monkeypatch
):
    """As for a user who may only read: SQLite itself then wants a file beside the database."""
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert (tmp_path / "run.db-wal").stat().st_size
    (tmp_path / "run.db-shm").unlink(missing_ok=True)
    real_connect = database.connect

    def refuse(name, place="", **options):
        if name.endswith("?mode=ro"):
            raise UsageError("unable to open database file")
        return real_connect(name, place, **options)

    monkeypatch.setattr(database, "connect", refuse)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with Store.read(path) as store:
        assert [c.id for c in store.candidates()] == ["kept"]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_score_is_found_by_its_candidate(tmp_path):
    """By an index of splits SQLite would go through all scores, 1.7 ms for each of 10,000."""
    plans = []
    with Store.open(tmp_path / "run.db") as store:
        store.add_candidates([{"id": "a", "source": "x"}])

        def explain(statement: str) -> None:
            if statement.startswith("SELECT") and "FROM scores" in statement:
                plans.append(statement)

        store._db.set_trace_callback(explain)
        store.score("a")
        store.made_with("a")
        store._db.set_trace_callback(None)
        assert len(plans) == 2
        for plan in plans:
            steps = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {plan}")]
            assert any("scores" in step and "candidate=?" in step for step in steps), steps
