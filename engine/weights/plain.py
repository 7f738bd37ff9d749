"""Tells whether a checkpoint's weights are plain numbers: not quantised, and of a dtype that can be merged."""

from __future__ import annotations

import re

from ..errors import UsageError
from .agreement import check_agreement
from .checkpoint import Checkpoint
from .headers import shown

FLOATS = ("bfloat16", "float16", "float32")
# Dtypes of quantised weights.
CODES = ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz")
CODES = (*CODES, "int8", "uint8")
CONFIG_KEYS = ("quantization_config", "compression_config")
# Names of the tensors beside quantised weights: bitsandbytes, GPTQ, AWQ, compressed tensors, fp8.
SIGNS = (".absmax", ".quant_map", ".SCB", ".qweight", ".qzeros", ".weight_packed", ".weight_scale")
SIGNS = (*SIGNS, ".weight_scale_inv", ".g_idx")
# What loaders compute for themselves, though old checkpoints hold it: rotations, causal masks, positions.
ROTATION = re.compile(r"(^|\.)rotary_(pos_)?emb\.(inv_freq|cos_cached|sin_cached)$")
MASK = re.compile(r"(^|\.)(attn|attention|self_attention)\.(masked_)?bias$")

# Tables of sines, in GPT-J, CodeGen and XGLM. Positions that are learned end in `.weight`.
SINES = re.compile(r"(^|\.)(attn\.embed_positions|embed_positions\.weights)$")
NUMBERS = re.compile(r"(^|\.)position_ids$")


def is_buffer(checkpoint: Checkpoint, name: str) -> bool:
    """Tell whether every loader leaves the tensor out, because it is no weight."""
    if ROTATION.search(name) or SINES.search(name):
        return True
    if NUMBERS.search(name) and checkpoint.entries[name].dtype == "int64":
        return True
    return bool(MASK.search(name)) and len(checkpoint.shape(name)) in (0, 4)


def check_config(base: Checkpoint) -> None:
    """Raise UsageError where nothing could load a merged model, which has the base's config."""
    kind = base.config.get("model_type")
    if not (kind and isinstance(kind, str)):
        raise UsageError(
            f"{base.folder / 'config.json'}: names no model_type, so nothing could load the result"
        )
    check_agreement(base)


def check_plain(what: str, checkpoint: Checkpoint) -> None:
    """Raise UsageError where the model is quantised. The message begins with `what`."""
    if sign := quantised(checkpoint):
        raise UsageError(
            f"{what}{checkpoint.folder}: is quantised ({sign}): such weights can be neither merged nor "
            "swapped; start from the 16 or 32 bit checkpoint"
        )


def quantised(checkpoint: Checkpoint) -> str:
    """Return what shows that the weights are quantised; "" where they are plain."""
    config = checkpoint.config if (checkpoint.folder / "config.json").exists() else {}
    for key in CONFIG_KEYS:
        if found := config.get(key):
            method = found.get("quant_method") if isinstance(found, dict) else None
            return (
                f"{shown(str(method))}; {key} in config.json" if method else f"{key} in config.json"
            )
    for name, entry in checkpoint.entries.items():
        if name.endswith(SIGNS) or ".quant_state." in name:
            return f"it holds {shown(name)}"
        if name.endswith(".weight") and entry.dtype in CODES:
            return f"{entry.file.name}: {shown(name)} is {entry.dtype}"
    return ""


def check_float(what: str, checkpoint: Checkpoint, name: str) -> None:
    """Raise UsageError unless the tensor is a float of 16 or 32 bits."""
    if (dtype := checkpoint.entries[name].dtype) not in FLOATS:
        raise UsageError(
            f"{what}{checkpoint.entries[name].file}: {shown(name)} is {dtype}, not a 16 or 32 bit "
            "float; convert the model: from_pretrained(DIR, dtype=torch.float32).save_pretrained(NEW)"
        )
