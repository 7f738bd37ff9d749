"""`methods`: the built-in merge methods and their parameters, or one of them."""

from __future__ import annotations

import click

from .command import Result, command
from .completion import complete_methods


def render(result: Result) -> str:
    if len(result["methods"]) == 1:
        return method_text(result["methods"][0])
    lines = []
    for method in result["methods"]:
        lines.append(f"{method['name']:<18}{method['about']}")
        lines += [f"    {parameter_line(parameter)}" for parameter in method["parameters"]]
    refused = (f"    {name}: {why}" for name, why in result["refused"].items())
    return "\n".join(
        [*lines, "not offered, since they are no functions of task vectors:", *refused]
    )


def method_text(method: Result) -> str:
    """All about one method."""
    experts = [f"merges {method['experts']} experts"] if method["experts"] else []
    words = [f"{method['name']}: {method['about']}", method["more"], *experts]
    lines = [f"    {parameter_line(parameter)}" for parameter in method["parameters"]]
    return "\n".join(
        [*filter(None, words), *(lines or ["    no parameters"]), f"example: {method['example']}"]
    )


def parameter_line(parameter: Result) -> str:
    default = parameter["default"]
    written = str(default).lower() if isinstance(default, bool) else str(default)
    limits = f" {parameter['range']}" if parameter["range"] else ""
    return (
        f"{parameter['name'] + '=' + written:<16}{parameter['type']}{limits}: {parameter['about']}"
    )


@command("methods", render, example="selfdev-engine methods ties")
@click.argument("name", metavar="[METHOD]", required=False, shell_complete=complete_methods)
def methods_command(name: str | None) -> Result:
    """List the built-in methods: what `merge METHOD --param NAME=VALUE` takes, with ranges and defaults.

    With METHOD say all about that one, with a command that uses it.
    """
    from ..methods import RAW_WEIGHTS, describe, describe_methods

    if name is not None:
        return {"methods": [describe(name)], "refused": {}}
    return {"methods": describe_methods(), "refused": RAW_WEIGHTS}
