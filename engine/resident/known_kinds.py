"""Tells whether the installed libraries know what config.json names. Their tables are read as text: nothing is imported."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from ..errors import UsageError
from ..weights.agreement import language_part
from ..weights.checkpoint import Checkpoint
from ..weights.config_types import ROTATION_NAMES
from ..weights.headers import shown
from .client import installed_engine

# Files that name every kind which a library loads without code of the model's own.
KINDS = {
    "transformers": ("models/auto/auto_mappings.py", "models/auto/configuration_auto.py"),
    "vllm": ("transformers_utils/config.py",),
}
# Files that name every function between two layers, and every rotation.
FUNCTIONS = {
    "transformers": ("activations.py",),
    "vllm": ("model_executor/layers/activation.py",),
}
ROTATIONS = {
    "transformers": ("modeling_rope_utils.py",),
    "vllm": ("model_executor/layers/rotary_embedding/__init__.py", "transformers_utils/config.py"),
}
LAYERS = {"transformers": ("configuration_utils.py",)}
# Keys of config.json with the files that know their values.
NAMED = {
    "hidden_act": FUNCTIONS,
    "hidden_activation": FUNCTIONS,
    "activation_function": FUNCTIONS,
    "rope_parameters": ROTATIONS,
    "rope_scaling": ROTATIONS,
    "layer_types": LAYERS,
}
DTYPE = re.compile(r"(torch\.)?(bfloat16|float(16|32|64|[48]_\w+)|half|float|double|auto)")


def check_known(checkpoint: Checkpoint, engine: str) -> None:
    """Raise UsageError where neither transformers nor the engine knows the config's model_type."""
    config, kind = checkpoint.config, str(checkpoint.config.get("model_type"))
    # vLLM reads what transformers knows, and a few kinds of its own.
    libraries = dict.fromkeys(("transformers", engine))
    if any(knows(library, kind) for library in libraries):
        return
    there, maker = " or ".join(map(installed_engine, libraries)), config.get("transformers_version")
    by = f" (the file was written by {shown(str(maker))})" if maker and maker not in there else ""
    code = ", and code of its own (auto_map) is never run" if config.get("auto_map") else ""
    raise UsageError(
        f"{checkpoint.folder / 'config.json'}: model_type is {shown(repr(kind))}, not known to "
        f"{there}{by}{code}: such a model can be merged, "
        "but not asked before a release has it"
    )


def knows(library: str, kind: str) -> bool:
    """Tell whether a library's tables name this kind; also where there are no tables to look in."""
    text, word = tables(library, *KINDS.get(library, ())), re.escape(kind)
    return not text or bool(re.search(rf"""(["']{word}["']\s*[,:]|\b{word}=)\s*["']\w""", text))


def check_names(checkpoint: Checkpoint) -> None:
    """Raise UsageError where a function, a rotation, a kind of layer or a dtype has a name that nothing knows."""
    config, path = language_part(checkpoint.config), checkpoint.folder / "config.json"
    for key, files in NAMED.items():
        for where, name in names_in(key, config.get(key)):
            own = own_files(str(config.get("model_type")))
            if not any(mentions(one, (*names, *own[one]), name) for one, names in files.items()):
                known_to = " or ".join(map(installed_engine, files))
                raise UsageError(
                    f"{path}: {where} is {shown(repr(name))}, not known to {known_to}, so the model "
                    "cannot be asked"
                )
    key = "dtype" if config.get("dtype") else "torch_dtype"
    if (dtype := config.get(key)) and not DTYPE.fullmatch(str(dtype)):
        raise UsageError(f"{path}: {key} is {shown(repr(dtype))}, not a dtype such as bfloat16")


def own_files(kind: str) -> Mapping[str, Sequence[str]]:
    """Return the files of a kind of model, which may name more than those of the whole library."""
    if not re.fullmatch(r"\w+", kind):
        return {"transformers": (), "vllm": ()}
    parts = [f"models/{kind}/{part}_{kind}.py" for part in ("configuration", "modeling")]
    return {"transformers": parts, "vllm": (f"model_executor/models/{kind}.py",)}


def names_in(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the names that a setting holds, with the place of each."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from names_in(f"{key}[{number}]", inner)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name in ROTATION_NAMES or isinstance(inner, Mapping):
                yield from names_in(f"{key}.{name}", inner)


def mentions(library: str, files: Sequence[str], name: str) -> bool:
    """Tell whether a library's files hold the name in quotes; also where there are no files to look in."""
    text = tables(library, *files)
    return not text or f'"{name}"' in text or f"'{name}'" in text


@cache
def tables(library: str, *names: str) -> str:
    """Return the text of a library's files; "" where it is not installed, or is laid out otherwise."""
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        return ""
    files = [Path(found.origin).parent / name for name in names]
    return "\n".join(f.read_text(errors="replace") for f in files if f.is_file())
