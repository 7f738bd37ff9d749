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
            found = [CompletionItem(word) for word in words(ctx) if word.startswith(begun)]
        except Exception:
            # A shell shows a traceback amid what is being typed.
            found = []
        return found or ([CompletionItem(begun, type=kind)] if kind != "plain" else [])

    return complete


def methods(_: click.Context) -> Iterable[str]:
    from ..methods import method_names

    return method_names()


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


def rows(ctx: click.Context) -> Iterable[str]:
    # The help of `bench` lists them; the registry loads torch.
    return re.findall(r"^ +(\w+)  ", ctx.command.help or "", re.MULTILINE)


complete_methods = completing(methods, "file")
complete_tasks = completing(tasks)
complete_runs = completing(runs, "dir")
complete_ids = completing(ids)
complete_rows = completing(rows)
complete_backends = completing(lambda _: BACKENDS)
