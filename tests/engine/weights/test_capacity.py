"""The plan of a machine's memory: byte counts of published models, bounds that hold, refusals that help."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.weights import machine as machines
from selfdev_engine.engine.weights.cache import BLOCK_TOKENS, cache_shape
from selfdev_engine.engine.weights.capacity import (
    CONTEXT_BYTES,
    FREE_BYTES,
    GRAPH_BYTES,
    Demand,
    Models,
    Shares,
    plan_capacity,
)
from selfdev_engine.engine.weights.durations import Amounts, estimate
from selfdev_engine.engine.weights.known_models import KNOWN
from selfdev_engine.engine.weights.machine import GIB, Machine, gpu_of, parse_machine
from selfdev_engine.engine.weights.shapes import (
    ModelShapes,
    adapter_elements,
    dense_tensors,
    published_shapes,
)
from selfdev_engine.engine.weights.training import (
    MOST_ACTIVATIONS_BYTES,
    Training,
    host_terms,
    recomputes,
)

MISTRAL, LLAMA, QWEN = "mistralai/Mistral-7B-v0.1", "meta-llama/Meta-Llama-3-8B", "Qwen/Qwen2.5-7B"


def shapes(name: str) -> ModelShapes:
    found = published_shapes(name)
    assert found is not None
    return found


def paper() -> Models:
    """The models of the paper's run."""
    seed, *experts = list(KNOWN)[:4]
    return Models(shapes(seed), {name: shapes(name) for name in experts})


# ---- facts of models


@pytest.mark.parametrize(
    ("name", "parameters", "token_bytes"),
    [
        (MISTRAL, 7_241_732_096, 131_072),
        (LLAMA, 8_030_261_248, 131_072),
        (QWEN, 7_615_616_512, 57_344),
    ],
)
def test_byte_counts_are_those_of_the_published_models(name, parameters, token_bytes):
    """Parameters as their cards say, in bf16; bytes of keys and values of one token."""
    model = shapes(name)
    assert model.num_elements == parameters
    assert model.size_bytes == 2 * parameters
    shape = cache_shape(model)
    assert shape is not None and shape.token_bytes == token_bytes


def test_the_papers_bank_and_adapter():
    """Four models' MLP tensors in bf16, and LoRA of rank 256 on all linear layers in float32."""
    models = paper()
    bank = models.bank("mlp")
    assert len(bank) == 96
    assert sum(bank.values()) == 4 * 32 * 3 * 4096 * 14336 * 2
    assert 4 * adapter_elements(models.base, 256) == 2_684_354_560


def test_a_cache_that_a_config_does_not_tell_is_not_known():
    config = {**shapes(LLAMA).config}
    for more in (
        {"model_type": "gemma2", "sliding_window": 4096},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"num_attention_heads": None, "num_key_value_heads": None},
        {"num_attention_heads": 0, "num_key_value_heads": None},
        {"num_hidden_layers": 10**30},
        {"hidden_size": "x", "intermediate_size": [1], "vocab_size": {}},
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 3},
    ):
        model = replace(shapes(LLAMA), config={**config, **more})
        assert cache_shape(model) is None
        planned = plan_capacity(Models(model, {}), parse_machine("1xH100"), Demand())
        assert planned.sequences is None and planned.kv_tokens is None
        assert estimate(Models(model, {}), parse_machine("1xH100"), planned, AMOUNTS) is None
    tied = {**config, "tie_word_embeddings": True}
    assert "lm_head.weight" not in dict(dense_tensors(tied))


# ---- what vLLM says

VLLM = """
import json, os, sys
os.environ.update(VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1", VLLM_PLUGINS="")
import torch
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.core.kv_cache_utils import get_kv_cache_configs
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

folder, window, layers, heads, size, context, blocks, block_bytes = json.loads(sys.argv[1])
arguments = EngineArgs(model=folder, skip_tokenizer_init=True, max_model_len=context, block_size=32,
                       enforce_eager=True, dtype="bfloat16")
config = arguments.create_engine_config()
if hasattr(config.cache_config, "kv_cache_layout"):  # from 0.32 on; the engine sets it otherwise
    config.cache_config.kv_cache_layout = "LBNHC"
shape = dict(block_size=32, num_kv_heads=heads, head_size=size, dtype=torch.bfloat16)
spec = SlidingWindowSpec(**shape, sliding_window=window) if window else FullAttentionSpec(**shape)
assert spec.page_size_bytes * layers == block_bytes, (spec.page_size_bytes, block_bytes)
taken = []
for count in (blocks - 1, blocks):
    try:
        found = get_kv_cache_configs(config, [dict.fromkeys(map(str, range(layers)), spec)],
                                     [count * block_bytes])
        taken.append(found[0].num_blocks)
    except ValueError:
        taken.append(None)
print(json.dumps(taken))
"""


@pytest.mark.parametrize("name", [MISTRAL, LLAMA, QWEN])
def test_vllm_takes_a_cache_for_one_context_and_no_block_less(name, tmp_path):
    """By its own functions, on the specs of these models' layers; the sliding window's, too."""
    pytest.importorskip("vllm")
    model, context = shapes(name), 4096
    config, shape = model.config, cache_shape(model)
    assert shape is not None
    kind = {"mistral": "Mistral", "llama": "Llama", "qwen2": "Qwen2"}[config["model_type"]]
    architecture = {"architectures": [f"{kind}ForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps({**config, **architecture}))
    blocks, rest = divmod(shape.bytes_for(1, context), shape.block_bytes)
    layers, heads = config["num_hidden_layers"], config["num_key_value_heads"]
    window = config["sliding_window"] if shape.has_window else None
    facts = [str(tmp_path), window, layers, heads, 128, context, blocks, shape.block_bytes]
    command = [sys.executable, "-P", "-c", VLLM, json.dumps(facts)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
    assert not rest and shape.block_bytes % BLOCK_TOKENS == 0
    assert json.loads(said.stdout.splitlines()[-1]) == [None, blocks]


# ---- plans

AMOUNTS = Amounts(questions=100, programs=9000, candidates=62)
TRAINING = Training(rank=256, batch_size=8, tokens=820, stages=2)


def test_the_papers_run_on_one_card_of_80_gb():
    capacity = plan_capacity(paper(), parse_machine("1xH100-80GB"), Demand(training=TRAINING))
    (device,) = capacity.devices
    assert device.size_bytes == 81559 << 20
    assert device.terms["bank"] == capacity.bank["device"] == sum(paper().bank("mlp").values())
    assert 16e9 < device.terms["kv_cache"] < 24e9
    assert capacity.sequences is not None and capacity.sequences >= 100
    assert sum(device.terms.values()) <= device.size_bytes
    assert 14.4e9 < device.terms["weights"] < 14.6e9
    assert capacity.disk.terms["trained"] == 2 * paper().base.size_bytes
    assert capacity.disk.terms["adapters"] == pytest.approx(2 * 2.68e9, rel=0.01)


@pytest.mark.parametrize("gpus", ["1xH100-80GB", "1xA100-40GB"])
def test_the_bank_has_the_room_that_is_planned_for_it(gpus):
    """A worker leaves FREE_BYTES of what its open engine leaves; the plan must not give them to the bank."""
    (device,) = plan_capacity(paper(), parse_machine(gpus), Demand()).devices
    taken = device.terms["weights"] + device.terms["kv_cache"] + CONTEXT_BYTES + GRAPH_BYTES
    assert device.terms["bank"] <= device.size_bytes - taken - FREE_BYTES


def test_training_keeps_three_adapters_and_several_ranks_a_bucket_of_gradients():
    one, eight = (
        plan_capacity(paper(), parse_machine(gpus), Demand(training=TRAINING)).devices[0].training
        for gpus in ("1xH100-80GB", "8xH100-80GB")
    )
    adapter = 4 * adapter_elements(paper().base, TRAINING.rank)
    # The one that is trained, TRL's reference, and the best so far, all in float32.
    assert one["adapter"] == eight["adapter"] == 3 * adapter
    assert (one["gradients"], eight["gradients"]) == (adapter, 2 * adapter)
    # Nothing of vocabulary size is there for a whole batch.
    assert one["logits"] == eight["logits"] < GIB


CODER = {  # Qwen2.5-Coder-0.5B's
    "model_type": "qwen2",
    "torch_dtype": "bfloat16",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def test_a_large_writer_computes_its_activations_anew_where_no_card_is():
    """Four pairs of the code model took 23 GB of this machine's memory, and the system ended them."""
    coder = ModelShapes(CODER, dict(dense_tensors(CODER)))
    four = Training(rank=16, batch_size=4, tokens=1000, stages=1)
    assert recomputes(coder, 2 * 4 * 1000) and not recomputes(coder, 100)
    terms = host_terms(coder, four)
    assert terms["activations"] < 2 * GIB < MOST_ACTIVATIONS_BYTES * 2
    assert terms["weights"] == 4 * coder.num_elements
    machine = Machine(gpus=(), host_bytes=24 * GIB, disk_bytes=None)
    (device,) = plan_capacity(Models(coder, {}), machine, Demand(training=four)).devices
    assert device.training == terms


def test_a_stage_too_large_for_a_machine_without_cards_is_refused_before_it_starts():
    machine = Machine(gpus=(), host_bytes=40 * GIB, disk_bytes=None)
    assert plan_capacity(paper(), machine, Demand())
    with pytest.raises(
        UsageError, match=r"training on this machine: has 40.00 GiB.*weights.*more memory"
    ):
        plan_capacity(paper(), machine, Demand(training=TRAINING))


def test_eight_cards_share_the_work_and_each_has_its_bank():
    machine = parse_machine("8xH100-80GB")
    one, eight = (
        plan_capacity(paper(), m, Demand()) for m in (parse_machine("1xH100-80GB"), machine)
    )
    assert [d.terms for d in eight.devices] == [one.devices[0].terms] * 8
    times = estimate(paper(), machine, eight, AMOUNTS)
    alone = estimate(paper(), parse_machine("1xH100-80GB"), one, AMOUNTS)
    assert times is not None and alone is not None
    assert times.stages["scoring"] == pytest.approx(alone.stages["scoring"] / 8)
    assert times.seconds >= times.stages["driver"] + times.stages["starts"]


def test_a_small_card_leaves_the_bank_on_the_host():
    machine = replace(parse_machine("2x24GB"), host_bytes=128 * GIB)
    capacity = plan_capacity(paper(), machine, Demand())
    assert capacity.bank["device"] == 0
    assert capacity.bank["pinned"] == sum(paper().bank("mlp").values())
    little = plan_capacity(paper(), replace(machine, host_bytes=48 * GIB), Demand())
    assert little.bank["pinned"] + little.bank["disk"] == sum(paper().bank("mlp").values())
    assert little.bank["disk"] > 0


@pytest.mark.parametrize(
    ("gpus", "more", "said"),
    [
        ("1x16GB", {}, r"16GB: has .*largest is weights: what helps is a card with more memory"),
        ("1x24GB", {"context": 1 << 17}, r"kv_cache.*engine.max_model_len below 131072"),
        ("1x24GB", {"training": TRAINING}, r"training on 24GB.*dpo.batch_size or dpo.lora_rank"),
        ("1xH100", {"host_bytes": 4 * GIB}, r"the host.*largest is processes"),
    ],
)
def test_what_cannot_fit_says_what_would_help(gpus, more, said):
    with pytest.raises(UsageError, match=said):
        plan_capacity(paper(), parse_machine(gpus), replace(Demand(), **more))


def test_each_ray_worker_pins_its_part_of_the_hosts_memory_not_of_one_bank():
    """Eight cards of 40 GB had 3.8 GiB pinned each, and read 27 GiB from disk for every candidate."""
    machine = replace(parse_machine("8xA100-40GB"), host_bytes=1000 * GIB)
    capacity = plan_capacity(paper(), machine, Demand())
    whole, part = Shares.of(capacity).pinned, Shares.of(capacity, num_banks=8).pinned
    assert whole == part == capacity.bank["pinned"] > 25 * GIB
    narrow = plan_capacity(paper(), replace(machine, host_bytes=200 * GIB), Demand())
    assert 0 < 8 * Shares.of(narrow, num_banks=8).pinned <= 100 * GIB


def test_a_small_card_that_does_not_train_is_not_asked_for_it():
    """A batch of 8 is shared by 8 of 10 cards, and training takes the first ones."""
    machine = Machine(parse_machine("8xH100").gpus + parse_machine("2x32GB").gpus, None, None)
    devices = plan_capacity(paper(), machine, Demand(training=TRAINING)).devices
    assert [bool(device.training) for device in devices] == [True] * 8 + [False] * 2
    turned = Machine(machine.gpus[::-1], None, None)
    with pytest.raises(UsageError, match="training on 32GB"):
        plan_capacity(paper(), turned, Demand(training=replace(TRAINING, batch_size=2)))


def test_a_disk_too_small_for_what_training_leaves_is_found():
    machine = replace(parse_machine("1xH100"), disk_bytes=20 * GIB)
    with pytest.raises(UsageError, match=r"the disk: has 20.00 GiB.*trained.*fewer iterations"):
        plan_capacity(paper(), machine, Demand(training=TRAINING))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), st.integers(1, 256), st.sampled_from([512, 4096, 8192]))
def test_a_plan_never_gives_more_than_there_is(size_gib, sequences, context):
    """On a card of any size: terms are positive and fit, and a larger card never holds less."""
    demand = Demand(sequences=sequences, context=context, tokens=min(context, 1356))
    machine = Machine((gpu_of("x", size_gib * GIB),), host_bytes=256 * GIB)
    larger = Machine((gpu_of("x", (size_gib + 1) * GIB),), host_bytes=256 * GIB)
    try:
        plan = plan_capacity(paper(), machine, demand)
    except UsageError:
        return
    (device,) = plan.devices
    assert all(size >= 0 for size in (*device.terms.values(), *plan.host.terms.values()))
    assert sum(device.terms.values()) <= device.size_bytes
    assert sum(plan.host.terms.values()) <= plan.host.size_bytes
    assert sum(plan.bank.values()) == sum(paper().bank("mlp").values())
    assert plan.sequences is not None and 1 <= plan.sequences <= sequences
    more = plan_capacity(paper(), larger, demand)
    assert more.bank["device"] >= plan.bank["device"]
    assert json.dumps(plan.to_json())


def test_what_others_use_of_a_card_is_not_planned():
    free = Machine((gpu_of("x", 80 * GIB, 60 * GIB),))
    (device,) = plan_capacity(paper(), free, Demand()).devices
    assert sum(device.terms.values()) <= 60 * GIB


def test_a_generator_of_its_own_has_an_engine_of_its_own():
    models = replace(paper(), generator=shapes(QWEN))
    (device,) = plan_capacity(models, parse_machine("1xH200"), Demand()).devices
    assert device.terms["generator"] > shapes(QWEN).size_bytes
    cache = device.terms["generator_cache"]
    assert 0 < cache < device.terms["kv_cache"] and sum(device.terms.values()) <= device.size_bytes
    # Its engine is told so: that of the base has another share.
    shares = Shares.of(plan_capacity(models, parse_machine("2xH200"), Demand()))
    assert (shares.cache, shares.writer_cache) == (device.terms["kv_cache"], cache)
    assert Shares.of(plan_capacity(paper(), parse_machine("1xH200"), Demand())).writer_cache is None


def test_without_a_card_all_is_in_the_machines_memory():
    small = replace(
        shapes(LLAMA), tensors={"a.mlp.up_proj.weight": shapes(LLAMA).tensors["model.norm.weight"]}
    )
    capacity = plan_capacity(Models(small, {}), Machine((), 8 * GIB, GIB), Demand(context=2048))
    assert capacity.devices[0].name == "cpu"
    assert capacity.devices[0].terms["kv_cache"] <= 512 << 20
    with pytest.raises(UsageError, match="this machine: has"):
        plan_capacity(paper(), Machine((), 8 * GIB, GIB), Demand())


# ---- machines


@pytest.mark.parametrize(
    ("text", "count", "size_bytes"),
    [
        ("8xH100-80GB", 8, 81559 << 20),
        ("1xA100-40GB", 1, 40960 << 20),
        ("8xH200", 8, 143771 << 20),
        ("1x16GB", 1, 16 * 10**9),
        ("2x24GiB", 2, 24 << 30),
        ("1xNVIDIA-A100-SXM4-80GB", 1, 81920 << 20),
    ],
)
def test_cards_by_name_and_by_bytes(text, count, size_bytes):
    gpus = parse_machine(text).gpus
    assert len(gpus) == count
    assert {gpu.size_bytes for gpu in gpus} == {gpu.free_bytes for gpu in gpus} == {size_bytes}


@pytest.mark.parametrize("text", ["", "8", "0xH100", "H100", "8xH100 ", "-1x16GB", "2xFoo", "1x80"])
def test_a_text_that_names_no_card_is_refused(text):
    if text == "8xH100 ":
        assert len(parse_machine(text).gpus) == 8
        return
    with pytest.raises(UsageError, match="--gpus"):
        parse_machine(text)


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "gpus:\n- {name: H100-80GB, count: 2}\n- {name: mine, memory: 32GB, terabytes_per_s: 2, teraflops: 300}\n"
        "host: 512GB\ndisk: 1TB\n"
    )
    machine = parse_machine(str(file))
    assert [gpu.name for gpu in machine.gpus] == ["H100-80GB", "H100-80GB", "mine"]
    assert machine.gpus[2].bytes_per_s == 2e12 and machine.gpus[2].size_bytes == 32 * 10**9
    assert (machine.host_bytes, machine.disk_bytes) == (512 * 10**9, 10**12)
    for text in (
        "- 3\n",
        "gpus: []\nhost: much\n",
        "- {memory: 8GB, count: 0}\n",
        "{",
        "- {count: 2}\n",
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match="--gpus"):
            parse_machine(str(file))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpu:\n- {name: H100-80GB}\n", "unknown key 'gpu'; there are gpus, host, disk; did you mean 'gpus'?"),
        ("gpus: [{name: H100-80GB}]\nhots: 1TB\n", "unknown key 'hots'; there are gpus, host, disk; did you mean 'host'?"),
        ("{nmae: H100-80GB, count: 2}", "unknown key 'nmae'; there are name, .*; did you mean 'name'?"),
        ("{nmae: H100-80GB}", "unknown key 'nmae'; there are name, .*; did you mean 'name'?"),
        ("gpus: {nam: H100-80GB}", "unknown key 'nam'; there are name, .*; did you mean 'name'?"),
        ("host: 1TB\n", "names no card; add the key gpus, a list of"),
        ("{}", "names no card; add the key gpus"),
    ],
)  # fmt: skip
def test_a_key_of_a_file_that_is_none_is_told_the_nearest(tmp_path, text, says):
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=rf"--gpus .*cluster\.yaml: {says}".replace("?", r"\?")):
        parse_machine(str(file))


def test_devices_here_are_those_that_the_driver_reports(monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 81007, GPU-1a2b, Disabled'\n"
        "echo 'NVIDIA L4, 23034, 100, GPU-3c4d, [N/A]'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machines, "SMI", (str(smi),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first, second = machines.gpus_here()
    assert (first.size_bytes, first.free_bytes) == (81559 << 20, 81007 << 20)
    assert first.bytes_per_s == 3.35e12 and second.flops == 121e12
    assert machines.devices_here() == ["0", "1"]
    # The list follows the bus, and so must CUDA's numbers, unless the user has said otherwise.
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert machines.seeing(["1"])["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert machines.seeing(["1"])["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.name for gpu in machines.gpus_here()] == ["NVIDIA L4"]
    assert machines.devices_here() == ["1"]
    for nothing in ("", "-1", "7"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert machines.gpus_here() == ()
        assert machines.devices_here() == []
    # A scheduler may name one card of several, or all, in its own order.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-3c4d")
    assert [gpu.name for gpu in machines.gpus_here()] == ["NVIDIA L4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-3c,GPU-1a2b")
    assert [gpu.name for gpu in machines.gpus_here()] == ["NVIDIA L4", "NVIDIA H100 80GB HBM3"]
    # vLLM asks the driver's library for a card by its whole UUID.
    assert machines.devices_here() == ["GPU-3c4d", "GPU-1a2b"]
    for cut_off in ("1,7,0", "GPU-3c,GPU-9,GPU-1a2b"):
        # CUDA stops at the first card that is not there.
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cut_off)
        assert len(machines.gpus_here()) == len(machines.devices_here()) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7f2a,MIG-11")
    with pytest.raises(UsageError, match="MIG-7f2a, a part of a card"):
        machines.gpus_here()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for script in ("exit 9", "echo 'Orin, [N/A], [N/A], GPU-1, [N/A]'"):
        smi.write_text(f"#!/bin/sh\n{script}\n")
        assert machines.gpus_here() == ()
    # Cards that the driver does not tell of are not taken for none: training would meet them hours later.
    monkeypatch.setattr(machines, "FIRST_CARD", tmp_path)
    smi.write_text(
        "#!/bin/sh\necho 'Unable to determine the device handle: GPU is lost'; exit 15\n"
    )
    with pytest.raises(UsageError, match=r"does not tell.*GPU is lost.*CUDA_VISIBLE_DEVICES"):
        machines.gpus_here()
    smi.write_text("#!/bin/sh\nsleep 9\n")
    monkeypatch.setattr(machines, "SMI_S", 0.1)
    with pytest.raises(UsageError, match="timed out"):
        machines.gpus_here()


def test_a_card_that_is_divided_is_refused_and_others_are_not(monkeypatch, tmp_path):
    """CUDA gives its first part, say 10 of 80 GB, where the list tells the bytes of the whole."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\necho 'NVIDIA L4, 23034, 100, GPU-1, [N/A]'\n"
        "echo 'NVIDIA H100, [N/A], [N/A], GPU-2, Enabled'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setattr(machines, "SMI", (str(smi),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UsageError, match=r"card 1 is divided into parts \(MIG\)"):
        machines.gpus_here()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [gpu.name for gpu in machines.gpus_here()] == ["NVIDIA L4"]
