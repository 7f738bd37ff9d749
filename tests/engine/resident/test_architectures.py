"""Every family of models: placed by its own loader, swapped in place, and then the same tokens as an
engine that is fresh, unpatched and loaded from the merged folder (bf16, vLLM).

One worker and one fresh process serve all architectures; checkpoints are tiny and random. `make test`
asks three of them, `make test-all` all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.merge import merge_to_folder
from selfdev_engine.engine.plans.cells import Cells
from selfdev_engine.engine.plans.plan import Plan
from selfdev_engine.engine.plans.planner import Planner
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import EngineSettings, Sampling
from selfdev_engine.engine.resident.vllm_engine import check_version
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.kernels.backends import get_backend

pytestmark = pytest.mark.engine

SMALL = {
    "vocab_size": 99, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
TIED = {"tie_word_embeddings": True}
ARCHITECTURES = {
    "llama": ("LlamaConfig", {}),
    "llama_tied": ("LlamaConfig", TIED),
    "llama_packed": ("LlamaConfig", {"hidden_size": 512, "intermediate_size": 1024, **TIED}),
    "mistral": ("MistralConfig", {"head_dim": 32, "sliding_window": None}),
    "qwen2": ("Qwen2Config", TIED),
    "qwen3": ("Qwen3Config", {"head_dim": 32}),
    "gemma2": ("Gemma2Config", {"head_dim": 32, "query_pre_attn_scalar": 32, **TIED}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 32, "query_pre_attn_scalar": 32, **TIED}),
    "phi3": ("Phi3Config", {"head_dim": 32}),
}
QUICK = ("llama_packed", "mistral", "qwen2", "gemma3")  # "packed": weights large enough for it
CASES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in ARCHITECTURES]
# The longer ones fill blocks of the prefix cache (32 tokens), and share them: a stale one would show.
PROMPTS = [
    "".join(chr(33 + (7 * (i // 2) + j * j) % 90) for j in range(6 + 14 * i)) for i in range(8)
]
NEW_TOKENS = 16
PROGRAM = """import torch
def merge_models(model_dict, device):
    a, b = model_dict.values()
    return 0.7 * a + 0.6 * torch.where(a.abs() > b.abs(), a, b)
"""
FRESH = """
import json, os, sys
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR",
                  VLLM_NO_USAGE_STATS="1", VLLM_PLUGINS="", VLLM_CPU_OMP_THREADS_BIND="nobind")
from vllm import LLM, SamplingParams
folders, prompts, new_tokens = json.loads(sys.argv[1])
params = SamplingParams(temperature=0, max_tokens=new_tokens)
answers, engines = {}, []  # all kept: the end of one takes the process group of the others
for folder in folders:
    llm = LLM(folder, dtype="bfloat16", enforce_eager=True, max_model_len=128, block_size=32,
              kv_cache_memory_bytes=16 << 20)
    engines.append(llm)
    answers[folder] = [o.outputs[0].text for o in llm.generate(prompts, params, use_tqdm=False)]
open(sys.argv[2], "w").write(json.dumps(answers))
"""


def make_models(folder, name: str):
    """base, x, y of one architecture in bf16; a token is a letter, so equal text is equal tokens."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = [chr(i) for i in range(33, 127)] + ["Ġ", "Ċ"]  # byte-level BPE: space and newline
    vocab = {w: i for i, w in enumerate(["<pad>", "<s>", "</s>", *letters])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    kind, extra = ARCHITECTURES[name]
    config = getattr(transformers, kind)(**{**SMALL, "tie_word_embeddings": False, **extra})
    # Two words of llama_packed have nearly equal logits with the seed of its length. On processors with
    # AMX a worker, which keeps weights unpacked, and a fresh engine then choose differently.
    torch.manual_seed(1 if name == "llama_packed" else len(name))
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.get_input_embeddings().weight.data *= 0.05  # or tied models only repeat their last token
    for expert in ("base", "x", "y"):
        if expert != "base":
            for key, parameter in model.named_parameters():
                if parameter.dim() == 2 or "norm" in key:
                    parameter.data += 0.08 * torch.randn_like(parameter)
        model.save_pretrained(folder / name / expert)
        tokenizer.save_pretrained(folder / name / expert)
    return folder / name


def merged(folder, tracer) -> Plan:
    """The merge of all tensors, on disk in `merged`, and its plan."""
    experts = {n: str(folder / n) for n in "xy"}
    program = extract(PROGRAM)
    merge_to_folder(
        program, base=str(folder / "base"), experts=experts, out=folder / "merged", include="all"
    )
    bank = Bank.open(str(folder / "base"), experts, "all")
    plan = Planner(
        bank, tracer, get_backend("cpu"), 0, Cells.of(bank.selection, tracer, None)
    ).plan(program)
    assert isinstance(plan, Plan), plan
    return plan


@pytest.fixture(scope="module")
def folders(request, tmp_path_factory):
    """Of the architectures that are asked in this session."""
    folder = tmp_path_factory.mktemp("architectures")
    cases = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {case.params.get("architecture") for case in cases if case}
    return {
        name: make_models(folder, name) for name in ARCHITECTURES if name in wanted | {"mistral"}
    }


@pytest.fixture(scope="module")
def plans(folders):
    with Tracer(TraceSettings()) as tracer:
        return {name: merged(folder, tracer) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def fresh(folders, plans, tmp_path_factory):
    """Answers of a vLLM that knows nothing of us, by folder."""
    wanted = [str(f / which) for f in folders.values() for which in ("base", "merged")]
    out = tmp_path_factory.mktemp("fresh") / "answers.json"
    words = json.dumps([wanted, PROMPTS, NEW_TOKENS])
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", FRESH, words, str(out)], check=True, env=env, timeout=500)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    settings = EngineSettings(cache_bytes=16 << 20)
    with Client.start(settings, tmp_path_factory.mktemp("worker") / "log") as worker:
        yield worker


def answers(worker, key: str) -> list[str]:
    return [c.text for c in worker.generate(key, PROMPTS, Sampling(NEW_TOKENS))]


@pytest.mark.parametrize("architecture", CASES)
def test_swapped_weights_answer_as_a_fresh_engine(worker, folders, plans, fresh, architecture):
    name, folder = architecture, folders[architecture]
    base = worker.open_model(name, str(folder / "base"))
    experts = {n: str(folder / n) for n in "xy"}
    worker.open_bank(str(folder / "base"), experts, "all", "cpu", key=name)
    prints = worker.apply(plans[name].to_bytes(), key=name)
    assert prints == worker.fingerprint(name) != base
    assert answers(worker, name) == fresh[str(folder / "merged")]
    assert worker.restore(name) == worker.fingerprint(name) == base
    assert answers(worker, name) == fresh[str(folder / "base")]
    # a stale prefix cache or stale weights would show: the two models do not answer alike
    assert fresh[str(folder / "merged")] != fresh[str(folder / "base")]
    assert worker.load_weights(name, str(folder / "merged")) == prints


def test_what_cannot_be_swapped_is_refused_with_the_reason(worker, folders, tmp_path):
    source = folders["mistral"] / "base"
    for key, value, reason in (
        ("quantization_config", {"quant_method": "fp8"}, "is quantised"),
        ("num_local_experts", 8, "mixture of experts"),
    ):
        folder = tmp_path / key
        folder.mkdir()
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(UsageError, match=reason):
            worker.open_model("other", str(folder))


def test_transformers_is_advised_where_it_would_help(worker, folders, tmp_path):
    """It runs what only vLLM lacks. What both lack, neither runs."""
    for key, value, reason in (
        (
            "architectures",
            ["OwnForCausalLM"],
            "vllm .* cannot load it: .*give --engine transformers$",
        ),
        ("hidden_act", "swigloo", r"hidden_act is 'swigloo', not known to transformers .* or vllm"),
    ):
        folder = shutil.copytree(folders["mistral"] / "base", tmp_path / key)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(UsageError, match=reason):
            worker.open_model(key, str(folder))


@pytest.mark.parametrize("version", ["0.25.1", "0.34.0", "1.0"])
def test_a_release_that_was_never_tried_is_refused(version):
    with pytest.raises(UsageError, match=f"vLLM {version} is not supported: install one from 0.26"):
        check_version(version)
    check_version("0.32.0+cpu")


def test_quantised_tensors_are_named(folders, tmp_path):
    tensors = load_file(folders["mistral"] / "base" / "model.safetensors")
    name = next(n for n in tensors if ".mlp.up_proj" in n)
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    save_file(tensors, tmp_path / "model.safetensors")
    assert Checkpoint.open(str(tmp_path)).dtype(name) is torch.float8_e4m3fn
    with pytest.raises(UsageError, match=rf"is quantised \(.*{name} is float8_e4m3fn"):
        Bank.open(str(tmp_path), {"x": str(folders["mistral"] / "x")}, "mlp")
