"""Options that several commands take, spelled once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...engine.errors import UsageError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def stack(*decorators: Decorator) -> Decorator:
    """Several decorators as one, in the order in which --help lists them."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


experts_option = click.option(
    *("--expert", "experts"), multiple=True, metavar="NAME=DIR", help="An expert; give it for each."
)
memory_option = click.option(
    "--memory",
    metavar="SIZE",
    help="At most so much, e.g. 2GiB: for tensors of base and experts, held or in flight, and for "
    "an engine's key-value cache (a quarter for each engine where both are needed).",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Of every random choice.")
data_option = click.option(
    *("--data", "data"), type=click.Path(path_type=Path), help="Local folder of task data."
)
unsafe_option = click.option(
    *("--unsafe-sandbox", "unsafe_sandbox"),
    is_flag=True,
    help="Go on although this host lacks a required sandbox layer.",
)
shots_option = click.option(
    "--shots",
    type=click.Choice(["auto", "fixed", "harness"]),
    default="auto",
    show_default=True,
    help="Of gsm8k and math: the first five of train, or lm-evaluation-harness's draw.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "vllm", "transformers"]),
    default="auto",
    show_default=True,
    help="What answers; transformers is the slow definition, and the fallback without vLLM.",
)
environment_options = stack(memory_option, seed_option, data_option, unsafe_option)

model_options = stack(
    click.option("--base", required=True, metavar="DIR", help="The base model: folder or hub id."),
    experts_option,
    click.option(
        *("--include", "include"),
        default="mlp",
        show_default=True,
        metavar="mlp|all|REGEX",
        help="Tensors to merge.",
    ),
    click.option(
        "--backend",
        default="auto",
        show_default=True,
        metavar="auto|cpu|triton|reference",
        help="What runs the kernels.",
    ),
    click.option(
        *("--param", "params"),
        multiple=True,
        metavar="KEY=VALUE",
        help="A keyword argument of merge_models, e.g. density=0.3.",
    ),
)


def parse_experts(words: tuple[str, ...]) -> dict[str, str]:
    """NAME=DIR words as a mapping, in the order given. UsageError names the word at fault."""
    experts: dict[str, str] = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise UsageError(f"--expert {word}: write NAME=DIR, for example --expert math={word}")
        if name in experts:
            raise UsageError(f"--expert {name}: the name is given twice")
        experts[name] = place
    if not experts:
        raise UsageError("no expert is given: add --expert NAME=DIR")
    return experts


def parse_params(words: tuple[str, ...]) -> dict[str, bool | int | float | str]:
    """KEY=VALUE words; a value is a Python-like bool, int or float where it looks like one."""
    params: dict[str, bool | int | float | str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key.isidentifier() and equals):
            raise UsageError(f"--param {word}: write KEY=VALUE, for example density=0.3")
        params[key] = parse_value(value)
    return params


def parse_value(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_bytes(text: str | None) -> int | None:
    """2GiB, 512MiB, 4GB or plain bytes; None for "auto", as in a config."""
    if text is None or text == "auto":
        return None
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    if not found:
        raise UsageError(f"--memory {text}: write a size such as 2GiB or 512MiB")
    return int(float(found[1]) * units[found[2] or ""])


def parse_shape(text: str) -> tuple[int, ...]:
    """4096x14336 or 4096."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", text):
        raise UsageError(f"--shape {text}: write ROWSxCOLUMNS or a length, for example 4096x14336")
    return tuple(map(int, text.split("x")))
