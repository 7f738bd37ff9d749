"""The Python interface: `import selfdev_engine as sd` (docs/tutorial.md shows all of it).

    sd.merge("ties", base=..., experts={"math": ...}, params={"density": 0.3}, out="merged")
    run = sd.screen("programs", base=..., experts=..., task="gsm8k", run="runs/first")
    run = sd.run("config.yaml")
    run = sd.open_run("runs/first")
    run.best, run.top(), run.records(), run.to_pandas()

This is the package itself; the top folders engine, kernels, selfdev and bench are its parts. The commands are
made of the same functions. Names are imported when they are first used, so that the import itself takes no time.
"""

import importlib
from typing import TYPE_CHECKING

# Editors read these imports, where the package is installed.
if TYPE_CHECKING:
    from .engine.errors import EngineError, MissingExtra, NoRun, Rejected, Rejection, UsageError
    from .engine.evaluate import evaluate_model
    from .engine.merge import MergeReport, merge_to_folder
    from .engine.program import Program, extract
    from .engine.records.compare import Comparison
    from .engine.records.score import Score
    from .engine.records.store import Store
    from .engine.screen import screen_programs
    from .engine.screening.read_programs import read_programs
    from .engine.screening.settings import ScreenSettings
    from .selfdev.config import RunConfig, load_config
    from .selfdev.merge import merge
    from .selfdev.open_run import Iteration, Linear, Run, ScoredProgram, open_run
    from .selfdev.run import run
    from .selfdev.screen import screen

# Each name that is offered, with the module of this package that defines it.
NAMES = {
    "Comparison": "engine.records.compare",
    "EngineError": "engine.errors",
    "Iteration": "selfdev.open_run",
    "Linear": "selfdev.open_run",
    "MergeReport": "engine.merge",
    "MissingExtra": "engine.errors",
    "NoRun": "engine.errors",
    "Program": "engine.program",
    "Rejected": "engine.errors",
    "Rejection": "engine.errors",
    "Run": "selfdev.open_run",
    "RunConfig": "selfdev.config",
    "Score": "engine.records.score",
    "ScoredProgram": "selfdev.open_run",
    "ScreenSettings": "engine.screening.settings",
    "Store": "engine.records.store",
    "UsageError": "engine.errors",
    "evaluate_model": "engine.evaluate",
    "extract": "engine.program",
    "load_config": "selfdev.config",
    "merge": "selfdev.merge",
    "merge_to_folder": "engine.merge",
    "open_run": "selfdev.open_run",
    "read_programs": "engine.screening.read_programs",
    "run": "selfdev.run",
    "screen": "selfdev.screen",
    "screen_programs": "engine.screen",
}
__all__ = [
    "Comparison",
    "EngineError",
    "Iteration",
    "Linear",
    "MergeReport",
    "MissingExtra",
    "NoRun",
    "Program",
    "Rejected",
    "Rejection",
    "Run",
    "RunConfig",
    "Score",
    "ScoredProgram",
    "ScreenSettings",
    "Store",
    "UsageError",
    "evaluate_model",
    "extract",
    "load_config",
    "merge",
    "merge_to_folder",
    "open_run",
    "read_programs",
    "run",
    "screen",
    "screen_programs",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("selfdev-engine")
    if name not in NAMES:
        errors = importlib.import_module(f"{__name__}.engine.errors")
        near = errors.did_you_mean(name, NAMES)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{near}")
    return getattr(importlib.import_module(f"{__name__}.{NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*NAMES, "__version__"])
