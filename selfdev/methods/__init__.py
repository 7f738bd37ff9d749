"""Published merge methods, each a merge program in this folder. They run as candidates do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...engine.errors import UsageError
from ...engine.program import Program, extract

FOLDER = Path(__file__).parent
# Methods of mergekit that cannot be computed from task vectors, and why.
RAW_WEIGHTS = {
    "slerp": "it interpolates whole weights; nuslerp does so with task vectors",
    "multislerp": "it interpolates whole weights; nuslerp does so with two task vectors",
    "karcher": "it averages whole weights on the sphere",
    "arcee_fusion": "it weighs by a softmax of the raw weights, which a merge program never sees",
    "nearswap": "it moves a model's own weights towards another's, and knows no base",
    "ram": "it keeps what one expert alone changed by more than 1e-5, which only suits experts "
    "that left most weights untouched",
    "ramplus_tl": "it scales what `ram` keeps by counts of unchanged weights; see ram",
    "passthrough": "it copies a model; there is nothing to merge",
}


def method_names() -> list[str]:
    """Names of the built-in methods."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def load_method(name: str) -> str:
    """The source of a built-in method. UsageError names an unknown one."""
    if name in RAW_WEIGHTS:
        raise UsageError(f"{name}: is not offered here: {RAW_WEIGHTS[name]}")
    if name not in method_names():
        raise UsageError(
            f"{name}: no such file, and no method; there are {', '.join(method_names())}"
        )
    return (FOLDER / f"{name}.py").read_text()


def read_program(place: str, params: Mapping[str, float | int | str | bool]) -> Program:
    """A program from a file, or a built-in method by name. Raises UsageError or Rejected."""
    path = Path(place)
    if path.is_dir():
        raise UsageError(f"{place}: is a folder; give one program")
    if not path.is_file():
        return extract(load_method(place), params)
    try:
        return extract(path.read_text(), params)
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: not a text file: {error}") from None
