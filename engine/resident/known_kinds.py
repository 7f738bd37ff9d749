"""Tells whether the installed libraries know a model's kind. Their tables are read as text: nothing is imported."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from ..errors import UsageError
from ..weights.checkpoint import Checkpoint
from ..weights.headers import shown
from .client import installed_engine

# Files that name every kind which a library loads without code of the model's own.
TABLES = {
    "transformers": ("models/auto/auto_mappings.py", "models/auto/configuration_auto.py"),
    "vllm": ("transformers_utils/config.py",),
}


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
    text, word = tables(library), re.escape(kind)
    return not text or bool(re.search(rf"""(["']{word}["']\s*[,:]|\b{word}=)\s*["']\w""", text))


@cache
def tables(library: str) -> str:
    """Return the text of a library's tables; "" where it is not installed, or is laid out otherwise."""
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        return ""
    files = [Path(found.origin).parent / name for name in TABLES[library]]
    return "\n".join(f.read_text(errors="replace") for f in files if f.is_file())
