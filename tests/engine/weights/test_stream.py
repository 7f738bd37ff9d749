"""The stream's memory: which tensors are read ahead, into what, and what --memory refuses."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.output.disk import SYNC_BYTES, Disk
from selfdev_engine.engine.weights import stream as stream_module
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.headers import read_header
from selfdev_engine.engine.weights.stream import assigned, make_slots, stream

SIZE = Size(layers=2, vocab=2000)
LARGE = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Bank:
    models = make_models(tmp_path_factory.mktemp("m"), SIZE, torch.bfloat16)
    return Bank.open(str(models.base), {n: str(p) for n, p in models.experts.items()}, "all")


def test_a_slot_holds_base_experts_and_result(bank):
    assert bank.selection.slot_bytes([LARGE]) == 2000 * 32 * 2 * (1 + 3 + 1)


def test_large_tensors_have_the_first_slot_to_themselves(bank):
    names = list(bank.selection.names)
    second = bank.selection.slot_bytes(["model.layers.0.mlp.up_proj.weight"])
    slots = make_slots(bank.residency, names, bank.selection.slot_bytes([LARGE]) + second)
    homes = assigned(bank.residency, names, slots)
    assert len(slots) == 2
    assert all(
        h is slots[0]
        for n, h in zip(names, homes, strict=True)
        if bank.selection.slot_bytes([n]) > second
    )
    ahead = sum(a is not b for a, b in pairwise(homes))
    assert ahead >= len(names) - 3  # two tensors are large


def test_what_most_of_a_large_model_consists_of_is_read_ahead(bank, monkeypatch):
    monkeypatch.setattr(stream_module, "SMALL_BYTES", 0)
    layers = [name for name in bank.selection.names if "layers" in name]
    usual = stream_module.usual_bytes(bank.residency, layers)
    assert usual == bank.selection.slot_bytes(["model.layers.0.mlp.up_proj.weight"])
    assert [slot.most_bytes for slot in make_slots(bank.residency, layers, None)][1:] == [usual]


def test_memory_is_never_more_than_was_allowed(bank):
    names, largest = list(bank.selection.names), bank.selection.slot_bytes([LARGE])
    for allowed in (largest, largest + 1000, largest + 100_000, 10 * largest):
        slots = make_slots(bank.residency, names, allowed)
        for tensors, slot in stream(bank.residency, names, slots):
            assert slot.held == tensors.name
            assert sum(bank.selection.slot_bytes([s.held]) for s in slots if s.held) <= allowed
        assert not any(slot.held for slot in slots)
        assert len(slots) == (1 if allowed == largest else 2)
    with pytest.raises(UsageError, match="--memory: the largest tensor needs"):
        make_slots(bank.residency, names, largest - 1)


def test_what_is_streamed_is_what_is_stored(bank):
    names = list(bank.selection.names)
    for tensors, _ in stream(bank.residency, names, make_slots(bank.residency, names, None)):
        assert torch.equal(tensors.base, bank.selection.base.tensor(tensors.name))
        for expert, tensor in tensors.experts.items():
            assert torch.equal(tensor, bank.selection.experts[expert].tensor(tensors.name))


def test_what_is_dropped_leaves_the_process(tmp_path):
    """Pages of the file that this process holds, as the kernel counts them."""
    file = tmp_path / "model.safetensors"
    save_file({"small": torch.ones(3), "large": torch.randn(2 << 20)}, file)
    checkpoint = Checkpoint(tmp_path, read_header(file))

    def held_bytes() -> int:
        maps = Path("/proc/self/smaps").read_text().split(str(file))[1:]
        return sum(int(re.findall(r"Rss: +(\d+) kB", part)[0]) << 10 for part in maps)

    large, size_bytes = checkpoint.fetch("large"), checkpoint.entries["large"].size_bytes
    assert held_bytes() >= size_bytes
    checkpoint.drop("large")
    assert held_bytes() < size_bytes // 4
    assert torch.equal(large, checkpoint.tensor("large"))


def test_a_sync_that_failed_is_heard_of(tmp_path, monkeypatch):
    """Though the fsync at the end succeeds: the kernel tells of a lost page once."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with Disk() as disk:
        disk.write(descriptor, bytes(SYNC_BYTES), 0)
        with pytest.raises(OSError, match="Input/output error"):
            disk.finish([descriptor])
    os.close(descriptor)
    assert (tmp_path / "file").stat().st_size == SYNC_BYTES
