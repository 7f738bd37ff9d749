"""Checks what public Python functions are given, before anything is started.

A function marked with `checked` has each argument read by the reader of its name: the table READERS, or one of
its own. A reader returns the value in the one form that the code wants, or raises UsageError.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .errors import UsageError, did_you_mean, in_one_line

Reader = Callable[[str, Any], Any]
P = ParamSpec("P")
T = TypeVar("T")
MOST_SHOWN = 60
# Seeds that every library takes.
MAX_SEED = 2**32 - 1


def wrong(name: str, wanted: str, value: object) -> UsageError:
    """Return the error for a value of another type."""
    shown = in_one_line(repr(value))
    cut = f"{shown[:MOST_SHOWN]}..." if len(shown) > MOST_SHOWN else shown
    return UsageError(f"{name}: give {wanted}, not {cut}")


def at_home(path: str | PathLike[str]) -> Path:
    """Put the home in place of ~. UsageError where ~NAME is the home of nobody here."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path}: no home is known for its first part; write the folder out"
        ) from None


# ---- readers


def given_path(name: str, value: object) -> Path:
    """Return a path that a caller gave as str or Path, with ~ expanded."""
    if not isinstance(value, str | PathLike) or not str(value):
        raise wrong(name, "a path, as str or Path", value)
    return at_home(value)


def given_place(name: str, value: object) -> str:
    """Return the place of a model: a folder, or a hub id."""
    if not isinstance(value, str | PathLike):
        raise wrong(name, "a folder or hub id, as str or Path", value)
    return str(value)


def given_places(name: str, value: object) -> tuple[str, ...]:
    """Return files and folders as texts; one may be given without a list around it."""
    found = (value,) if isinstance(value, str | PathLike) else value
    if not isinstance(found, Sequence) or not all(
        isinstance(place, str | PathLike) and str(place) for place in found
    ):
        raise wrong(name, "files and folders, as str or Path", value)
    return tuple(map(str, found))


def given_experts(name: str, value: object) -> dict[str, str]:
    """Return the experts' places by their names."""
    words = 'a dict, such as {"math": "models/math"}'
    return {
        key: given_place(f"{name}[{key!r}]", v) for key, v in by_name(name, words, value).items()
    }


def given_inputs(name: str, value: object) -> dict[str, Path]:
    """Return paths by what they are."""
    found = by_name(name, 'a dict, such as {"the program": "mine.py"}', value)
    return {key: given_path(f"{name}[{key!r}]", path) for key, path in found.items()}


def given_params(name: str, value: object) -> dict[str, Any]:
    """Return the parameters of a program."""
    found = by_name(name, 'a dict, such as {"density": 0.3}', value)
    for key, one in found.items():
        if not isinstance(one, bool | int | float | str) or not is_sendable(one):
            words = 'a finite number, True, False, or a text, such as "0.5,0.3" for many numbers'
            raise wrong(f"{name}[{key!r}]", words, one)
    return found


def by_name(name: str, wanted: str, value: object) -> dict[str, Any]:
    """Return a mapping whose keys are texts."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise wrong(name, wanted, value)
    return dict(value)


def is_sendable(value: bool | int | float | str) -> bool:
    """Whether a child can be told this value: NaN, infinity and what no float can hold are no JSON."""
    return isinstance(value, str) or abs(value) <= sys.float_info.max


def given_text(name: str, value: object) -> str:
    """Return a text. What it may say is checked where it is used."""
    if not isinstance(value, str):
        raise wrong(name, "a text, as str", value)
    return value


def given_flag(name: str, value: object) -> bool:
    """Return True or False: the text "no" would count as True."""
    if not isinstance(value, bool):
        raise wrong(name, "True or False", value)
    return value


def given_memory(name: str, value: object) -> str | int:
    """Return a size in bytes, or its text; what the text says is checked where it is read."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong(name, 'a size such as "2GiB", or a number of bytes', value)
    return value


def given_seconds(name: str, value: object) -> float:
    """Return a time in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise wrong(name, "a number of seconds over 0", value)
    return value


def given_callback(name: str, value: object) -> Callable[..., object]:
    """Return a function that is told of progress."""
    if not callable(value):
        raise wrong(name, "a function of (done, total)", value)
    return value


def whole(least: int, most: int | None = None) -> Reader:
    """Make the reader of whole numbers in a range."""
    bounds = f"at least {least}" + (f", at most {most}" if most is not None else "")

    def given_whole(name: str, value: Any) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and value >= least and (most is None or value <= most):
            return value
        raise wrong(name, f"a whole number, {bounds}", value)

    return given_whole


def one_of(*words: str) -> Reader:
    """Make the reader of a few words."""
    listed = ", ".join(words)

    def given_word(name: str, value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = did_you_mean(value, words) if isinstance(value, str) else ""
        raise UsageError(f"{wrong(name, f'one of {listed}', value)}{near}")

    return given_word


def instance(kind: type, wanted: str) -> Reader:
    """Make the reader of objects of one class; `wanted` says where people have one from."""

    def given_instance(name: str, value: object) -> object:
        if not isinstance(value, kind):
            raise wrong(name, wanted, value)
        return value

    return given_instance


def having(wanted: str, *methods: str) -> Reader:
    """Make the reader of objects with these methods."""

    def given_object(name: str, value: object) -> object:
        if isinstance(value, type) or not all(callable(getattr(value, m, None)) for m in methods):
            raise wrong(name, wanted, value)
        return value

    return given_object


# The reader of each argument's name, in every public function that has no other one for it.
READERS: dict[str, Reader] = {
    **dict.fromkeys(("out", "run", "folder", "path", "data", "output"), given_path),
    **dict.fromkeys(("base", "model"), given_place),
    "experts": given_experts,
    "params": given_params,
    "places": given_places,
    "also_read": given_inputs,
    **dict.fromkeys(("text", "code", "task", "include"), given_text),
    **dict.fromkeys(("backend", "race", "address", "report_to"), given_text),
    "engine": one_of("auto", "vllm", "transformers"),
    "shots": one_of("auto", "fixed", "harness"),
    "split": one_of("dev", "test"),
    **dict.fromkeys(("name", "note", "first", "second", "arm"), given_text),
    **dict.fromkeys(("overwrite", "resume", "check", "trust_remote_code"), given_flag),
    **dict.fromkeys(("unsafe_sandbox", "accept_engine", "log_samples", "eager_tier"), given_flag),
    **dict.fromkeys(("memory", "gpu_memory"), given_memory),
    **dict.fromkeys(("workers", "top", "memory_bytes", "gpu_memory_bytes"), whole(1)),
    **dict.fromkeys(("first_line", "max_model_len"), whole(1)),
    **dict.fromkeys(("trace_timeout_s", "replay_limit_s"), given_seconds),
    "count": whole(0),
    "seed": whole(0, MAX_SEED),
    "progress": given_callback,
}


# ---- where they are used


def checked(**own: Reader) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have each argument of a function or method read before it is called.

    `own` are readers of this function; the others are in READERS. None is taken where it is the default.
    """

    def mark(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        places = {n: p for n, p in signature.parameters.items() if n != "self"}
        readers = {name: (own.get(name) or READERS[name], p.default) for name, p in places.items()}

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                check_names(function.__name__, kwargs, list(places))
                # Python's own words name the function.
                return function(*args, **kwargs)
            for name, value in bound.arguments.items():
                if name != "self":
                    bound.arguments[name] = given(name, value, *readers[name])
            return function(*bound.args, **bound.kwargs)

        return call

    return mark


def check_names(function: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise Python's own TypeError for an argument that a function has not, with the name most like it."""
    for name in given:
        if name not in known:
            words = f"{function}() got an unexpected keyword argument {name!r}"
            near = did_you_mean(name, known) or f"; it takes {', '.join(known)}"
            raise TypeError(f"{words}{near}")


def given(name: str, value: object, reader: Reader, default: object) -> object:
    """Return the value as its reader gives it."""
    return None if value is None and default is None else reader(name, value)


def check_fields(thing: Any, **own: Reader) -> None:
    """Have each field of a frozen dataclass read, as `checked` does for arguments."""
    for field in dataclasses.fields(thing):
        reader = own.get(field.name) or READERS[field.name]
        value = given(field.name, getattr(thing, field.name), reader, field.default)
        object.__setattr__(thing, field.name, value)


# ---- what their errors say

# An option, and what stands for its value (DIR, NAME=DIR) or is one (density=0.3, or a word of these).
OPTION = re.compile(
    r"--([a-z]+(?:-[a-z]+)*)"
    r"(?: ([\w.-]+=[^\s,;:]+|[A-Z][A-Z:|]*\b|(?:sure|likely|full|transformers|vllm|auto)\b(?!:)))?"
)


def in_python(**words: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let the function's errors name its arguments. `words` are for options that are none of them."""

    def mark(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except UsageError as error:
                error.args = (said_of(str(error), inspect.signature(function), words),)
                raise

        return call

    return mark


def said_of(message: str, signature: inspect.Signature, words: Mapping[str, str]) -> str:
    """Return a message about options as one about the arguments of a function with this signature."""
    return OPTION.sub(partial(argument, signature.parameters, words), message)


def argument(
    parameters: Mapping[str, inspect.Parameter], words: Mapping[str, str], found: re.Match[str]
) -> str:
    """Return an option, with its value where it has one, as an argument; as it is where it is none."""
    option, value = found[1].replace("-", "_"), found[2]
    if option in words:
        return found[0].replace(f"--{found[1]}", words[option])
    names = (option, f"{option}s", f"{option}_bytes")
    name = next((name for name in names if name in parameters), None)
    if name is None:
        return found[0]
    if isinstance(parameters[name].default, bool):
        return f"{name}=True{f' {value}' if value else ''}"
    if value is None:
        return name
    key, is_pair, what = value.partition("=")
    if is_pair:
        return f'{name}={{"{key}": {what}}}'
    return f"{name}={value if value.isupper() else repr(value)}"
