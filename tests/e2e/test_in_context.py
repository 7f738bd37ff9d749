"""The arm that shows the writer its best programs, with a real engine."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from selfdev_engine.engine.records.store import Store

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NUM_SAMPLES, WAVE = 24, 16


@pytest.fixture(scope="module")
def writer(zoo, tmp_path_factory):
    """The tiny zoo's generator with room for a longer prompt, which has a place for good programs."""
    folder = tmp_path_factory.mktemp("writer") / "generator"
    shutil.copytree(zoo.generator, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 2048}))
    (folder / "prompt.txt").write_text("{{elites}}" + (folder / "prompt.txt").read_text())
    return folder


def test_later_samples_follow_the_best_of_the_earlier_ones(zoo, writer, selfdev):
    config = yaml.safe_load((zoo.folder.parents[1] / "configs" / "demo.yaml").read_text()) | {
        "base": str(zoo.base),
        "experts": {name: str(path) for name, path in zoo.experts.items()},
        "generator": str(writer),
        "task": f"jsonl:{zoo.tasks['mixed']}",
        "iterations": 1,
        "samples": NUM_SAMPLES,
        "learn": "none",
        "test": {"top": 1},
        "baselines": ["model_stock"],
        "arms": ["in_context"],
    }
    file, run = writer.parent / "in_context.yaml", writer.parent / "run"
    file.write_text(yaml.safe_dump(config))
    answer = selfdev("run", file, "--run", run, "--json", timeout_s=550)
    assert answer.code == 0, answer.stderr
    (turn,) = answer.json["arms"]["in_context"]["iterations"]
    assert turn["sampled"] == NUM_SAMPLES == sum(turn["categories"].values())
    with Store.read(run / "run.db") as store:
        plain = [store.candidate(f"i1-{n}").source for n in range(NUM_SAMPLES)]
        shown = [store.candidate(f"i1-{n}@in_context").source for n in range(NUM_SAMPLES)]
    # Equal seeds and, until something is scored, equal prompts.
    assert shown[:WAVE] == plain[:WAVE] and shown[WAVE:] != plain[WAVE:]
