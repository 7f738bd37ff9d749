"""Writes generated kernels to files, and loads them as modules.

`@triton.jit` reads its source through inspect, so a kernel needs a file. People can open and debug it.
The file's name is a hash of the text. A file is written once and atomically, so several processes may
share the folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path:
    """Return the folder triton/ of $SELFDEV_CACHE or ~/.cache/selfdev-engine; it is made if need be."""
    root = os.environ.get("SELFDEV_CACHE") or "~/.cache/selfdev-engine"
    folder = Path(root).expanduser() / "triton"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@lru_cache(maxsize=512)
def load_source(source: str) -> ModuleType:
    """Return the module of a generated source."""
    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        with os.fdopen(descriptor, "w") as file:
            file.write(source)
        os.replace(fresh, path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
