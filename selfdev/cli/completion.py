"""What the shell completes: names that only this machine and this run know. An error completes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Words = Callable[[click.Context], Iterable[str]]
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
BACKENDS = ("auto", "cpu", "triton", "reference")


def completing(words: Words, kind: str = "plain") -> Complete:
    """Make a completer of a function that lists all words.

    With kind "file" the shell adds paths where none of the words fits.
    """

    @wraps(words)
    def complete(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            found = [
                CompletionItem(word)
                for word in words(ctx)
                # One that drives a terminal cannot be typed either.
                if word.startswith(begun) and word.isprintable()
            ]
        except Exception:
            # A shell shows a traceback amid what is being typed.
            found = []
        return found or ([CompletionItem(begun, type=kind)] if kind != "plain" else [])

    return complete


def methods(_: click.Context) -> Iterable[str]:
    from ..methods import method_names

    return method_names()


def params(ctx: click.Context) -> Iterable[str]:
    """List NAME=DEFAULT of the method that was typed before, or the names that a program takes."""
    from ...engine.program import extract
    from ...engine.screening.read_programs import MAX_BYTES
    from ...engine.weights.small_file import read_text
    from ..methods import load_method, method_names, param_words
    from ..parameters import signature_of

    # An option that still lacks its value keeps click from giving arguments their names.
    typed = ctx.params.get("program") or ctx.params.get("programs") or ctx.args
    places = (typed,) if isinstance(typed, str) else typed
    num_experts = len(ctx.params.get("experts") or ()) or 2
    for place in map(str, places):
        if place in method_names():
            yield from param_words(signature_of(load_method(place), is_ours=True), num_experts)
        elif Path(place).is_file():
            signature = signature_of(extract(read_text(Path(place), most_bytes=MAX_BYTES)).code)
            yield from (f"{name}={signature.numbers.get(name, '')}" for name in signature.names)


def tasks(_: click.Context) -> Iterable[str]:
    return ("gsm8k", "math", "jsonl:", *(f"jsonl:{p}" for p in sorted(Path().glob("*.jsonl"))))


def runs(_: click.Context) -> Iterable[str]:
    from ..runs import LAST, RUNS, run_folders

    return (LAST, *map(str, run_folders(RUNS)))


def ids(ctx: click.Context) -> Iterable[str]:
    """List the names of the run that was typed before."""
    from ...engine.records.store import Store
    from ...engine.screening.folder import DATABASE, read_config
    from ..names import known_names
    from ..runs import find_run

    run = find_run(Path(ctx.params.get("run") or ctx.params["folder"]))
    with Store.read(run / DATABASE) as store:
        return known_names(store, read_config(run))


def arms(ctx: click.Context) -> Iterable[str]:
    """List the arms of the run that was typed before."""
    from ...engine.screening.folder import read_config
    from ..names import arms_of
    from ..runs import find_run

    return arms_of(read_config(find_run(Path(ctx.params["run"]))))


def rows(ctx: click.Context) -> Iterable[str]:
    # The help of `bench` lists them; the registry loads torch.
    return re.findall(r"^ +(\w+)  ", ctx.command.help or "", re.MULTILINE)


complete_methods = completing(methods, "file")
complete_params = completing(params)
complete_tasks = completing(tasks)
complete_runs = completing(runs, "dir")
complete_ids = completing(ids)
complete_arms = completing(arms)
complete_rows = completing(rows)
complete_backends = completing(lambda _: BACKENDS)
