"""Finds which files of a folder are the model's weights, and says what a folder without them is.

All loaders must agree on it: transformers takes model.safetensors, or what the index names; vLLM takes
every file. A folder that they would read in two ways is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import UsageError
from .disguises import disguise_of
from .headers import Entry, read_header, shown, strict_json
from .small_file import read_bytes

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# Files of an adapter.
ADAPTER = re.compile(r"adapter_(model|config)\b")
# How files with Mistral's own tensor names begin, which lie beside those of transformers.
OWN_FORMAT = "consolidated"
SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")
LORA = re.compile(r"(^base_model\.model\.|\.lora_(A|B|embedding_A|embedding_B)\b)")
USUAL = "LoRA"
# Kinds of adapters that put vectors beside a prompt.
NO_WEIGHTS = ("PROMPT", "PREFIX", "P_TUNING")
LONGEST_NAME_BYTES = 255
CONVERT = (
    "it has only pickled weights, which are never loaded here; convert them once: "
    "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW, safe_serialization=True)"
)
# Suffixes of other programs' weights, with what to do.
UNLOADABLE = {
    ".gguf": "it has only GGUF weights, which are quantised; start from the 16 bit checkpoint",
    ".h5": "it has only TensorFlow's weights; convert them to safetensors",
    ".msgpack": "it has only Flax's weights; convert them to safetensors",
    ".onnx": "it has only ONNX weights; start from the safetensors checkpoint",
}


def read_folder(folder: Path) -> dict[str, Entry]:
    """Return all tensors of a model's folder by name, in the order of its files.

    UsageError says what is wrong with the folder.
    """
    entries: dict[str, Entry] = {}
    for file in weight_files(folder):
        for name, entry in read_header(file).items():
            if name in entries:
                raise UsageError(
                    f"{file}: holds {shown(name)}, and so does {entries[name].file.name}: two sets of "
                    f"weights in one folder; keep one of them, or say in {INDEX} which file counts"
                )
            entries[name] = entry
    if not entries:
        raise UsageError(f"{folder}: its weights hold no tensor")
    if all(LORA.search(name) for name in entries):
        raise UsageError(f"{folder}: {adapter_text(next(iter(entries)))}")
    check_index(folder, entries)
    return entries


def safetensors_in(folder: Path) -> list[Path]:
    """Return a folder's safetensors files. Hidden ones are no weights: copies by macOS leave such."""
    return sorted(f for f in folder.glob("*.safetensors") if not f.name.startswith("."))


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that count: those that the index names, or all without an index.

    UsageError where a file is missing, or the folder holds no weights, or two sets of them.
    """
    files = safetensors_in(folder)
    if os.path.lexists(folder / INDEX):
        return indexed(folder, files)
    whole = [file for file in files if not ADAPTER.match(file.name)]
    if not whole:
        raise UsageError(f"{folder}: {instead(folder)}")
    whole = [file for file in whole if not file.name.startswith(OWN_FORMAT)] or whole
    check_shards(whole)
    if folder / SINGLE in whole and len(whole) > 1:
        held = read_header(folder / SINGLE)
        for other in whole:
            if other.name != SINGLE and not held.keys() & read_header(other).keys():
                raise UsageError(
                    f"{other}: lies beside {SINGLE}, which loaders read alone; remove it, or write "
                    f"an {INDEX}"
                )
    return whole


def indexed(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Return the files that the index names. UsageError where one is missing or ambiguous."""
    names = sorted(set(index_map(folder / INDEX).values()))
    for name in names:
        if not os.path.lexists(folder / name):
            raise UsageError(f"{folder / name}: no such file, but {INDEX} names it")
    if folder / SINGLE in files and SINGLE not in names:
        raise UsageError(
            f"{folder / SINGLE}: is not in {INDEX}: two sets of weights in one folder, of which "
            "transformers reads this one and vLLM the other; remove one"
        )
    return [folder / name for name in names]


def check_shards(files: Sequence[Path]) -> None:
    """Raise UsageError where a numbered shard is missing, or there are two sets of them."""
    found = {file: match for file in files if (match := SHARD.fullmatch(file.name))}
    totals = {(match[1], match[3]): match for match in found.values()}
    for (stem, total), match in totals.items():
        there = {int(m[2]) for m in found.values() if (m[1], m[3]) == (stem, total)}
        # A total that no folder has is a name, not a number of files.
        for number in range(1, min(int(total), len(there) + 1) + 1):
            if number not in there:
                name = f"{stem}-{number:0{len(match[2])}d}-of-{total}.safetensors"
                raise UsageError(
                    f"{files[0].parent / name}: no such file, but the other shards say that there "
                    f"are {int(total)}; download it"
                )
    for one, other in pairwise(totals.values()):
        raise UsageError(
            f"{files[0].parent}: holds {one[0]} and {other[0]}: shards of two sets; keep one"
        )


def index_map(index: Path) -> dict[str, str]:
    """Return the file name of each tensor by the index. UsageError where it is not an index."""
    try:
        found = strict_json(read_bytes(index).decode("utf-8"))
        if not isinstance(found, dict) or "weight_map" not in found:
            raise TypeError("it is no object with a weight_map")
        if not isinstance(where := found["weight_map"], dict):
            raise TypeError("its weight_map is no mapping")
        if not where:
            raise TypeError("its weight_map is empty")
        return {name: file_name(file) for name, file in where.items()}
    except (ValueError, TypeError, RecursionError) as error:
        what = disguise_of(index) or str(error)
        raise UsageError(f"{index}: not an index of weights: {what}") from None


def file_name(value: object) -> str:
    """Return a file name that the index gives. ValueError where it leads out of the index's folder."""
    if not isinstance(value, str) or not value.endswith(".safetensors"):
        raise ValueError(f"{shown(repr(value))} is no safetensors file")
    if "/" in value or "\0" in value or len(value.encode(errors="replace")) > LONGEST_NAME_BYTES:
        raise ValueError(f"{shown(repr(value))} is no name of a file in this folder")
    return value


def check_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Raise UsageError where the index names a file for a tensor that is not in it."""
    index = folder / INDEX
    if not index.exists():
        return
    for name, file in index_map(index).items():
        if name not in entries or entries[name].file.name != file:
            raise UsageError(f"{folder / file}: does not hold {shown(name)}, but {INDEX} says so")


def instead(folder: Path) -> str:
    """Say what a folder without weights is, and what to do."""
    names = [path.name for path in folder.iterdir()]
    if any(ADAPTER.match(name) for name in names):
        return adapter_text("adapter_config.json", folder)
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
        return CONVERT
    for suffix, text in UNLOADABLE.items():
        if any(name.endswith(suffix) for name in names):
            return text
    inner = sorted(path.parent.name for path in folder.glob("*/*.safetensors"))
    hint = f"; {inner[0]}/ in it does" if inner else ""
    return f"holds no *.safetensors weights{hint}"


def adapter_text(sign: str, folder: Path | None = None) -> str:
    kind = peft_type(folder / "adapter_config.json") if folder else USUAL
    if any(word in kind for word in NO_WEIGHTS):
        return (
            f"is an adapter ({kind}; {shown(sign)}), which changes no weights: it cannot be merged"
        )
    return (
        f"is an adapter ({kind}; {shown(sign)}), not a model: merge it into its base first: "
        "PeftModel.from_pretrained(BASE, DIR).merge_and_unload().save_pretrained(NEW)"
    )


def peft_type(config: Path) -> str:
    """Return the kind of an adapter, as its config calls it; the usual one where it does not."""
    with contextlib.suppress(OSError, ValueError, RecursionError, UsageError):
        found = json.loads(read_bytes(config))
        if isinstance(found, dict) and isinstance(kind := found.get("peft_type"), str):
            return USUAL if kind == "LORA" else shown(kind)
    return USUAL
