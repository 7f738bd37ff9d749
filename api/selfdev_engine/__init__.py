"""The Python interface: `import selfdev_engine as sd`.

    program = sd.extract(open("examples/weighted.py").read())
    report = sd.merge_to_folder(program, base=..., experts={"math": ...}, out="merged")

This is the package itself; the top folders engine, kernels, selfdev and bench are its parts. Names
are imported when they are first used, so that the import itself takes no time.
"""

import importlib
from typing import TYPE_CHECKING

# Editors read these imports, where the package is installed.
if TYPE_CHECKING:
    from .engine.errors import Rejected, Rejection, UsageError
    from .engine.evaluate import evaluate_model
    from .engine.merge import MergeReport, merge_to_folder
    from .engine.program import Program, extract
    from .engine.records.store import Store
    from .engine.screen import screen_programs
    from .engine.screening.read_programs import read_programs
    from .engine.screening.settings import ScreenSettings

# Each name that is offered, with the module of this package that defines it.
NAMES = {
    "MergeReport": "engine.merge",
    "Program": "engine.program",
    "Rejected": "engine.errors",
    "Rejection": "engine.errors",
    "ScreenSettings": "engine.screening.settings",
    "Store": "engine.records.store",
    "UsageError": "engine.errors",
    "evaluate_model": "engine.evaluate",
    "extract": "engine.program",
    "merge_to_folder": "engine.merge",
    "read_programs": "engine.screening.read_programs",
    "screen_programs": "engine.screen",
}
__all__ = [
    "MergeReport",
    "Program",
    "Rejected",
    "Rejection",
    "ScreenSettings",
    "Store",
    "UsageError",
    "evaluate_model",
    "extract",
    "merge_to_folder",
    "read_programs",
    "screen_programs",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("selfdev-engine")
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*NAMES, "__version__"])
