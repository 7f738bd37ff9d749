"""Loads a program's code as a fresh module."""

from __future__ import annotations

import sys
import types
from typing import Any

FILENAME = "<program>"


def load(code: str) -> Any:
    """merge_models of a fresh module. dataclasses and typing find the module by its name."""
    module = types.ModuleType("merge_program")
    sys.modules[module.__name__] = module
    exec(compile(code, FILENAME, "exec"), module.__dict__)
    return module.__dict__["merge_models"]
