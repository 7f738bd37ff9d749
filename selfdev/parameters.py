"""Parameters of merge programs: what a text declares, and whether values fit. Nothing is run for that.

A built-in method declares its parameters in a literal beside its function, and their defaults in the
signature:

    PARAMETERS = {"density": {"over": 0, "most": 1, "about": "share of entries kept"}}

Bounds are `over` or `least` and `below` or `most`; `list` is one number an expert, with commas; `around`
names another parameter, from which it may lead no further than that one's bounds; `summed` says that the
result is divided by the sum of these weights: True, or the name of the parameter that says so. NUM_EXPERTS is how many
experts a method wants. Of any other program only the names in its signature are read.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ..engine.errors import Rejected, UsageError
from ..engine.program import FUNCTION, Program, extract

Value = float | int | str | bool
FIRST = 2  # model_dict and device are given by the driver
# Weights whose sum is smaller add up to 0; mergekit has the same bound.
LEAST_SUM = 1e-8


@dataclass(frozen=True)
class Parameter:
    """One parameter as it is declared; `bounds` are over, least, below, most."""

    name: str
    default: Value
    bounds: Mapping[str, float]
    is_list: bool
    around: str | None
    about: str
    # Whether the numbers may not add up to 0, or which parameter says so.
    summed: bool | str = False

    @property
    def kind(self) -> str:
        if self.is_list:
            return "numbers"
        return {bool: "true or false", str: "text"}.get(type(self.default), "number")

    @property
    def range(self) -> str:
        """Say the bounds in words: "over 0, at most 1"."""
        words = {"over": "over", "least": "at least", "below": "below", "most": "at most"}
        return ", ".join(f"{words[key]} {bound:g}" for key, bound in self.bounds.items())

    @property
    def wanted(self) -> str:
        """Say in words what a value must be."""
        if self.is_list:
            return f"numbers {self.range}".strip() + ", with commas, such as 0.5,0.3"
        return f"a number {self.range}".strip() if self.kind == "number" else self.kind

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.kind,
            "range": self.range or None,
            "default": self.default,
            "about": self.about,
        }


@dataclass(frozen=True)
class Signature:
    """What a program can be given. `declared` is empty for a program that declares nothing."""

    names: tuple[str, ...]
    takes_any: bool  # it has **kwargs, or nobody can tell
    declared: Mapping[str, Parameter]
    num_experts: int | None
    # Those whose default is a number, with it.
    numbers: Mapping[str, float] = field(default_factory=dict)


def signature_of(code: str, is_ours: bool = False) -> Signature:
    """Read a program's parameters from its text, which must parse; declarations of our own files only."""
    module = ast.parse(code)
    found = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == FUNCTION]
    if not found:
        return Signature((), True, {}, None)
    given = found[-1].args
    places = [*given.posonlyargs, *given.args]
    names = tuple(a.arg for a in [*places[FIRST:], *given.kwonlyargs])
    if not is_ours:
        return Signature(names, given.kwarg is not None, {}, None, numeric_defaults(given))
    literals = constants(module)
    defaults = [ast.literal_eval(default) for default in given.defaults]
    values = dict(zip(names, defaults, strict=True))
    words = literals.get("PARAMETERS", {})
    declared = {name: declared_as(name, values[name], words[name]) for name in names}
    return Signature(names, False, declared, literals.get("NUM_EXPERTS"))


def numeric_defaults(given: ast.arguments) -> dict[str, float]:
    """Return the parameters whose default is written as a number."""
    places = [*given.posonlyargs, *given.args]
    pairs = [*zip(reversed(places), reversed(given.defaults), strict=False)]
    pairs += [(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d]
    found = [(a.arg, d.value) for a, d in pairs if isinstance(d, ast.Constant)]
    return {n: v for n, v in found if isinstance(v, int | float) and not isinstance(v, bool)}


def constants(module: ast.Module) -> dict[str, Any]:
    """Return PARAMETERS and NUM_EXPERTS of a method's file."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def declared_as(name: str, default: Value, words: Mapping[str, Any]) -> Parameter:
    bounds = {key: words[key] for key in ("over", "least", "below", "most") if key in words}
    is_list, around = bool(words.get("list")), words.get("around")
    about, summed = words["about"], words.get("summed", False)
    return Parameter(name, default, bounds, is_list, around, about, summed)


# ---- do values fit?


def fitted(
    program: str,
    code: str,
    params: Mapping[str, Value],
    num_experts: int | None = None,
    is_ours: bool = False,
) -> dict[str, Value]:
    """Return the parameters in the types that the program wants. UsageError names one that does not fit.

    `program` is how people call it. Without `num_experts` nothing is said about their number.
    """
    signature = signature_of(code, is_ours)
    if not signature.takes_any:
        for name in params:
            check_name(program, name, signature.names)
    if not signature.declared:
        check_kinds(program, [signature], params)
        return dict(params)
    wanted = signature.num_experts
    if num_experts and wanted and wanted != num_experts:
        raise UsageError(f"{program}: merges {wanted} experts; {num_experts} are given")
    values = {n: fit(program, signature.declared[n], v, num_experts) for n, v in params.items()}
    check_around(program, signature.declared, values)
    check_sums(program, signature.declared, values)
    return values


def check_params(texts: Sequence[str], params: Mapping[str, Value]) -> None:
    """Raise UsageError for a parameter that none of many programs has."""
    if not params:
        return
    signatures = [signature_of(program.code) for text in texts if (program := readable(text))]
    if any(signature.takes_any for signature in signatures) or not signatures:
        return
    known = tuple(dict.fromkeys(name for s in signatures for name in s.names))
    who = f"each of {len(texts)} programs" if len(texts) > 1 else "the program"
    for name in params:
        check_name(who, name, known)
    check_kinds(who, signatures, params)


def check_kinds(program: str, signatures: Sequence[Signature], params: Mapping[str, Value]) -> None:
    """Raise UsageError for a text where every program with that parameter has a number."""
    for name, value in params.items():
        defaults = [s.numbers.get(name) for s in signatures if name in s.names]
        if isinstance(value, str) and defaults and None not in defaults:
            raise UsageError(
                f"--param {name}={shown(value)}: {program} wants a number ({defaults[0]:g} unless given)"
            )


def readable(text: str) -> Program | None:
    try:
        return extract(text)
    except Rejected:
        return None


def check_name(program: str, name: str, known: tuple[str, ...]) -> None:
    """Raise UsageError for an unknown name, with the nearest one, or all."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    has = f"it has {', '.join(known)}" if known else "it has none"
    raise UsageError(f"--param {name}: {program} has no such parameter; {hint}{has}")


def fit(program: str, parameter: Parameter, value: Value, num_experts: int | None) -> Value:
    """Return the value in the parameter's type. UsageError where it has none, or is out of range."""
    if parameter.is_list:
        return fit_list(program, parameter, value, num_experts)
    if parameter.kind == "number":
        if is_number(value) and within(parameter.bounds, value):
            return float(value)
    elif isinstance(value, type(parameter.default)):
        return value
    raise unfit(program, parameter, value)


def fit_list(program: str, parameter: Parameter, value: Value, num_experts: int | None) -> str:
    """Return the numbers as text: one for each expert, or none."""
    words = str(value).split(",") if value != "" else []
    are_finite = not isinstance(value, bool) and all(is_finite(word) for word in words)
    if not are_finite or not all(within(parameter.bounds, float(word)) for word in words):
        raise unfit(program, parameter, value)
    if words and num_experts and len(words) != num_experts:
        raise UsageError(
            f"--param {parameter.name}={shown(value)}: {len(words)} numbers for {num_experts} "
            f"experts; {program} wants one for each, in the order of --expert"
        )
    return str(value)


def is_number(value: Value) -> TypeGuard[int | float]:
    return not isinstance(value, bool | str) and abs(value) < math.inf and value == value


def is_finite(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def within(bounds: Mapping[str, float], value: float) -> bool:
    return (
        value > bounds.get("over", -math.inf)
        and value >= bounds.get("least", -math.inf)
        and value < bounds.get("below", math.inf)
        and value <= bounds.get("most", math.inf)
    )


def unfit(program: str, parameter: Parameter, value: Value) -> UsageError:
    return UsageError(
        f"--param {parameter.name}={shown(value)}: {program} wants {parameter.wanted} "
        f"({parameter.about}; {shown(parameter.default)!r} unless given)"
    )


def shown(value: Value) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def check_around(
    program: str, declared: Mapping[str, Parameter], values: Mapping[str, Value]
) -> None:
    """UsageError where middle - width or middle + width leaves the middle's bounds."""
    for width in declared.values():
        if width.around is None:
            continue
        middle = declared[width.around]
        low, high = middle.bounds.get("over", -math.inf), middle.bounds.get("most", math.inf)
        center = float(values.get(middle.name, middle.default))
        size = float(values.get(width.name, width.default))
        if not low <= center - size <= center + size <= high:
            room = min(center - low, high - center)
            raise UsageError(
                f"--param {width.name}={size:g}: around {middle.name}={center:g} {program} would "
                f"leave {low:g} to {high:g}; give {width.name} at most {room:g}"
            )


def check_sums(
    program: str, declared: Mapping[str, Parameter], values: Mapping[str, Value]
) -> None:
    """UsageError where a method would divide by weights that add up to 0."""
    for name, value in values.items():
        by, words = declared[name].summed, str(value).split(",")
        flag = declared.get(str(by))
        if not by or value == "" or (flag and not values.get(flag.name, flag.default)):
            continue
        if abs(sum(map(float, words))) < LEAST_SUM:
            hint = f", or give --param {flag.name}=false" if flag else ""
            raise UsageError(
                f"--param {name}={shown(value)}: the weights add up to 0, and {program} divides by "
                f"their sum; give others{hint}"
            )
