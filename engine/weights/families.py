"""Tells by the names of a layer's tensors that config.json and weights are of two families of models.

The names are those of transformers' classes (release 5); a test compares them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

LLAMA = (
    "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.v_proj.weight self_attn.o_proj.weight "
    "mlp.gate_proj.weight mlp.up_proj.weight mlp.down_proj.weight post_attention_layernorm.weight"
)
FIRST_NORM = "input_layernorm.weight"
BIASES = "self_attn.q_proj.bias self_attn.k_proj.bias self_attn.v_proj.bias"
NORMS = "self_attn.q_norm.weight self_attn.k_norm.weight"
AFTER = "post_feedforward_layernorm.weight"
BEFORE = "pre_feedforward_layernorm.weight"
GPT2 = "ln_1.weight attn.c_attn.weight attn.c_proj.weight mlp.c_fc.weight mlp.c_proj.weight"
# Tensors that each layer of a family has.
PARTS = {
    "llama": f"{LLAMA} {FIRST_NORM}",
    "mistral": f"{LLAMA} {FIRST_NORM}",
    "smollm3": f"{LLAMA} {FIRST_NORM}",
    "granite": f"{LLAMA} {FIRST_NORM}",
    "gemma": f"{LLAMA} {FIRST_NORM}",
    "qwen2": f"{LLAMA} {FIRST_NORM} {BIASES}",
    "qwen3": f"{LLAMA} {FIRST_NORM} {NORMS}",
    "gemma2": f"{LLAMA} {FIRST_NORM} {BEFORE} {AFTER}",
    "gemma3_text": f"{LLAMA} {FIRST_NORM} {NORMS} {BEFORE} {AFTER}",
    "olmo2": f"{LLAMA} {NORMS} {AFTER}",
    "olmo3": f"{LLAMA} {NORMS} {AFTER}",
    "phi": "self_attn.q_proj.weight self_attn.dense.weight mlp.fc1.weight mlp.fc2.weight",
    "phi3": "self_attn.qkv_proj.weight mlp.gate_up_proj.weight mlp.down_proj.weight",
    "starcoder2": f"self_attn.q_proj.weight mlp.c_fc.weight mlp.c_proj.weight {FIRST_NORM}",
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gpt_neo": "ln_1.weight attn.attention.q_proj.weight mlp.c_fc.weight",
    "gptj": "ln_1.weight attn.q_proj.weight mlp.fc_in.weight",
    "codegen": "ln_1.weight attn.qkv_proj.weight mlp.fc_in.weight",
    "gpt_neox": "attention.query_key_value.weight mlp.dense_h_to_4h.weight",
    "bloom": "self_attention.query_key_value.weight mlp.dense_h_to_4h.weight",
    "falcon": "self_attention.query_key_value.weight mlp.dense_h_to_4h.weight",
    "opt": "self_attn.out_proj.weight self_attn_layer_norm.weight fc1.weight fc2.weight",
    "mpt": "norm_1.weight attn.Wqkv.weight ffn.up_proj.weight",
}
# Families with layers like Llama's differ in these tensors. Loaders leave out a tensor that they do not know.
TELLING = frozenset(f"{BIASES} {NORMS} {BEFORE} {AFTER} {FIRST_NORM}".split())


def faults_of_family(config: Mapping[str, Any], names: Collection[str]) -> Iterator[str]:
    """Yield why a layer with tensors of these names does not belong to the family that the config names."""
    kind = config.get("model_type")
    parts = PARTS.get(kind, "").split() if isinstance(kind, str) else []
    if lacking := [part for part in parts if part not in names]:
        yield f"a layer of a {kind} has {lacking[0]}, but the weights hold none"
    elif "mlp.gate_proj.weight" in parts:
        biased = config.get("attention_bias") is True or config.get("bias") is True
        known = {*parts, *(BIASES.split() if biased else ())}
        if foreign := sorted(TELLING.intersection(names) - known):
            yield f"the weights hold {foreign[0]} in each layer, which a {kind} has not"
