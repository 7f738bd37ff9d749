"""What commands print for people: a program's words stay in their line."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rich.console import Console
from selfdev_engine.engine.errors import Failure, Rejected, Rejection, UsageError
from selfdev_engine.engine.screening.glance import Glance
from selfdev_engine.selfdev.cli import doctor, progress
from selfdev_engine.selfdev.cli.command import Terminated, command, counted, report_error
from selfdev_engine.selfdev.cli.look import top_table
from selfdev_engine.selfdev.cli.run import how_on, model_table
from selfdev_engine.selfdev.cli.screen import line, rejected_lines, render
from selfdev_engine.selfdev.cli.trace import trace_command

FORGED = "x\nbase                         1.000 [0.999, 1.000]\x1b[2J\x07\u2028end"


def row(**more):
    empty = dict.fromkeys(("score", "low", "high", "duplicate_of", "n", "line", "kind", "detail"))
    return {"id": "p", "status": "rejected", **empty, **more}


@pytest.mark.parametrize("key", ["detail", "id"])
def test_a_programs_words_forge_no_line(key):
    text = line(row(kind="runtime", line=3, **{"detail": "why", key: FORGED}))
    assert text.isprintable() and "\\n" in text and "rejected (runtime), line 3" in text


def test_a_failure_of_ours_has_no_kind():
    text = line(row(status="failed", detail="KeyError: 'ours'"))
    assert text.split() == ["p", "failed:", "KeyError:", "'ours'"]


def test_a_screening_ends_with_counts_and_the_best():
    """Not with a line for each program: there may be thousands."""
    paired = {"n": 8, "difference": 0.125, "p": 0.5}
    numbers = {"correct": 6, "n": 8, "score": 0.75, "low": 0.4, "high": 0.9}
    best = [row(**{**numbers, "id": f"p{i}", "against_base": paired}) for i in range(10)]
    rejected = [row(kind=kind) for kind in ("syntax", "shape", "syntax")]
    scored = [{**one, "status": "scored"} for one in best * 50]
    engine = {"busy_share": 0.5, "swap_share": 0.1, "threads": 1, "workers": 1, "name": "e"}
    text = render({
        "run": "runs/x", "seconds": 3.0, "engine": engine, "notes": [], "top": best,
        "base": numbers, "candidates": [*scored, *rejected, row(status="duplicate"), row(status=None)],
    })  # fmt: skip
    lines = text.splitlines()
    assert lines[0] == (
        "505 programs: 500 scored, 3 rejected, 1 duplicate, 1 not decided (2 syntax, 1 shape)"
    )
    assert lines[2].split() == ["p0", "0.750", "[0.400,", "0.900]", "+0.125", "0.5"]
    assert len(lines) == 17 and "base: 6 of 8 = 0.750" in lines[12]
    assert [line.split() for line in lines[13:16]] == [
        ["p", "rejected", f"({kind})"] for kind in ("syntax", "shape", "syntax")
    ]


def test_only_the_first_rejections_are_told():
    found = rejected_lines([row(kind="shape", line=2, detail="why")] * 5)
    assert len(found) == 4 and found[0].endswith("rejected (shape), line 2: why")
    assert found[3] == "and 2 more: `show RUN ID` says why"


def test_a_long_id_leaves_the_score_in_sight():
    numbers = {"score": 0.75, "low": 0.4, "high": 0.9, "against_base": None}
    table = top_table([row(**numbers, id="x" * 255), row(**numbers, id="y")])
    assert all(len(line) < 80 for line in table) and table[1].startswith("x" * 37 + "...  0.750")


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]")
HOSTILE = "\x1b]0;title\x07 \x9b2J \u202e \ud800 [/red] [bold]"


def hostile_command(what: str) -> click.Command:
    def function() -> dict[str, str]:
        if what == "usage":
            raise UsageError(HOSTILE)
        if what == "rejected":
            raise Rejected(Rejection("runtime", HOSTILE, 3))
        if what == "bug":
            raise KeyError(HOSTILE)
        return {"text": f"first line\n{HOSTILE}"}

    return command("hostile", lambda result: result["text"])(function)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("what", ["usage", "rejected", "bug", "result"])
def test_no_text_drives_the_terminal(capfd, what: str, as_json: bool):
    with pytest.raises(SystemExit):
        hostile_command(what).main(["--json"] if as_json else [], standalone_mode=False)
    out, err = capfd.readouterr()
    assert not CONTROL.search(out) and not CONTROL.search(err)
    assert len(out.splitlines()) == (what == "result") * (1 if as_json else 2) or as_json
    if as_json and what != "bug":
        assert json.loads(out)


def test_rejections_and_failures_are_escaped_wherever_they_go():
    assert not CONTROL.search(Rejection("syntax", HOSTILE).detail)
    assert not CONTROL.search(Failure(f"Traceback\n{HOSTILE}").last_line)


def test_progress_shows_ids_as_they_are(monkeypatch):
    """On a terminal, too: what looks like the markup of `rich` is none."""
    terminal, screen = Console(file=io.StringIO(), force_terminal=True, width=120), io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    with progress.Bar() as bar:
        bar.stage(HOSTILE, 3)
        bar.update(1, label=HOSTILE)
        bar.expect(20)
        leaders, found = [(HOSTILE, "0.5", "[0.4, 0.6]")], {"runtime": 3, "syntax": 1}
        bar.facts(lambda: Glance(6, 10, 2, found, leaders, 0.9, [HOSTILE, "idle"]))
        bar._view.refresh()
    shown = terminal.file.getvalue()
    assert "[/red] [bold]" in shown and "\x07" not in shown and "\x9b" not in shown
    assert "all candidates" in shown and "12/20" in shown and "worker 1: idle" in shown
    assert "ran: 60% of 10.  rejected: runtime 3, syntax 1.  engines busy: 90%." in shown


def test_names_of_experts_are_no_markup():
    row = {"dev": None, "test": None}
    result = {
        "base": row,
        "experts": {HOSTILE: row},
        "baselines": {},
        "best": {"id": HOSTILE, **row},
        "test_looks": 0,
    }
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(model_table(result))
    assert console.export_text().count("[/red] [bold]") == 2


@pytest.mark.parametrize(
    ("number", "word", "text"),
    [(1, "pass", "1 pass"), (2, "pass", "2 passes"), (1, "answer", "1 answer"), (0, "op", "0 ops")],
)
def test_a_number_agrees_with_its_noun(number, word, text):
    assert counted(number, word) == text


def test_only_what_was_begun_is_resumed(tmp_path):
    assert how_on(tmp_path / "run") == "nothing was begun; the same command begins anew"
    (tmp_path / "run.db").touch()
    assert how_on(tmp_path) == "what was done is kept; the same command with --resume goes on"


def test_a_candidate_may_be_undecided():
    assert line(row(status=None)).split() == ["p", "not", "decided"]


WAITING = """
import sys, time
import click
from selfdev_engine.selfdev.cli.command import command, resumable, run_cli
@command("wait", str)
def wait():
    with resumable("the same command goes on"):
        try:
            print("begun", file=sys.stderr, flush=True)
            time.sleep(60)
        finally:
            print("cleaned", file=sys.stderr)
cli = click.Group("cli", {"wait": wait})
sys.argv[1:] = ["wait"]
run_cli(cli)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_ended_cleans_up_and_says_how_to_go_on(number, code):
    # A test that runs in the background of a shell inherits that SIGINT is ignored.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    words = [sys.executable, "-c", listen + WAITING]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr and child.stderr.readline() == "begun\n"
        child.send_signal(number)
        said = child.stderr.read()
    assert child.returncode == code
    assert said == "cleaned\ninterrupted: the same command goes on\n"


def test_sigterm_while_options_are_read_is_no_ctrl_c():
    error = click.Abort()
    error.__cause__ = Terminated()
    assert report_error(error, None) == 143
    assert report_error(click.Abort(), None) == 130


PROGRAM = shlex.quote(str(Path(sys.executable).parent / "selfdev-engine"))
SAID = {
    "closed": (">&-", 0, ""),
    "full": ("> /dev/full", 2, "error: the result cannot be printed: No space left on device"),
    "nobody reads": ("| true", 141, ""),
}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("words", ["methods", "methods --json"])
def test_a_result_that_cannot_be_printed(name, words, tmp_path):
    how, code, line = SAID[name]
    # The reader is gone before the command writes.
    shell = f"set -o pipefail; (sleep 0.2; exec {PROGRAM} {words}) {how}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(line) and done.stderr.count("\n") == bool(line)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_change_nothing(closed):
    shell = f"exec {PROGRAM} methods --json {closed}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stderr == ""
    assert ">&- 2" in closed or "methods" in json.loads(done.stdout)


def test_a_folder_that_is_gone_is_said(tmp_path):
    shell = f"mkdir gone; cd gone; rmdir ../gone; exec {PROGRAM} screen . --base .. --expert y=.. --task jsonl:t --run r"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2 and "the current folder was removed" in done.stderr


def test_doctor_names_a_card_that_cannot_be_used_among_its_checks(monkeypatch):
    """A divided card ended the command before anything else was checked."""

    def cards() -> str:
        raise UsageError("card 0 is divided into parts (MIG): undo it")

    monkeypatch.setattr(doctor, "cards", cards)
    row = doctor.gpu_check(True)
    assert (row["ok"], row["required"]) == (False, False) and "divided" in row["fix"]
    assert "undo it" in doctor.render({"checks": [row]})
    assert doctor.gpu_check(False)["fix"].startswith("needs a CUDA build")


@pytest.mark.parametrize("number", [0, -1, 1001, 10**8])
def test_a_number_of_experts_that_no_trace_ends_with_is_refused(number, capfd):
    words = ["ties", "--shape", "4x4", "--experts", str(number)]
    with pytest.raises(SystemExit) as end:
        trace_command.main(words, standalone_mode=False)
    assert end.value.code == 2
    assert f"--experts {number}: write a number from 1 to 1000" in capfd.readouterr().err
