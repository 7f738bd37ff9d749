"""What was paid for is kept and printed, whatever fails afterwards."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from selfdev_engine.engine import evaluate, screen
from selfdev_engine.engine.errors import PartlyDone, UsageError, keeping
from selfdev_engine.engine.records import score
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.resident.messages import Completion
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint

BODY = "def merge_models(d, device):\n    a, b = d.values()\n    return {}\n"


class FakeWorker:
    """Answers every question with 0, and says which weights it holds."""

    engine = "fake 1"
    decoding = ""

    def __init__(self, live: str) -> None:
        self.live = live

    @staticmethod
    def start(settings, log=None):
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def open_model(self, key, folder):
        self.opened = folder_fingerprint(folder)
        return self.opened

    def generate(self, key, prompts, sampling, seeds=None, progress=None):
        return [Completion("0", "stop", 1) for _ in prompts]

    def fingerprint(self, key):
        return self.live or self.opened


@pytest.fixture
def evaluated(small_models, monkeypatch):
    """evaluated(live, **options) -> the result, or the PartlyDone that was raised"""

    def run(live: str = "", **options):
        monkeypatch.setattr(FakeWorker, "start", staticmethod(lambda settings: FakeWorker(live)))
        monkeypatch.setattr(evaluate, "Client", FakeWorker)
        task = f"jsonl:{small_models / 'task.jsonl'}"
        words = {"engine": "transformers", **options}
        try:
            return evaluate.evaluate_model(str(small_models / "base"), task, "dev", **words)
        except PartlyDone as error:
            return error

    return run


def full(option, path, *_):
    raise OSError(28, "No space left on device", str(path))


def test_eval_keeps_its_score_where_the_weights_are_not_the_checkpoint_s(evaluated):
    failed = evaluated("cafe")
    assert (failed.result["correct"], failed.result["n"]) == (1, 6)
    assert "did not hold this checkpoint" in str(failed.cause)


def test_eval_keeps_its_answers_where_the_disk_is_full(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "write_file", full)
    failed = evaluated(log_samples=tmp_path / "log.jsonl")
    assert failed.result["correct"] == 1
    assert isinstance(failed.cause, UsageError)
    words, place = str(failed.cause).split("the answers are in ")
    assert "No space left" in words
    rows = [json.loads(line) for line in Path(place).read_text().splitlines()]
    assert [row["response"] for row in rows] == ["0"] * 6
    Path(place).unlink()


def test_eval_writes_the_harness_s_results(evaluated, tmp_path):
    out = tmp_path / "results.json"
    found = evaluated(output=out)
    written = json.loads(out.read_text())
    ((name, row),) = written["results"].items()
    assert row["exact_match,flexible-extract"] == found["flexible"] / 6 == pytest.approx(1 / 6)
    assert row["exact_match_stderr,strict-match"] == pytest.approx(
        statistics.stdev([1, 0, 0, 0, 0, 0]) / 6**0.5
    )
    assert written["n-samples"][name] == {"original": 6, "effective": 6}
    assert written["n-shot"][name] == 0 and written["config"]["model"] == "fake"
    assert evaluated(output=out)["correct"] == 1  # an earlier result is replaced
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(UsageError, match="is no earlier result of this command"):
        evaluated(output=tmp_path / "mine.json")


def test_eval_keeps_its_score_where_the_result_cannot_be_written(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "write_file", full)
    failed = evaluated(output=tmp_path / "results.json")
    assert failed.result["correct"] == 1 and "--output" in str(failed.cause)


def test_an_answer_that_breaks_the_grader_costs_its_own_grade(evaluated, monkeypatch, capsys):
    real = score.grade

    def broken(grading, response, answer):
        if answer == "3":
            raise ZeroDivisionError("a bug")
        return real(grading, response, answer)

    monkeypatch.setattr(score, "grade", broken)
    found = evaluated()
    assert (found["correct"], found["n"]) == (1, 6)
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


class Bar:
    def stage(self, label, total=None):
        pass

    def update(self, done, total=None):
        pass

    def facts(self, look):
        pass


def test_a_screening_keeps_what_it_found(small_models, tmp_path, monkeypatch):
    """What fails after the candidates were scored loses none of them."""
    monkeypatch.setattr(screen, "write_samples", full)
    settings = ScreenSettings(
        base=str(small_models / "base"),
        experts={"x": str(small_models / "x"), "y": str(small_models / "y")},
        task=f"jsonl:{small_models / 'task.jsonl'}",
        engine="transformers",
        log_samples=True,
    )
    bodies = {"first": "a + b", "second": "a - b"}
    programs = [(name, BODY.format(body)) for name, body in bodies.items()]
    with pytest.raises(PartlyDone) as failed:
        screen.screen_programs(programs, settings, tmp_path / "run", Bar())
    assert isinstance(failed.value.cause, OSError)
    found = {c["id"]: c for c in failed.value.result["candidates"]}
    assert [found[n]["status"] for n in bodies] == ["scored", "scored"]
    with Store.read(tmp_path / "run" / "run.db") as store:
        assert store.score("first") and store.score("second") and store.score("base")


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("cause", [UsageError("the disk is full"), ValueError("a bug")])
def test_a_command_prints_its_results_and_then_what_failed(words, cause):
    """With --json both are in the one object."""
    code = f"""
import sys
from selfdev_engine.engine.errors import UsageError, keeping
from selfdev_engine.selfdev.cli.command import command
@command("try", lambda result: f"score {{result['score']}}")
def run():
    with keeping(lambda: {{"score": 0.5}}):
        raise {cause!r}
sys.argv[1:] = {list(words)!r}
run()
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    is_bug = isinstance(cause, ValueError)
    assert done.returncode == (1 if is_bug else 2), done.stderr
    assert str(cause) in done.stderr and ("Traceback" in done.stderr) is is_bug
    if words:
        error = "ValueError: a bug" if is_bug else "the disk is full"
        assert json.loads(done.stdout) == {"score": 0.5, "status": "error", "error": error}
    else:
        assert done.stdout == "score 0.5\n"


def test_nothing_is_kept_before_anything_was_paid_for():
    with pytest.raises(ZeroDivisionError), keeping(lambda: None):
        raise ZeroDivisionError
