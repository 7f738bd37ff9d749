"""Configs of published models, so that a run can be planned before anything is downloaded.

Only what decides shapes is here, under the names of config.json. Rows that a fine-tune added to its
vocabulary were not checked against the hub; a row takes 16 KiB of 14.5 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# A model's config.json.
Config = Mapping[str, Any]

MISTRAL_7B: Config = MappingProxyType(
    {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
        "torch_dtype": "bfloat16",
    }
)
LLAMA_3_8B: Config = MappingProxyType(
    {
        **MISTRAL_7B,
        "model_type": "llama",
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "sliding_window": None,
    }
)
QWEN2_5_7B: Config = MappingProxyType(
    {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 131072,
        "sliding_window": 131072,
        "use_sliding_window": False,
        "torch_dtype": "bfloat16",
    }
)
OPENCHAT: Config = {**MISTRAL_7B, "vocab_size": 32002, "max_position_embeddings": 8192}

KNOWN: Mapping[str, Config] = {
    # The seed and the experts of the paper's runs (arXiv 2410.15639, section 3.1) ...
    "openchat/openchat-3.5-1210": OPENCHAT,
    "GAIR/Abel-7B-002": MISTRAL_7B,
    "SciPhi/SciPhi-Mistral-7B-32k": MISTRAL_7B,
    "teknium/OpenHermes-2.5-Mistral-7B": {**MISTRAL_7B, "vocab_size": 32002},
    # ... and those of its transfer to other experts (section 4).
    "WizardLMTeam/WizardMath-7B-V1.1": MISTRAL_7B,
    "BioMistral/BioMistral-7B": MISTRAL_7B,
    "berkeley-nest/Starling-LM-7B-alpha": OPENCHAT,
    # Models of other families that are often merged.
    "mistralai/Mistral-7B-v0.1": MISTRAL_7B,
    "meta-llama/Meta-Llama-3-8B": LLAMA_3_8B,
    "Qwen/Qwen2.5-7B": QWEN2_5_7B,
}
