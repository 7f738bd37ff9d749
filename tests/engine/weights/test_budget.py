"""--memory: how it is shared out, what is held where, and that processes stay within it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from selfdev_engine.bench.synthetic import Size, make_models
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident.sizes import cache_bytes, context_of
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.budget import (
    SETS,
    Home,
    TensorBytes,
    bank_share,
    cache_share,
    choose_homes,
)
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.selection import Selection

MIB = 1 << 20
SCRIPT = Path(__file__).with_name("memory_use.py")
SIZE = Size(hidden=512, intermediate=2048, layers=16)  # 48 MLP tensors of 2 MiB, in each model
HELD_BYTES = 48 * 4 * 2 * MIB
BUDGET_BYTES = 128 * MIB  # of which 40 are in flight


def sizes(*held: int) -> dict[str, TensorBytes]:
    return {str(i): TensorBytes(h, h + h // 4) for i, h in enumerate(held)}


def homes(*held: int, host: float = 0, device: float = 0) -> list[Home]:
    return list(choose_homes(sizes(*held), host, device).values())


def test_shares_add_up():
    assert cache_share(None) is bank_share(None, 1) is None
    for engines in (1, 2):
        left = bank_share(1000, engines)
        assert left is not None
        assert left + engines * (cache_share(1000) or 0) == 1000
    assert bank_share(1000, 1, num_copies=2) == 375


def test_all_is_held_where_it_fits():
    assert homes(40, 80, 40, host=160) == [Home.HOST] * 3
    assert homes(40, 80, 40, device=160) == [Home.DEVICE] * 3


def test_what_the_device_cannot_take_is_held_on_the_host():
    found = choose_homes(sizes(40, 80, 40), 80, 80)
    assert found == {"0": Home.DEVICE, "1": Home.HOST, "2": Home.DEVICE}


def test_sets_in_flight_come_out_of_the_budget():
    least = SETS * 500
    assert homes(*[400] * 20, host=least) == [Home.DISK] * 20
    assert homes(*[400] * 20, host=least + 799).count(Home.HOST) == 1


def test_a_few_large_tensors_are_held_rather_than_kept_in_flight():
    """An embedding in flight four times would leave nothing for the rest."""
    found = homes(4000, *[400] * 20, host=4000 + SETS * 500 + 800)
    assert found[0] is Home.HOST
    assert found.count(Home.HOST) == 3


@pytest.mark.parametrize("host", [2000, 3000, 5000, 9000])
def test_nothing_exceeds_the_budget(host):
    every = sizes(*range(100, 400, 10))
    found = choose_homes(every, host)
    flying = [every[n].in_flight for n, home in found.items() if home is Home.DISK]
    held = sum(every[n].held for n, home in found.items() if home is Home.HOST)
    assert held + SETS * max(flying, default=0) <= host


def test_too_little_is_refused():
    with pytest.raises(
        UsageError, match=r"0 MiB of it are left for tensors.* 5 MiB at least \(4 sets"
    ):
        choose_homes(sizes(*[MIB] * 20), 1000)


def test_a_cache_takes_no_more_than_it_can_use_and_no_less_than_one_context(small):
    """2 layers of 2 heads of 8, keys and values in bf16: 128 bytes a token; blocks of 32 tokens."""
    checkpoint, block = Checkpoint.open(str(small.base)), 32 * 128
    context = 4096 // 32
    most = (4 * context + 1) * block
    assert cache_bytes(checkpoint, 4096, 4, None) == most
    assert cache_bytes(checkpoint, 4096, 4, 10 * most) == most
    assert cache_bytes(checkpoint, 4096, 4, most - 1) == most - 1
    with pytest.raises(
        UsageError, match=r"0\.5 MiB of it .* 4096 tokens takes 0\.5 MiB: allow more"
    ):
        cache_bytes(checkpoint, 4096, 4, (context + 1) * block - 1)


def test_a_context_is_what_was_asked_for_or_as_long_as_the_model_reads(small):
    checkpoint = Checkpoint.open(str(small.base))
    checkpoint.config["max_position_embeddings"] = 8192
    assert context_of(checkpoint) == 4096
    assert context_of(checkpoint, 64) == 64
    assert context_of(checkpoint, 8192) == 8192
    with pytest.raises(UsageError, match=r"max_model_len: 8193 tokens.*reads 8192"):
        context_of(checkpoint, 8193)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"), SIZE, torch.bfloat16)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("small"), Size(), torch.bfloat16)


def used(role: str, small, models, budget: int | None) -> dict:
    folders = [str(found.base.parent) for found in (small, models)]
    command = [sys.executable, "-P", str(SCRIPT), role, *folders, json.dumps(budget)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return json.loads(done.stdout)


@pytest.mark.parametrize("role", ["driver", "worker"])
def test_resident_memory_stays_within_the_budget(models, small, role):
    """Touched pages of a mapping count. The results do not depend on what is held."""
    free, tight = (used(role, small, models, budget) for budget in (None, BUDGET_BYTES))
    print(f"{role}: {free['rise'] / MIB:.0f} MiB without a bound, {tight['rise'] / MIB:.0f} within")
    assert free["results"] == tight["results"]
    assert free["rise"] > 0.9 * HELD_BYTES
    assert tight["rise"] < BUDGET_BYTES


def test_a_tensor_on_disk_is_safe_while_its_set_is_held(models):
    experts = {name: str(path) for name, path in models.experts.items()}
    bank = Bank.within(Selection.open(str(models.base), experts, "mlp"), BUDGET_BYTES)
    on_disk = [name for name, home in bank.residency.homes.items() if home is Home.DISK][:6]
    sets = [bank.tensors(name) for name in on_disk]
    for tensors in sets:
        assert torch.equal(tensors.base, bank.selection.base.tensor(tensors.name))
    addresses = {tensors.base.data_ptr() for tensors in sets}
    assert len(addresses) == len(on_disk)
    del sets, tensors
    for name in on_disk:
        again = bank.tensors(name)
        assert again is bank.tensors(name)
        assert again.base.data_ptr() in addresses
