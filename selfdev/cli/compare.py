"""`compare` compares two candidates of a run, or two runs. It loads no torch."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ...engine.errors import UsageError, in_one_line
from ...engine.given import at_home
from .command import Result, command
from .completion import complete_ids
from .look import run_argument, run_line, run_of
from .options import split_option


def render_compare(result: Result) -> str:
    return runs_text(result) if "runs" in result else candidates_text(result)


def candidates_text(result: Result) -> str:
    text = paired_text(result)
    notes = [f"{d['what']}: {d['first']} and {d['second']}" for d in result["differs"]]
    warned = "".join(
        f"\nnot made alike, so they may differ for this alone: {note}" for note in notes
    )
    return text + warned


def paired_text(result: Result) -> str:
    return (
        f"{result['first']} {result['difference']:+.3f} against {result['second']} on {result['n']} "
        f"questions: only the first right {result['only_first']}, only the second "
        f"{result['only_second']}, p = {result['p']:.3g} (McNemar, exact)"
    )


def runs_text(result: Result) -> str:
    """Both runs in a line each, the settings in which they differ, their bests compared."""
    settings = setting_lines(result["config"], [run["command"] for run in result["runs"]])
    heading = "settings that differ:" if settings else "their settings are the same"
    paired = result["paired"]
    last = (
        f"best against best: {in_one_line(paired_text(paired))}"
        if paired
        else "their best programs cannot be compared: they have no question in common"
    )
    return "\n".join([*map(run_line, result["runs"]), heading, *settings, last])


def setting_lines(differences: list[Result], commands: list[str]) -> list[str]:
    """Return a line a setting. Of two commands each has settings that the other lacks; they are counted."""
    shared = [d for d in differences if d["first"] is not None and d["second"] is not None]
    told = differences if commands[0] == commands[1] else shared
    lines = [
        f"  {in_one_line(d['what'])}: {value_text(d['first'])} and {value_text(d['second'])}"
        for d in told
    ]
    if rest := len(differences) - len(told):
        lines.append(f"  {rest} that only a `{commands[0]}` or a `{commands[1]}` has (--json)")
    return lines


def value_text(value: object) -> str:
    return "not set" if value is None else in_one_line(json.dumps(value, default=str))


@command("compare", render_compare, example="selfdev-engine compare last best base")
@run_argument
@click.argument("first", metavar="FIRST", shell_complete=complete_ids)
@click.argument("second", metavar="[SECOND]", required=False, shell_complete=complete_ids)
@split_option
def compare_command(run: Path, first: str, second: str | None, split: str) -> Result:
    """Compare two candidates of RUN, question by question, or two runs.

    FIRST and SECOND are names as `show` takes them. Without SECOND, FIRST is another run: shown are the
    settings in which the two differ, and how their best programs compare.
    """
    if second is None:
        return compared_runs(run, at_home(first), split)
    from ...engine.records.compare import compare_candidates, made_otherwise
    from ...engine.records.store import Store
    from ...engine.screening.folder import DATABASE, read_config
    from ..names import find_candidate

    folder = run_of(run)
    with Store.read(folder / DATABASE) as store:
        config = read_config(folder)
        ids = [find_candidate(store, config, name) for name in (first, second)]
        if ids[0] == ids[1]:
            raise UsageError(f"compare {first} {second}: both are {ids[0]}; give two candidates")
        found = compare_candidates(store, ids[0], ids[1], split)
        differs = made_otherwise(store, ids[0], ids[1], split)
    return {
        "first": ids[0],
        "second": ids[1],
        "split": split,
        **found.to_json(),
        "differs": differs,
    }


def compared_runs(first: Path, second: Path, split: str) -> Result:
    """Compare two runs. UsageError where one is none, or both are the same."""
    from ..look import compare_runs

    if split != "dev":
        raise UsageError(f"--split {split}: two runs are compared on dev; leave it out")
    one = run_of(first)
    try:
        other = run_of(second)
    except UsageError as error:
        raise UsageError(f"{error}; to compare two candidates of {one}, name both") from None
    if one.resolve() == other.resolve():
        raise UsageError(f"compare {first} {second}: both are {one}; give two runs")
    return compare_runs(one, other)
