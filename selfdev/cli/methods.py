"""`methods`: the built-in merge methods and their parameters."""

from __future__ import annotations

from .command import Result, command


def render(result: Result) -> str:
    lines = []
    for method in result["methods"]:
        lines.append(f"{method['name']:<18}{method['about']}")
        lines += [f"    {parameter_line(parameter)}" for parameter in method["parameters"]]
    refused = (f"    {name}: {why}" for name, why in result["refused"].items())
    return "\n".join(
        [*lines, "not offered, since they are no functions of task vectors:", *refused]
    )


def parameter_line(parameter: Result) -> str:
    default = parameter["default"]
    written = str(default).lower() if isinstance(default, bool) else str(default)
    limits = f" {parameter['range']}" if parameter["range"] else ""
    return (
        f"{parameter['name'] + '=' + written:<16}{parameter['type']}{limits}: {parameter['about']}"
    )


@command("methods", render, example="selfdev-engine methods")
def methods_command() -> Result:
    """List the built-in methods: what `merge METHOD --param NAME=VALUE` takes, with ranges and defaults."""
    from ..methods import RAW_WEIGHTS, describe_methods

    return {"methods": describe_methods(), "refused": RAW_WEIGHTS}
