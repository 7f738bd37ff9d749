"""The bank that the workers of a node share: its values, its memory, its size, and its end."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.errors import EngineGone, UsageError
from selfdev_engine.engine.weights import shared
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.budget import Home
from selfdev_engine.engine.weights.selection import Selection
from selfdev_engine.engine.weights.shared import NAME, MappedBank, SharedBank

DRIVER = Path(__file__).with_name("shared_bank.py")


@pytest.fixture(scope="module")
def selection(tmp_path_factory) -> Selection:
    models = make_models(
        tmp_path_factory.mktemp("models"), Size(128, 320, layers=4), torch.bfloat16
    )
    return Selection.open(str(models.base), {"a": str(models.experts["a"])}, "mlp")


@pytest.fixture
def driver(selection) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process of a driver with two readers, and what it says of them."""
    places = [str(model.folder) for model in selection.models]
    words = [sys.executable, "-P", str(DRIVER), *places]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def mapped_kib(pid: int, field: str) -> int:
    """The kB of the bank's pages that a process has: "Rss" counts all, "Pss" its part of each."""
    found, within = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        word, *rest = line.split()
        if not word.endswith(":"):
            within = any(NAME in part for part in rest)
        elif within and word == f"{field}:":
            found += int(rest[0])
    return found


def who_holds(inode: int) -> list[str]:
    """The processes that have a descriptor of the memory with this number, or map it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            maps = [line.split() for line in (process / "maps").read_text().splitlines()]
            mine = any(NAME in " ".join(part) and part[4] == str(inode) for part in maps)
            for file in (process / "fd").iterdir():
                mine = mine or (NAME in os.readlink(file) and file.stat().st_ino == inode)
        except OSError:
            continue
        if mine:
            found.append(process.name)
    return found


def test_two_processes_read_one_copy_and_nothing_of_it_outlives_a_killed_driver(selection, driver):
    process, said = driver
    sums = {
        name: [float(model.tensor(name).double().sum()) for model in selection.models]
        for name in selection.names[1:]
    }
    assert [reader["sums"] for reader in said["readers"]] == [sums, sums]
    # The driver maps nothing; two readers have each page between them.
    assert (
        said["taken"]
        == said["size"]
        >= 2 * sum(selection.base.entries[name].size_bytes for name in sums)
    )
    pids = [reader["pid"] for reader in said["readers"]]
    assert [mapped_kib(pid, "Rss") << 10 for pid in pids] == [said["size"]] * 2
    assert sum(mapped_kib(pid, "Pss") for pid in pids) << 10 == said["size"]
    holders = {str(process.pid), *map(str, pids)}
    assert set(who_holds(said["inode"])) == holders
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while left := who_holds(said["inode"]):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def test_nobody_can_change_its_size(selection):
    bank = SharedBank(selection, selection.names)
    for size in (0, bank.size_bytes - mmap.PAGESIZE, bank.size_bytes + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(bank.descriptor, size)
    bank.close()


def test_a_stray_write_ends_its_own_process_alone(selection):
    bank = SharedBank(selection, selection.names[:1])
    bank.fill()
    mapped = MappedBank(selection, names=bank.names, descriptor=bank.descriptor, pin=False)
    base = mapped.tensors(bank.names[0]).base
    if (child := os.fork()) == 0:
        faulthandler.disable()
        ctypes.memset(base.data_ptr(), 1, 1)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 11
    assert torch.equal(base, selection.base.tensor(bank.names[0]))
    bank.close()


def test_it_is_read_from_the_files_once(selection, monkeypatch):
    bank = SharedBank(selection, selection.names[:2])
    bank.fill()
    monkeypatch.setattr(shared, "write", lambda *words: pytest.fail("writes again"))
    bank.fill()
    bank.close()


def test_who_ends_waits_for_no_file(selection):
    bank = SharedBank(selection, selection.names)
    bank.give_up()
    with pytest.raises(EngineGone):
        bank.fill()
    assert os.fstat(bank.descriptor).st_blocks == 0
    bank.close()


def test_what_it_holds_takes_nothing_of_a_worker_and_the_rest_is_as_before(selection):
    """Each worker may take of the host only what its card lacks beside it."""
    bank = SharedBank(selection, selection.names[2:4])
    bank.fill()
    mapped = MappedBank(selection, names=bank.names, descriptor=bank.descriptor, pin=False)
    held = selection.size_of(selection.names[0]).held
    device = torch.device("cpu")  # stands for a card with room for one tensor
    made = Bank.within(
        selection, None, device=device, device_bytes=held, host_bytes=6 * held, shared=mapped
    )
    wanted = [Home.DEVICE, Home.DISK, Home.HOST, Home.HOST, *[Home.DISK] * 8]
    assert list(made.residency.homes) == list(selection.names)
    assert list(made.residency.homes.values()) == wanted
    for name in selection.names:
        assert torch.equal(made.tensors(name).base, selection.base.tensor(name))
        assert torch.equal(made.tensors(name).experts["a"], selection.experts["a"].tensor(name))
    low = mapped.tensors(bank.names[0]).base.data_ptr()
    assert made.tensors(bank.names[0]).base.data_ptr() == low
    bank.close()


def test_empty_tensors_have_a_place(tmp_path):
    from safetensors.torch import save_file

    for name in ("base", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
        tensors = {"x": torch.zeros(0, 4), "y": torch.full((3,), 2.0)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    selection = Selection.open(str(tmp_path / "base"), {"a": str(tmp_path / "a")}, "all")
    bank = SharedBank(selection, selection.names)
    bank.fill()
    mapped = MappedBank(selection, names=bank.names, descriptor=bank.descriptor, pin=False)
    assert mapped.tensors("x").base.shape == (0, 4)
    assert mapped.tensors("y").experts["a"].tolist() == [2.0] * 3
    bank.close()


def test_a_device_pins_whole_pages_of_all_of_it_before_it_is_read_only(selection, monkeypatch):
    seen = list[tuple[int, int]]()
    monkeypatch.setattr(shared, "register", lambda *words: seen.append(words))
    bank = SharedBank(selection, selection.names)
    mapped = MappedBank(selection, names=bank.names, descriptor=bank.descriptor, pin=True)
    ((address, size),) = seen
    assert address == mapped.tensors(selection.names[0]).base.data_ptr()
    assert size == bank.size_bytes and address % mmap.PAGESIZE == size % mmap.PAGESIZE == 0
    bank.close()


def test_a_device_that_refuses_is_said_in_words(monkeypatch):
    refusing = type("Cudart", (), {"cudaHostRegister": lambda *words: 2})()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: refusing)
    with pytest.raises(UsageError, match=r"cannot pin 3\.0 GiB .*\(cudaError 2\).*--memory"):
        shared.register(4096, 3 << 30)


def test_a_pinned_copy_takes_whole_pages_and_no_power_of_two(monkeypatch):
    seen = list[tuple[int, int]]()
    monkeypatch.setattr(shared, "register", lambda *words: seen.append(words))
    tensor = torch.arange(3 * mmap.PAGESIZE // 2 + 1, dtype=torch.int16).reshape(-1, 1)
    copy = shared.pinned_copy(tensor)
    assert seen == [(copy.data_ptr(), 4 * mmap.PAGESIZE)] and torch.equal(copy, tensor)
    assert copy.data_ptr() % mmap.PAGESIZE == 0 and copy.data_ptr() != tensor.data_ptr()
    assert shared.pinned_copy(torch.zeros(0, 4)).shape == (0, 4) and len(seen) == 1
