"""Which generator writes an iteration, and which ones a run keeps."""

from __future__ import annotations

from selfdev_engine.selfdev.writers import Writers


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
