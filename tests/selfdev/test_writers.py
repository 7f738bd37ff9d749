"""Which generator writes an iteration, and which ones a run keeps."""

from __future__ import annotations

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.config import RunConfig
from selfdev_engine.selfdev.inputs import check_adapter
from selfdev_engine.selfdev.writers import ADAPTER_CONFIG, Writers


def test_the_last_trained_generator_goes_on_and_older_ones_are_deleted(tmp_path):
    writers = Writers(tmp_path / "run", tmp_path / "first")
    assert writers.of(3) == writers.first and writers.adapter_of(3) is None
    for i in (2, 4):
        writers.trained(i).mkdir(parents=True)
        writers.adapter(i).mkdir(parents=True)
    assert [writers.of(i) for i in (1, 2, 3)] == [writers.first, *[writers.trained(2)] * 2]
    assert writers.adapter_of(3) == writers.adapter(2)
    writers.forget_before(3)  # nothing was trained for it, so that of 2 writes
    assert writers.trained(2).exists()
    writers.forget_before(4)
    assert not writers.trained(2).exists() and writers.trained(4).exists()
    assert writers.adapter(2).exists()


def test_a_run_of_an_older_version_has_no_adapter_to_go_on_from(tmp_path):
    """It folded every stage into the generator. What needs no training still goes on."""
    words = {"base": "b", "experts": {"x": "x"}, "task": "t", "baselines": [], "iterations": 3}
    config = RunConfig.model_validate(words)
    writers = Writers(tmp_path, tmp_path)
    writers.trained(2).mkdir(parents=True)
    with Store.open(tmp_path / "run.db") as store:
        store.set_iteration(1, {"done": True})
    with pytest.raises(UsageError, match=r"no adapter in .*adapters/2: .*an older version"):
        check_adapter(config, tmp_path)
    check_adapter(config.model_copy(update={"learn": "none"}), tmp_path)
    check_adapter(config.model_copy(update={"iterations": 2}), tmp_path)
    writers.adapter(2).mkdir(parents=True)
    (writers.adapter(2) / ADAPTER_CONFIG).write_text("{}")
    check_adapter(config, tmp_path)
