"""The worker's process from the driver's side: how its end is told. A stand-in takes its place."""

import pytest
from selfdev_engine.engine.errors import WorkerLost
from selfdev_engine.engine.resident import process
from selfdev_engine.engine.resident.process import WorkerProcess
from selfdev_engine.engine.weights import small_file


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """A worker that ends at once, with an empty log."""
    monkeypatch.setattr(process, "MODULE", "selfdev_engine.none")
    worker = WorkerProcess(tmp_path / "engine.log", {})
    worker._process.wait()
    worker.log.write_text("")
    yield worker
    worker.stop()


def test_of_a_long_log_only_the_end_is_read(ended, monkeypatch):
    monkeypatch.setattr(small_file, "END_BYTES", 40)
    ended.log.write_text("many words\n" * 1000 + "\nthe last words é\n")
    with pytest.raises(WorkerLost, match=r"last words:\n(.*\n)*the last words é$") as lost:
        ended.receive(5.0)
    assert len(str(lost.value)) < 100


def test_a_worker_whose_log_was_deleted_is_lost_like_any_other(ended):
    ended.log.unlink()
    with pytest.raises(WorkerLost, match="ended"):
        ended.receive(5.0)
