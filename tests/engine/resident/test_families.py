"""Models as people have them: placed, swapped and asked, or refused with the reason before a question.

Tiny random checkpoints on transformers, in this process; vLLM where it is the point.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.merge import merge_to_folder
from selfdev_engine.engine.plans.cells import Cells
from selfdev_engine.engine.plans.planner import Planner
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.decoding import encode
from selfdev_engine.engine.resident.messages import EngineSettings, Sampling
from selfdev_engine.engine.resident.model import Model
from selfdev_engine.engine.resident.parts import Parts, place_by_name
from selfdev_engine.engine.resident.placement import Unplaceable
from selfdev_engine.engine.resident.runnable import check_runnable
from selfdev_engine.engine.resident.sizes import bytes_per_token, context_of
from selfdev_engine.engine.resident.worker import Worker
from selfdev_engine.engine.sandbox.box import Sandbox
from selfdev_engine.engine.trace.settings import TraceSettings, open_sandbox
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.engine.weights.bank import Bank
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint
from selfdev_engine.engine.weights.selection import Selection
from selfdev_engine.kernels.backends import get_backend

TOKENS = {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA = {
    "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, **TOKENS,
}  # fmt: skip
GPT2 = {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 128, **TOKENS}
MIXED = {**LLAMA, "num_local_experts": 3, "head_dim": 32}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", LLAMA),
    "narrow": ("LlamaConfig", {**LLAMA, "hidden_size": 64}),
    "mistral": ("MistralConfig", {**LLAMA, "sliding_window": 64}),
    "qwen3": ("Qwen3Config", {**LLAMA, "head_dim": 32}),
    "olmo2": ("Olmo2Config", LLAMA),
    "gemma2": ("Gemma2Config", {**LLAMA, "head_dim": 32, "query_pre_attn_scalar": 32}),
    "qwen2_tied": ("Qwen2Config", {**LLAMA, "tie_word_embeddings": True}),
    "gemma3": ("Gemma3TextConfig", {**LLAMA, "head_dim": 32, "query_pre_attn_scalar": 32}),
    "phi": ("PhiConfig", {**LLAMA, "num_key_value_heads": 4}),
    "phi3": ("Phi3Config", {**LLAMA, "head_dim": 32}),
    "bloom": ("BloomConfig", {"hidden_size": 128, "n_layer": 2, "n_head": 4, **TOKENS}),
    "gpt_neox": ("GPTNeoXConfig", {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}),
    "gpt2": ("GPT2Config", GPT2),
    "falcon": ("FalconConfig", {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, **TOKENS}),
    "mpt": ("MptConfig", {"d_model": 128, "n_layers": 2, "n_heads": 4, "max_seq_len": 128, **TOKENS}),
    "mixtral": ("MixtralConfig", MIXED),
    "qwen3_moe": ("Qwen3MoeConfig", {**MIXED, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
}  # fmt: skip
# Families of whose layouts the others are variants, and those that are slower to make.
SLOW = {"mistral", "qwen3", "gemma2", "narrow", "falcon", "mpt", "phi", "qwen3_moe"}
QUICK = [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in FAMILIES]
SWAP = ("llama", "qwen2_tied", "gpt_neox", "gpt2", "mixtral", "qwen3_moe")  # merged in place, too
PROGRAM = extract(
    "import torch\ndef merge_models(d, device):\n    x, = d.values()\n"
    "    return x * (torch.rand_like(x) < 0.5)\n"  # draws: each tensor has keys of its own
)
ARITHMETIC = extract("def merge_models(d, device):\n    x, = d.values()\n    return 0.7 * x\n")


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(i) for i in range(33, 127)] + ["Ġ", "Ċ"]
    vocab = {w: i for i, w in enumerate(["<pad>", "<s>", "</s>", *letters])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="module")
def make(tokenizer, tmp_path_factory):
    """make(family): folders `base` and `x` of it, in bf16."""
    import transformers

    made: dict[str, Path] = {}

    def models(family: str) -> Path:
        if family not in made:
            made[family] = folder = tmp_path_factory.mktemp(family)
            kind, words = FAMILIES[family]
            torch.manual_seed(len(family))
            config = getattr(transformers, kind)(**words)
            model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
            for name in ("base", "x"):
                if name == "x":
                    for parameter in model.parameters():
                        parameter.data += 0.05 * torch.randn_like(parameter)
                model.save_pretrained(folder / name)
                tokenizer.save_pretrained(folder / name)
        return made[family]

    return models


@pytest.fixture(scope="module")
def sandbox():
    with open_sandbox(TraceSettings()) as box:
        yield box


class Silent:
    def progress(self, done: int) -> None:
        pass


def open_worker(base: Path, experts: dict[str, str], include: str) -> Worker:
    worker = Worker(Silent(), EngineSettings("transformers"))  # pyright: ignore[reportArgumentType]
    worker.open_model("target", str(base))
    worker.open_bank("target", str(base), experts, include, "cpu")
    return worker


def check_swap(worker: Worker, sandbox: Sandbox, folder: Path, include: str) -> None:
    """The live weights are those of the merge on disk, and the base comes back."""
    base, experts = str(folder / "base"), {"x": str(folder / "x")}
    merge_to_folder(
        PROGRAM, base=base, experts=experts, out=folder / "out", include=include,
        sandbox=sandbox,
    )  # fmt: skip
    with Tracer(TraceSettings(), sandbox) as tracer:
        bank = Bank.open(base, experts, include)
        cells = Cells.of(bank.selection, tracer, None)
        plan = Planner(bank, tracer, get_backend("cpu"), 0, cells).plan(PROGRAM)
    live = worker.apply("target", plan.to_bytes())["weights_fingerprint"]  # pyright: ignore
    assert live == folder_fingerprint(folder / "out") == read_again(worker)
    assert live != worker.restore("target")["weights_fingerprint"] == folder_fingerprint(base)
    assert read_again(worker) == folder_fingerprint(base)
    assert worker.load_weights("target", str(folder / "out"))["weights_fingerprint"] == live


def check_reload(worker: Worker, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading writes each tensor once, leaves no value of before, and equals a fresh engine."""
    model, written = worker.models["target"], list[str]()
    write = model.write
    monkeypatch.setattr(model, "write", lambda n, t: written.append(n) or write(n, t))
    for live in model.placement.live.values():
        if live.is_floating_point() and live.data_ptr() in parameters_of(model):
            live.fill_(torch.nan)
    loaded = worker.load_weights("target", str(folder))["weights_fingerprint"]
    assert sorted(written) == sorted(model.names)
    assert not any(live.isnan().any() for live in model.placement.live.values())
    fresh = Worker(Silent(), EngineSettings("transformers"))  # pyright: ignore[reportArgumentType]
    assert fresh.open_model("fresh", str(folder))["weights_fingerprint"] == loaded
    assert fresh.fingerprint("fresh") == worker.fingerprint("target")
    assert ask(fresh, "fresh") == ask(worker, "target")


def parameters_of(model: Model) -> set[int]:
    return {live.data_ptr() for n in model.names for live in model.placement.parameters(n)}


def ask(worker: Worker, key: str) -> object:
    prompts = ["1+1=", "abcabc", "x" * 90]
    return worker.generate(key, prompts, Sampling(12).to_json(), None, False)["completions"]


def read_again(worker: Worker) -> str:
    return worker.fingerprint("target")["weights_fingerprint"]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_loads_in_transformers(make, sandbox, family):
    """Every folder that a merge writes, with nothing missing, nothing left over, no value changed."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make(family)
    merge_to_folder(
        PROGRAM, base=str(folder / "base"), experts={"x": str(folder / "x")}, include="all",
        out=folder / "merged", sandbox=sandbox,
    )  # fmt: skip
    AutoTokenizer.from_pretrained(folder / "merged")
    loaded, found = AutoModelForCausalLM.from_pretrained(
        folder / "merged", dtype="auto", output_loading_info=True
    )
    assert not any(found.values()), found
    checkpoint = Checkpoint.open(str(folder / "merged"))
    live, parts = loaded.state_dict(), Parts.of(checkpoint)
    placement = place_by_name(checkpoint, parts, live, set(dict(loaded.named_parameters())))
    for name in parts.own:
        stored = checkpoint.tensor(name)
        assert torch.equal(placement.read(name, stored.shape, stored.dtype), stored), name
    assert loaded(torch.tensor([[1, 5, 7]])).logits.isfinite().all()


def loaded(folder: Path) -> torch.nn.Module:
    """The model that transformers makes of a folder, with the values of its dtype as float64."""
    from transformers import AutoModelForCausalLM

    plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **plain)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    return model.double().eval()


@pytest.mark.parametrize("family", QUICK)
@torch.no_grad()
def test_a_written_model_answers_as_base_plus_update(make, sandbox, family):
    """The oracle adds the update to the parameters of the model itself, whatever its files are like."""
    folder = make(family)
    merge_to_folder(
        ARITHMETIC, base=str(folder / "base"), experts={"x": str(folder / "x")}, include="all",
        out=folder / "sum", sandbox=sandbox,
    )  # fmt: skip
    base, expert, merged = (loaded(folder / name) for name in ("base", "x", "sum"))
    tokens = torch.arange(3, 43).reshape(2, 20)
    before, found = base(tokens).logits, merged(tokens).logits
    theirs = dict(expert.named_parameters())
    for name, parameter in base.named_parameters():
        update = 0.7 * (theirs[name].float() - parameter.float())
        parameter.copy_((parameter.float() + update).bfloat16())
    moved = (base(tokens).logits - before).norm()
    assert (found - base(tokens).logits).norm() < 1e-3 * moved
    assert moved > 0.05 * before.norm()


@pytest.mark.parametrize("family", SWAP)
def test_families_are_swapped_and_asked(make, sandbox, monkeypatch, family):
    folder = make(family)
    worker = open_worker(folder / "base", {"x": str(folder / "x")}, "all")
    before = ask(worker, "target")
    check_swap(worker, sandbox, folder, "all")
    assert ask(worker, "target") != before
    check_reload(worker, folder / "x", monkeypatch)
    worker.restore("target")
    assert ask(worker, "target") == before
    (answer,) = worker.generate("target", ["a" * 300], Sampling(100).to_json(), None, False)[
        "completions"
    ]  # longer than the model reads
    assert answer["num_tokens"] <= 64


# ---- one model, its files as people have them


@pytest.fixture
def folder(make, tmp_path) -> Path:
    """base and x of a Llama, to spoil."""
    for name in ("base", "x"):
        (tmp_path / name).mkdir()
        for path in (make("llama") / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(folder: Path, tensors=None, **config: Any) -> None:
    file, path = folder / "model.safetensors", folder / "config.json"
    found = load_file(file)
    save_file({**found, **(tensors(found) if tensors else {})}, file, {"format": "pt"})
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FILES = {
    "tied_and_stored": (lambda t: {HEAD: t[EMBEDDING].clone()}, {"tie_word_embeddings": True}),
    "tied_by_name_only": (None, {"tie_word_embeddings": True}),
    "rotations": (
        lambda t: {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(16) for i in (0, 1)},
        {},
    ),
    "positions": (
        lambda t: {
            "model.position_ids": torch.arange(128),
            **{f"model.layers.{i}.attn.embed_positions": torch.ones(128, 16) for i in (0, 1)},
        },
        {},
    ),
    "norms_in_float32": (lambda t: {n: v.float() for n, v in t.items() if "norm" in n}, {}),
    "a_layer_in_float16": (lambda t: {n: v.half() for n, v in t.items() if "layers.1.mlp" in n}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_as_people_have_them_are_scored(folder, sandbox, name):
    tensors, config = FILES[name]
    for model in ("base", "x"):
        change(folder / model, tensors, **config)
    worker = open_worker(folder / "base", {"x": str(folder / "x")}, "all")
    check_swap(worker, sandbox, folder, "all")
    merged = load_file(folder / "out" / "model.safetensors")
    assert torch.equal(merged[HEAD], merged[EMBEDDING]) == (name == "tied_and_stored")


@pytest.mark.parametrize(
    ("family", "prefix"), [("gpt2", "transformer."), ("bloom", "transformer."), ("llama", "model.")]
)
def test_names_without_the_prefix_of_their_class_are_scored(
    make, tmp_path, sandbox, family, prefix
):
    """As GPT-2, BLOOM and OPT lie on the hub."""
    for name in ("base", "x"):
        shutil.copytree(make(family) / name, tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        plain = {key.removeprefix(prefix): value for key, value in load_file(file).items()}
        save_file(plain, file, {"format": "pt"})
    worker = open_worker(tmp_path / "base", {"x": str(tmp_path / "x")}, "all")
    check_swap(worker, sandbox, tmp_path, "all")
    assert not any(
        name.startswith(prefix) for name in load_file(tmp_path / "out/model.safetensors")
    )


def test_shards_without_an_index_are_scored(folder, sandbox):
    for name in ("base", "x"):
        file = folder / name / "model.safetensors"
        tensors = load_file(file)
        file.unlink()
        for i in range(2):
            part = {key: tensors[key] for key in sorted(tensors)[i::2]}
            save_file(part, file.with_name(f"model-{i + 1:05}-of-00002.safetensors"))
    worker = open_worker(folder / "base", {"x": str(folder / "x")}, "all")
    check_swap(worker, sandbox, folder, "all")


@pytest.mark.engine
def test_vllm_scores_them_too_and_says_what_it_cannot_swap(make, folder, tmp_path):
    """One worker for all: the import of vLLM is what takes time."""
    families = ("tied_and_stored", "rotations", "norms_in_float32")
    with Client.start(EngineSettings(cache_bytes=16 << 20), tmp_path / "log") as worker:
        for name in families:
            place = tmp_path / name
            shutil.copytree(folder / "base", place)
            tensors, config = FILES[name]
            change(place, tensors, **config)
            assert worker.open_model(name, str(place)) == folder_fingerprint(place)
            assert worker.restore(name) == worker.fingerprint(name)
        for family, why in (
            ("falcon", "a computed tensor is copied into .*; give --engine transformers"),
            ("bloom", "cannot swap its weights in place: .* its loader computes"),
            ("mpt", "cannot load it: .*; give --engine transformers"),
            ("mixtral", "is a mixture of experts"),
            ("narrow", "cannot run it: .*head_dim=16.*; give --engine transformers"),
        ):
            with pytest.raises(UsageError, match=f"{make(family)}.*{why}"):
                worker.open_model(family, str(make(family) / "base"))
        assert len(worker.generate(families[0], ["abc"], Sampling(4))) == 1  # the others live on


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: change(f, lambda t: {"model.extra.weight": torch.ones(3)}), "extra.weight: the engine leaves"),
        (lambda f: (f / "model.safetensors").unlink() or save_file(
            {EMBEDDING: torch.ones(99, 128)}, f / "model.safetensors"), "hold no output head"),
        (lambda f: change(f, hidden_size=32), "hidden_size is 32, but"),
        (lambda f: change(f, model_type="no_such_kind"), "not known to transformers"),
        (lambda f: (f / "tokenizer.json").write_text("version https://git-lfs.github.com"), "LFS pointer"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "an adapter beside the weights"),
        (lambda f: [path.unlink() for path in f.glob("tokenizer*")], "has no tokenizer"),
        (lambda f: change(f, quantization_config={"quant_method": "awq"}), r"is quantised \(awq"),
        (lambda f: change(f, lambda t: {n: v.double() for n, v in t.items()}), "weights of float64"),
        (lambda f: (f / "generation_config.json").write_text("{"), r"generation_config\.json: not JSON"),
        (lambda f: (f / "tokenizer.json").write_text('{"version": "1.0", "mod'), r"tokenizer\.json: not JSON"),
        (lambda f: change(f, architectures=["BertForMaskedLM"]), "is a BertForMaskedLM: no model that goes on"),
        (lambda f: change(f, architectures=["LlamaForSequenceClassification"]), "no model that goes on"),
        (lambda f: change(f, architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True), "and a decoder"),
        (lambda f: change(f, architectures=None, is_encoder_decoder=True), "has an encoder"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_before_a_question(folder, spoil, says):
    spoil(folder / "base")
    with pytest.raises(UsageError, match=says):
        open_worker(folder / "base", {"x": str(folder / "x")}, "all")


def test_values_that_are_in_two_places_are_not_guessed(make):
    """Experts that start alike: which one is which cannot be seen."""
    live = {"layers.0.experts.up": torch.ones(2, 3, 4)}
    checkpoint = Checkpoint.open(str(make("mixtral") / "base"))
    name = next(n for n in checkpoint.names if "experts.0" in n)
    with pytest.raises(Unplaceable, match=r"leaves it out|several places"):
        place_by_name(checkpoint, Parts((name,), {}, ()), live, set())


# ---- contexts


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({}, 4096),
        ({"n_positions": 128}, 128),
        ({"max_sequence_length": 512, "max_position_embeddings": 2048}, 512),
        ({"seq_length": 100.0}, 100),
        ({"max_seq_len": None, "model_max_length": 10**30}, 4096),
        ({"text_config": {"max_position_embeddings": 64}}, 64),
        ({"max_position_embeddings": 1024, "rope_scaling": {"type": "linear", "factor": 2.0}}, 2048),
        ({"max_position_embeddings": 1024, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 1024),
        ({"max_position_embeddings": 1024, "rope_parameters": {"a": {"rope_type": "dynamic", "factor": 3}, "b": {"rope_type": "default"}}}, 3072),
    ],
)  # fmt: skip
def test_a_context_by_whatever_name(folder, config, tokens):
    path = folder / "base" / "config.json"
    path.write_text(json.dumps({"model_type": "llama", **config}))
    assert context_of(Checkpoint.open(str(folder / "base"))) == tokens


@pytest.mark.parametrize("value", ["lots", True, -1, 0, 1e999, [4], float("nan")])
def test_a_context_that_is_none_is_named(folder, value):
    change(folder / "base", max_position_embeddings=value)
    checkpoint = Checkpoint.open(str(folder / "base"))
    with pytest.raises(
        UsageError, match=r"config\.json: max_position_embeddings is .*not a (whole )?number"
    ):
        check_runnable(checkpoint, "transformers")
    change(folder / "base", num_attention_heads="four")
    assert bytes_per_token(Checkpoint.open(str(folder / "base"))) is None


# ---- how it is asked


def test_a_text_begins_once(tokenizer):
    plain = tokenizer.encode("1+1=")
    assert plain[0] == tokenizer.bos_token_id
    for prompt in ("1+1=", "<s>1+1=", "<s><s>1+1="):
        assert encode(tokenizer, prompt) == plain
    assert encode(tokenizer, "a<s>b") == tokenizer.encode("a<s>b")

    class Plain:  # adds nothing of its own: what is spelled is kept
        bos_token, bos_token_id = "<s>", 1

        def encode(self, text):
            return [1, *text.removeprefix("<s>")] if text.startswith("<s>") else [*text]

    assert encode(Plain(), "<s>ab") == [1, "a", "b"]


HOSTILE = {
    "repetition_penalty": 1.9, "no_repeat_ngram_size": 1, "min_new_tokens": 12, "num_beams": 3,
    "suppress_tokens": list(range(40, 99)), "temperature": 0.1, "do_sample": True, "top_k": 2,
}  # fmt: skip


def asked(base: Path, **settings) -> list[str]:
    worker = Worker(Silent(), EngineSettings("transformers"))  # pyright: ignore[reportArgumentType]
    worker.open_model("target", str(base))
    words = Sampling(12).to_json()
    found = worker.generate("target", ["abc", "12+3="], words, None, False)["completions"]
    return [answer["text"] for answer in found]


def test_greedy_is_greedy(folder):
    plain = asked(folder / "base")
    path = folder / "base" / "generation_config.json"
    path.write_text(json.dumps({**HOSTILE, "eos_token_id": 2}))
    assert asked(folder / "base") == plain
    path.unlink()
    assert asked(folder / "base") == plain
    first = Checkpoint.open(str(folder / "base"))
    path.write_text(json.dumps({"eos_token_id": [2, 3 + ord(plain[0][1]) - 33]}))
    assert first.folder and asked(folder / "base")[0] == plain[0][: plain[0].index(plain[0][1])]


# ---- ties


def test_an_expert_with_a_head_of_its_own_is_said(folder):
    for model in ("base", "x"):
        change(folder / model, lambda t: {HEAD: t[EMBEDDING].clone()}, tie_word_embeddings=True)
    experts = {"x": str(folder / "x")}
    assert not Selection.open(str(folder / "base"), experts, "all").notes
    change(folder / "x", lambda t: {HEAD: t[EMBEDDING] + 1})
    found = Selection.open(str(folder / "base"), experts, "all")
    assert HEAD not in found.names and found.ties == {HEAD: EMBEDDING}
    assert "expert x has an output head of its own (lm_head.weight)" in found.notes[0]
    assert Selection.open(str(folder / "base"), experts, HEAD).names == (EMBEDDING,)
    change(folder / "base", tie_word_embeddings=False)
    assert HEAD in Selection.open(str(folder / "base"), experts, "all").names
