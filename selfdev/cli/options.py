"""Options that several commands take, and the parsers of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...engine.errors import UsageError
from ...engine.given import MAX_SEED, is_sendable
from ..experts import check_experts
from .completion import complete_backends, complete_params, complete_tasks

# The most elements of a tensor to trace for.
MOST_ELEMENTS = 1 << 33

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Place(click.ParamType):
    """A path in which ~ is home, also in --out=~/merged, where a shell leaves it as it is."""

    name = "path"

    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        if not str(value).strip():
            self.fail("an empty path; is a variable unset?", param, ctx)
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            self.fail(f"{value}: {error}", param, ctx)


PLACE = Place()


def stack(*decorators: Decorator) -> Decorator:
    """Join decorators into one; --help lists their options in this order."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


experts_option = click.option(
    *("--expert", "experts"),
    multiple=True,
    metavar="NAME=DIR",
    help="An expert: a name and its folder or hub id. Give the option once for each expert.",
)
memory_option = click.option(
    "--memory",
    metavar="SIZE",
    help="Memory limit, for example 2GiB, for tensors of base and experts and for the engine's "
    "key-value cache. Where both are needed, each engine's cache gets a quarter.",
)
gpu_memory_option = click.option(
    "--gpu-memory",
    metavar="SIZE",
    help="Memory limit of each GPU, for example 40GiB: engine, key-value cache and tensors of base and "
    "experts. [default: what is free there]",
)
gpus_option = click.option(
    "--gpus",
    metavar="CARDS",
    help="With --plan: plan for a machine with these cards, for example 8xH100-80GB, 2x24GB or a YAML "
    "file, and not for this one.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    show_default=True,
    help="Seed of all random choices.",
)
data_option = click.option(
    *("--data", "data"),
    type=PLACE,
    help="Folder with the data of gsm8k or math, to use instead of the hub.",
)
unsafe_option = click.option(
    *("--unsafe-sandbox", "unsafe_sandbox"),
    is_flag=True,
    help="Run programs even if this machine lacks a required layer of the sandbox.",
)
shots_option = click.option(
    "--shots",
    type=click.Choice(["auto", "fixed", "harness"]),
    default="auto",
    show_default=True,
    help="Examples shown before a question of gsm8k or math: fixed are the first five of train, "
    "harness those that lm-evaluation-harness draws; auto is fixed for dev, harness for test.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "vllm", "transformers"]),
    default="auto",
    show_default=True,
    help="Which library answers the questions. transformers is slow; auto takes it only if vLLM is "
    "not installed.",
)
params_option = click.option(
    *("--param", "params"),
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_params,
    help="A keyword argument of merge_models, for example density=0.3. May be given repeatedly.",
)
task_option = click.option(
    "--task",
    required=True,
    shell_complete=complete_tasks,
    help="The questions to ask: gsm8k, math or jsonl:PATH.",
)
split_option = click.option(
    "--split",
    type=click.Choice(["dev", "test"]),
    default="dev",
    show_default=True,
    help="Which part of the task's questions to use.",
)
accept_engine_option = click.option(
    "--accept-engine",
    is_flag=True,
    help="Go on with a run that another version of the engine began; the run records it.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Engines at a time, each a process with a GPU of its own. May change when a run goes on. "
    "[default: as many as there are GPUs, else 1]",
)
address_option = click.option(
    "--address",
    metavar="HOST:PORT|auto",
    help="Place the workers on the nodes of this Ray cluster. May change when a run goes on.",
)
name_option = click.option(
    "--name", metavar="TEXT", help="What you call this run; `ls` shows it. Kept in the run folder."
)
note_option = click.option(
    "--note", metavar="TEXT", help="What you want to remember of this run; `ls` shows it."
)
label_options = stack(name_option, note_option)

BASE_HELP = "The base model: a folder or hub id."
selection_options = stack(
    experts_option,
    click.option(
        *("--include", "include"),
        default="mlp",
        show_default=True,
        metavar="mlp|all|REGEX",
        help="Tensors to merge: those of the MLPs, all, or those whose names match REGEX.",
    ),
    click.option(
        "--backend",
        default="auto",
        show_default=True,
        metavar="auto|cpu|triton|reference",
        shell_complete=complete_backends,
        help="Which backend runs the kernels.",
    ),
    params_option,
)
model_options = stack(
    click.option("--base", required=True, metavar="DIR", help=BASE_HELP), selection_options
)
# A configuration of mergekit names its base itself.
merge_options = stack(click.option("--base", metavar="DIR", help=BASE_HELP), selection_options)


def check_gpus(gpus: str | None, plan: bool) -> None:
    """UsageError where cards are given, but no plan is asked for."""
    if gpus is not None and not plan:
        raise UsageError(f"--gpus {gpus}: is for --plan only; a run takes the cards that are here")


def parse_experts(words: tuple[str, ...]) -> dict[str, str]:
    """NAME=DIR words as a mapping, in the order given. UsageError names the wrong word."""
    experts: dict[str, str] = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise UsageError(f"--expert {word}: write NAME=DIR, for example --expert math=DIR")
        if name in experts:
            raise UsageError(f"--expert {name}: the name is given twice")
        experts[name] = place
    check_experts(experts)
    return experts


def parse_params(words: tuple[str, ...]) -> dict[str, bool | int | float | str]:
    """KEY=VALUE words as a mapping. A value becomes a bool, int or float if it looks like one."""
    params: dict[str, bool | int | float | str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key.isidentifier() and equals):
            raise UsageError(f"--param {word}: write KEY=VALUE, for example density=0.3")
        if key in params:
            raise UsageError(f"--param {key}: the parameter is given twice")
        params[key] = parse_value(value)
        if not is_sendable(params[key]):
            raise UsageError(f"--param {word[:80]}: the program wants a number that is finite")
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


def parse_shape(text: str) -> tuple[int, ...]:
    """The shape in a text such as 4096x14336 or 4096."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", text):
        raise UsageError(f"--shape {text}: write ROWSxCOLUMNS or a length, for example 4096x14336")
    shape = tuple(map(int, text.split("x")))
    if math.prod(shape) > MOST_ELEMENTS:
        raise UsageError(
            f"--shape {text}: has more than {MOST_ELEMENTS} elements (2^33), the most that `trace` "
            "takes; give a smaller shape"
        )
    return shape
