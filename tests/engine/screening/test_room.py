"""What a worker may take of its card: by the plan, and refused before anything is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident.messages import EngineSettings
from selfdev_engine.engine.resident.sizes import cache_bytes
from selfdev_engine.engine.resident.vllm_engine import (
    VLLM_ENVIRONMENT,
    card_options,
    options,
    to_set,
)
from selfdev_engine.engine.screening import room
from selfdev_engine.engine.screening.inputs import check_workers, open_selection
from selfdev_engine.engine.screening.room import cache_alone, shares_on
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.engine.weights import machine as machines
from selfdev_engine.engine.weights.capacity import Capacity, Device
from selfdev_engine.engine.weights.machine import GIB, Machine, gpu_of, parse_machine


@pytest.fixture
def settings(small_models):
    experts = {name: str(small_models / name) for name in ("x", "y")}
    return ScreenSettings(str(small_models / "base"), experts, "t", include="all")


def test_a_machine_without_cards_has_no_shares(settings):
    assert shares_on(Machine(()), settings, open_selection(settings), None) is None


def test_each_worker_has_the_share_of_the_smallest_of_its_cards(settings):
    selection = open_selection(settings)
    cards = (*parse_machine("1x80GB").gpus, *parse_machine("1x5GB").gpus)
    one = shares_on(Machine(cards, 64 * GIB), settings, selection, None)
    both = shares_on(Machine(cards, 64 * GIB), replace(settings, workers=2), selection, None)
    assert one is not None and both is not None
    sizes = selection.sizes(selection.names).values()
    # So small a bank is on every card, and nothing is left to pin.
    assert one.bank == both.bank == sum(size.held for size in sizes)
    assert one.pinned == both.pinned == 0
    assert one.cache >= both.cache > 0
    # What is planned is enough for the engine: at least one full context.
    assert cache_bytes(selection.base, 64, 1, both.cache) <= both.cache


@pytest.mark.parametrize(("address", "part"), [(None, 1), ("head:6379", 4)])
def test_workers_here_share_what_is_pinned_and_those_of_a_node_of_ray_divide_it(
    settings, monkeypatch, address, part
):
    pinned = 1000
    card = Device("card", 0, {"kv_cache": 1})
    # Banks may take half of the host.
    host, bank = Device("host", 2 * pinned, {}), {"device": 0, "pinned": pinned, "disk": 0}
    plan = Capacity((card,) * 4, host, card, 1, 1, bank)
    monkeypatch.setattr(room, "plan_capacity", lambda *words: plan)
    there = replace(settings, address=address, workers=8)
    found = shares_on(parse_machine("4x5GB"), there, open_selection(settings), None)
    assert found is not None and found.pinned == pinned // part


def test_another_writer_takes_room(settings, small_models):
    selection = open_selection(settings)
    machine = Machine(parse_machine("1x4GB").gpus, 64 * GIB)
    alone = shares_on(machine, settings, selection, None)
    beside = shares_on(machine, settings, selection, selection.experts["x"])
    assert alone is not None and beside is not None
    assert alone.cache >= beside.cache


def test_what_cannot_fit_is_refused_with_the_largest_term(settings, monkeypatch):
    monkeypatch.setattr(machines, "gpus_here", lambda: (gpu_of("small", GIB, GIB),))
    with pytest.raises(UsageError, match=r"small: has 1.00 GiB.*the largest is reserve"):
        check_workers(settings, None)
    monkeypatch.setattr(machines, "gpus_here", lambda: (gpu_of("large", 40 * GIB),))
    check_workers(settings, None)
    with pytest.raises(UsageError, match=r"large: has 2.00 GiB"):
        check_workers(replace(settings, gpu_memory_bytes=2 * GIB), None)


def test_vllm_is_told_of_what_is_free_now(monkeypatch):
    """With 20 of 80 GB free its default, 0.92 of the card, would refuse to start."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * GIB, 80 * GIB))
    assert card_options() == {"gpu_memory_utilization": pytest.approx(0.2375)}


def test_vllm_compiles_no_sampler_that_no_request_uses():
    """On Hopper and later FlashInfer's would be built when an engine opens, where nvcc may be absent."""
    assert VLLM_ENVIRONMENT["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


def test_vllm_is_in_this_process_whatever_the_shell_says():
    """In a process of its own its weights could not be swapped."""
    found = to_set({"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_LOGGING_LEVEL": "DEBUG"})
    assert found["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and "VLLM_LOGGING_LEVEL" not in found
    assert to_set({}) == VLLM_ENVIRONMENT


def test_no_kernel_is_chosen_by_its_time(settings):
    """Workers would add in another order, and a result would depend on which of them gave it."""
    found = options(open_selection(settings).base, EngineSettings())
    assert found["enable_flashinfer_autotune"] is False


def test_a_card_reads_a_long_prompt_in_pieces(settings, monkeypatch):
    """Activations of more tokens at once than the plan counts would have no room."""
    base, wanted = open_selection(settings).base, EngineSettings(max_num_batched_tokens=16)
    on_cpu = options(base, wanted)
    assert on_cpu["max_num_batched_tokens"] == on_cpu["max_model_len"] > 16
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * GIB, 80 * GIB))
    on_gpu = options(base, wanted)
    assert on_gpu["max_num_batched_tokens"] == 16 and on_gpu["enable_chunked_prefill"]


def test_a_model_that_is_asked_alone_has_the_card_for_itself(settings, monkeypatch):
    base = open_selection(settings).base
    assert cache_alone(base, None) is None and cache_alone(base, 123) == 123
    monkeypatch.setattr(machines, "gpus_here", lambda: (gpu_of("large", 40 * GIB),))
    found = cache_alone(base, None)
    assert found is not None and found >= cache_bytes(base, 64, 1, found)
