"""Says what form a JSON value of run.db must have, and where one has another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from ..errors import UsageError, in_one_line

# A form is a name of WORDS ("NAME?" may be null, too), a tuple of one form (a list of any number of such),
# a list of forms (a list of just these), or a mapping: "KEY?" may be absent or null there, and "*" stands for
# every key that is not named.
Form = Any
WORDS = {
    "number": "a number",
    "real": "a number",
    "whole": "a whole number",
    "text": "text",
    "truth": "true or false",
    "list": "a list",
    "object": "an object",
    "any": "anything",
}
# As many characters of a value are shown.
MOST_SHOWN = 40


def stored(text: str, where: str = "run.db is damaged", form: Form = "any") -> Any:
    """Return the value of a JSON text of run.db. UsageError where it is none, or of another form.

    `where` begins the message: the file, the table, the row.
    """
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(where, f"it is not JSON ({error})") from None
    if fault := next(misfits(value, form, ""), None):
        raise damaged(where, fault)
    return value


def damaged(where: str, what: str) -> UsageError:
    """Make the error that tells of a damaged run.db, and what can be done."""
    what = f"{in_one_line(where)}: {what}"
    return UsageError(f"{what}; restore the folder from a copy, or start the run again")


def in_file(path: object, *place: str) -> str:
    """Return how a message begins that tells of a place in a damaged run.db."""
    return ", ".join([f"{path} is damaged: {place[0]}", *place[1:]]) if place else str(path)


def misfits(value: Any, form: Form, place: str) -> Iterator[str]:
    """Yield what of a value is not as its form says, in words."""
    if isinstance(form, tuple | list):
        if type(value) is not list or (type(form) is list and len(value) != len(form)):
            yield said(value, "list", place)
            return
        for i, one in enumerate(value):
            yield from misfits(one, form[i if type(form) is list else 0], f"{place}[{i}]")
    elif isinstance(form, Mapping):
        yield from misfits_of_object(value, form, place)
    elif not fits(value, form):
        yield said(value, form, place)


def misfits_of_object(value: Any, form: Mapping[str, Form], place: str) -> Iterator[str]:
    """Yield what of an object is not as its form says."""
    if type(value) is not dict:
        yield said(value, "object", place)
        return
    for key, one in form.items():
        name = key.removesuffix("?")
        if key == "*":
            for other in value.keys() - {key.removesuffix("?") for key in form}:
                yield from misfits(value[other], one, joined(place, other))
        elif value.get(name) is not None:
            yield from misfits(value[name], one, joined(place, name))
        elif name == key:
            yield f"{joined(place, name)} is missing"


def joined(place: str, key: str) -> str:
    return f"{place}.{in_one_line(key[:MOST_SHOWN])}" if place else in_one_line(key[:MOST_SHOWN])


def fits(value: Any, form: str) -> bool:
    """Tell whether a value is of a form that has a name."""
    kind = type(value)
    if value is None:
        return form.endswith("?")
    match form.removesuffix("?"):
        case "number":
            if not isinstance(value, int | float) or kind is bool:
                return False
            return abs(value) < 1e300 and isfinite(value)
        case "real":
            return kind in (int, float)
        case "whole":
            return kind is int
        case "text":
            return kind is str
        case "truth":
            return kind is bool
        case "list" | "object":
            return kind is (list if form == "list" else dict)
    return True


def said(value: Any, form: str, place: str) -> str:
    """Say what is in a place in which something of another form belongs."""
    return (
        f"{place or 'the value'} is {shown(value)}, where {WORDS[form.removesuffix('?')]} belongs"
    )


def shown(value: object) -> str:
    """Return a value as a message has it, cut."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = {dict: "an object", type(None): "null"}.get(type(value)) or in_one_line(repr(value))
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
