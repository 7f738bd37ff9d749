"""Names that commands take for candidates of a run."""

from __future__ import annotations

import json

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.export import prepare_export
from selfdev_engine.selfdev.names import find_candidate

RIGHT = {
    "base": 2,
    "expert-math": 3,
    "ties-0.2": 4,
    "ties-0.4": 5,
    "ties-0.6": 5,
    "i1-7": 6,
    "i1-2@linear": 7,
}
LOOP = {
    "iterations": 1,
    "experts": {"math": "a", "code": "b"},
    "baselines": ["ties", "model_stock"],
    "arms": {"linear": {}},
}


@pytest.fixture
def run(tmp_path):
    with Store.open(tmp_path / "run.db") as store, store.transaction():
        rows = [
            {"id": name, "source": None if name == "base" else name}
            | {"arm": "linear" if "@" in name else "main"}
            for name in RIGHT
        ]
        store.add_candidates(
            {**row, "iteration": 1 if row["id"].startswith("i1-") else None} for row in rows
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
        ("base", "base"),
        ("main/best", "i1-7"),
        ("linear/best", "i1-2@linear"),
    ],
)
def test_a_name_means_a_candidate(run, name, meant):
    with Store.read(run / "run.db") as store:
        assert find_candidate(store, LOOP, name) == meant


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("code", "'code' is an expert, which has no score yet"),
        ("model_stock", "'model_stock' is a baseline, which has no score yet"),
        ("i1-71", "has no candidate 'i1-71'; did you mean 'i1-7'?"),
        ("tis", "did you mean 'ties'?"),
        ("liner/best", "did you mean 'linear/best'?"),
        ("BEST", "did you mean 'best'?"),
        ("quite other", "has no candidate 'quite other'$"),
    ],
)
def test_a_name_that_means_nothing_is_explained(run, name, said):
    with Store.read(run / "run.db") as store, pytest.raises(UsageError, match=said):
        find_candidate(store, LOOP, name)


def test_a_screening_scores_no_experts(run):
    with (
        Store.read(run / "run.db") as store,
        pytest.raises(UsageError, match="'code' is an expert"),
    ):
        find_candidate(store, {"experts": {"code": "b"}}, "code")


def test_a_name_that_fits_twice_is_refused_with_both(run):
    with Store.open(run / "run.db") as store:
        both = {**LOOP, "experts": {"ties": "a"}}
        assert find_candidate(store, both, "ties") == "ties-0.4"  # the expert was never scored
        store.add_candidates([{"id": "expert-ties", "source": "x"}])
        with pytest.raises(
            UsageError, match=r"an expert \(expert-ties\) and a baseline \(ties-0.4\)"
        ):
            find_candidate(store, both, "ties")
        store.add_candidates([{"id": "ties", "source": "x"}])
        assert find_candidate(store, both, "ties") == "ties"
        with pytest.raises(UsageError, match=r"has no candidate 'ties-0\.3'; did you mean"):
            find_candidate(store, {}, "ties-0.3")


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
