"""Names that `compare` and `export` take for candidates of a run."""

from __future__ import annotations

import json

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.export import prepare_export
from selfdev_engine.selfdev.results import named

RIGHT = {"base": 2, "expert-math": 3, "ties-0.2": 4, "ties-0.4": 5, "ties-0.6": 5, "i1-7": 6}
LOOP = {"experts": {"math": "a", "code": "b"}, "baselines": ["ties", "model_stock"]}


@pytest.fixture
def run(tmp_path):
    with Store.open(tmp_path / "run.db") as store, store.transaction():
        rows = [{"id": name, "source": None if name == "base" else name} for name in RIGHT]
        store.add_candidates(
            {**row, "iteration": 1 if row["id"] == "i1-7" else None} for row in rows
        )
        for name, right in RIGHT.items():
            samples = [Sample(i, f"q{i}", "p", "r", "r", *[i < right] * 3) for i in range(8)]
            store.add_score(name, "jsonl:t", "dev", score_of(samples, "flexible"), samples, {})
            store.decide(name, status="scored")
    (tmp_path / "config.yaml").write_text(json.dumps(LOOP))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("math", "expert-math"),
        ("expert-math", "expert-math"),
        ("ties", "ties-0.4"),
        ("ties-0.2", "ties-0.2"),
        ("best", "i1-7"),
        ("code", "code"),
        ("model_stock", "model_stock"),
        ("linear", "linear"),
    ],
)
def test_a_baseline_means_its_best_setting(run, name, meant):
    with Store.read(run / "run.db") as store:
        assert named(store, LOOP, name) == meant
        assert named(store, {}, "ties") == "ties"


def test_the_command_compares_baselines(selfdev, run):
    found = selfdev("compare", run, "best", "ties", "--json").json
    assert (found["first"], found["second"], found["n"]) == ("i1-7", "ties-0.4", 8)
    same = selfdev("compare", run, "ties", "ties-0.4")
    assert same.code == 2 and "both are ties-0.4" in same.stderr


def test_the_base_is_not_exported(run):
    with pytest.raises(UsageError, match="`base` is the base model as it is"):
        prepare_export(run, "base", run / "out")
    with pytest.raises(UsageError, match="has no candidate 'nobody'"):
        prepare_export(run, "nobody", run / "out")
