"""What `run --report-to` tells: the figures of run.db, once each; a missing library is said at once."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from selfdev_engine.engine.errors import MissingExtra, UsageError
from selfdev_engine.engine.records.candidate import Status
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev import mirror
from selfdev_engine.selfdev.mirror import Figure, Mirror, check_report_to, figures_in
from selfdev_engine.selfdev.train import LOG_EVERY

OLD = Path(__file__).parents[1] / "engine" / "records" / "runs" / "v5" / "loop" / "run.db.gz"
TRAINING = {
    "loss": [0.7, 0.6],
    "margin_nats": [0.1, 0.4],
    "holdout_loss": [[10, 0.65]],
    "steps": 10,
}


@pytest.fixture
def store(tmp_path):
    """A run that an older version left, with a training and a loss that is no number."""
    (tmp_path / "run.db").write_bytes(gzip.decompress(OLD.read_bytes()))
    with Store.open(tmp_path / "run.db") as store:
        first = store.iterations()[1]
        training = {**TRAINING, "loss": [*TRAINING["loss"], float("nan")]}
        store.set_iteration(1, {**first, "training": training, "rejected": {"syntax": 2}})
        yield store


def test_figures_are_those_of_the_run(store):
    figures = list(figures_in(store, "main", 1))
    told = {(f.name, f.step): f.value for f in figures}
    turn = store.iterations()[1]
    assert told["iterations/main/sampled", 1] == turn["sampled"]
    assert told["iterations/main/best", 1] == turn["best"]
    assert told["iterations/main/rejected/syntax", 1] == 2
    assert told["training/main/1/loss", LOG_EVERY] == 0.7
    assert told["training/main/1/margin_nats", 2 * LOG_EVERY] == 0.4
    assert told["training/main/1/holdout_loss", 10] == 0.65
    assert len([f for f in figures if f.name.endswith("/loss")]) == 2
    scored = [c for c in store.candidates(1) if c.status is Status.SCORED]
    assert scored and [f for f in figures if f.by == "candidate"] == [
        Figure("candidates/main/dev", store.score(c.id).score, "candidate", c.ordinal)
        for c in scored
    ]


def test_a_run_that_goes_on_tells_nothing_twice(store, tmp_path, monkeypatch):
    told = list[Figure]()
    teller = SimpleNamespace(tell=told.append, close=lambda: None)
    monkeypatch.setattr(mirror, "teller_of", lambda *_: teller)
    Mirror("tensorboard", store, tmp_path, {}).iteration(1, ["main"])
    count = len(told)
    again = Mirror("tensorboard", store, tmp_path, {})
    again.iteration(1, ["main"])
    assert count and len(told) == count
    again.iteration(2, ["main"])
    assert len(told) > count
    # Another library is told all.
    Mirror("wandb", store, tmp_path, {}).iteration(1, ["main"])
    assert len(told) > 2 * count


def test_nobody_is_told_unless_asked(store, tmp_path):
    Mirror(None, store, tmp_path, {}).iteration(1, ["main"])
    assert {path.name for path in tmp_path.iterdir()} <= {"run.db", "run.db-wal", "run.db-shm"}


def test_tensorboard_reads_what_was_told(store, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told = Mirror("tensorboard", store, tmp_path, {})
    told.iteration(1, ["main"])
    told.close()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for figure in figures_in(store, "main", 1):
        found = {e.step: e.value for e in events.Scalars(figure.name)}
        assert found[figure.step] == pytest.approx(figure.value)


def test_wandb_is_told_in_its_own_terms(store, tmp_path, monkeypatch):
    """The library is not installed with the tests; its calls are those of its documentation."""
    begun, logged, ends = [], [], []
    run = SimpleNamespace(
        log=logged.append, finish=lambda: ends.append(1), define_metric=lambda *a, **k: None
    )
    fake = SimpleNamespace(init=lambda **words: begun.append(words) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        told = Mirror("wandb", store, tmp_path, {"seed": 3})
        told.iteration(1, ["main"])
        told.close()
    assert begun[0]["id"] == begun[1]["id"] and begun[0]["resume"] == "allow"
    assert begun[0]["config"] == {"seed": 3} and begun[0]["name"] == tmp_path.name
    assert {"iterations/main/sampled", "iteration"} in [set(row) for row in logged]
    assert len(logged) == len(list(figures_in(store, "main", 1))) and len(ends) == 2


def test_a_library_that_refuses_is_one_line(store, tmp_path, monkeypatch):
    """As wandb does where nobody has logged in."""

    def init(**_: object) -> None:
        raise RuntimeError("No API key configured.\nUse `wandb login`.")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(UsageError, match=r"^--report-to wandb: No API key configured\.; mend it"):
        Mirror("wandb", store, tmp_path, {})


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_missing_library_is_said_at_once(monkeypatch, kind):
    monkeypatch.setattr(mirror, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=rf"{kind} is not installed: .* -m pip install .*{kind}"):
        check_report_to(kind)


def test_an_unknown_library_is_refused():
    check_report_to(None)
    with pytest.raises(UsageError, match="--report-to mlflow: write one of tensorboard, wandb"):
        check_report_to("mlflow")
