"""The data of the paper's tables and figures."""

from __future__ import annotations

import json

import pytest
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store

# id -> (right answers of ten on dev, on test)
RIGHT = {
    "base": (4, 4),
    "task_arithmetic-0.2": (5, 6),
    "task_arithmetic-0.4": (3, None),
    "i1-0": (6, 5),
    "i1-1": (2, None),
    "i2-0": (5, None),
    "i3-0": (9, 8),
}
TEXT = "def f(d):\n    # Cosine similarity, weights by cosine\n    return 1  # the norm\n"


@pytest.fixture
def run(tmp_path):
    config = "base: b\nexperts: {x: x}\ntask: t\ninclude: mlp\nbaselines: [task_arithmetic]\n"
    (tmp_path / "config.yaml").write_text(config)
    with Store.open(tmp_path / "run.db") as store, store.transaction():
        for name, splits in RIGHT.items():
            iteration = int(name[1]) if name[0] == "i" else None
            store.add_candidates([{"id": name, "source": TEXT, "iteration": iteration}])
            store.decide(name, status="scored")
            for split, right in zip(("dev", "test"), splits, strict=True):
                if right is not None:
                    answers = [
                        Sample(i, f"q{i}", "p", "r", "r", *[i < right] * 3) for i in range(10)
                    ]
                    store.add_score(name, "t", split, score_of(answers, "strict"), answers, {})
        for i in (1, 2, 3):
            store.set_iteration(
                i,
                {
                    "iteration": i,
                    "categories": {"success": i},
                    "rejected": {},
                    "best": None,
                    "mean": None,
                },
            )
    return tmp_path


def test_the_report_has_the_data_of_tables_and_figures(selfdev, run):
    answer = selfdev("report", run, "--out", run.parent / "page.html", "--json")
    assert answer.code == 0, answer.stderr
    found = answer.json["figures"]
    table = [(row["iteration"], row["id"], row["dev"]["score"]) for row in found["table_2"]]
    assert table == [(1, "i1-0", 0.6), (2, "i1-0", 0.6), (3, "i3-0", 0.9)]
    assert found["table_5"]["1"] == {"cosine": 2, "norm": 2, "similarity": 2, "weights": 2}
    assert found["figure_4"] == {"1": [0.6, 0.2], "2": [0.5], "3": [0.9]}
    assert [row["id"] for row in found["figures_7_and_8"]["programs"]] == ["i1-0", "i3-0"]
    known = found["figures_7_and_8"]["known"]["task_arithmetic"]
    assert known == [{"id": "task_arithmetic-0.2", "dev": 0.5, "test": 0.6}]
    assert found["figure_9"]["3"] == {"success": 3}
    assert json.loads(json.dumps(found)) == found
