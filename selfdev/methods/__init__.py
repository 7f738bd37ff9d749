"""Published merge methods, each a merge program in this folder. They run as candidates do."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError, did_you_mean
from ...engine.given import at_home
from ...engine.program import Program, extract
from ...engine.screening.read_programs import MAX_BYTES
from ...engine.weights.small_file import read_text
from ..parameters import Signature, Value, fitted, shown, signature_of

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


def load_method(name: str, missing: str = "no such file, and no method") -> str:
    """The source of a built-in method. UsageError names an unknown one, `missing` in what words."""
    if name in RAW_WEIGHTS:
        raise UsageError(f"{name}: is not offered here: {RAW_WEIGHTS[name]}")
    if name not in method_names():
        near = did_you_mean(name, method_names())
        raise UsageError(f"{name}: {missing}{near} (there are {', '.join(method_names())})")
    return (FOLDER / f"{name}.py").read_text()


def read_program(
    place: str, params: Mapping[str, Value], num_experts: int | None = None
) -> Program:
    """A program from a file, or a built-in method by name; its parameters are known and fit.

    Raises UsageError or Rejected.
    """
    if not place.strip():
        raise UsageError("an empty name of a program; is a variable unset?")
    path = at_home(place)
    if path.is_dir():
        raise UsageError(f"{place}: is a folder; give one program")
    if not os.path.lexists(path):
        return built_in(place, params, num_experts)
    program = extract(read_text(path, most_bytes=MAX_BYTES))
    return replace(program, params=fitted(path.name, program.code, params, num_experts))


def built_in(name: str, params: Mapping[str, Value], num_experts: int | None = None) -> Program:
    """A built-in method; its parameters are known and fit. Raises UsageError."""
    program = extract(load_method(name))
    params = fitted(Path(name).name, program.code, params, num_experts, is_ours=True)
    return replace(program, params=params)


def describe_methods() -> list[dict[str, Any]]:
    """Every method with its parameters, read from the files: nothing is run."""
    return [describe(name) for name in method_names()]


def describe(name: str) -> dict[str, Any]:
    """A method by its name: all that its file says of it, and a command that uses it."""
    text = load_method(name, "no such method")
    signature = signature_of(text, is_ours=True)
    pieces = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")
    about, *more = (" ".join(piece.split()) for piece in pieces)
    words = param_words(signature, 2)
    # The first one, and the weights, are what people set.
    params = [w for w in words if w == words[0] or w.startswith("weights=")]
    chosen = "".join(f" --param {word}" for word in params)
    models = "--base BASE --expert a=DIR_A --expert b=DIR_B --out merged"
    return {
        "name": name,
        "about": about,
        "more": " ".join(more),
        "experts": signature.num_experts,
        "parameters": [parameter.to_json() for parameter in signature.declared.values()],
        "example": f"selfdev-engine merge {name}{chosen} {models}",
    }


def param_words(signature: Signature, num_experts: int) -> list[str]:
    """Each declared parameter with its default, as --param takes it; a list has 1 for each expert."""
    return [
        f"{p.name}={','.join(['1'] * num_experts) if p.is_list else shown(p.default)}"
        for p in signature.declared.values()
    ]
