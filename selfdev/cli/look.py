"""`ls`, `show`, `top` and `diff` look at runs that were made. They change nothing and load no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ...engine.errors import UsageError, in_one_line
from .command import Result, command, counted, say
from .completion import complete_arms, complete_ids, complete_runs
from .options import PLACE

MOST_SHOWN = 1000
# As many characters of an id are in a table.
MOST_WIDE = 40


def run_of(place: Path) -> Path:
    """Return the run that is meant. Where that is the newest one, stderr says which."""
    from ..runs import find_run

    found = find_run(place)
    if found != place:
        say(f"{place} is {found}")
    return found


run_argument = click.argument("run", metavar="RUN", type=PLACE, shell_complete=complete_runs)


# ---- ls


def render_ls(result: Result) -> str:
    if not result["runs"]:
        return "no runs there"
    return "\n".join(run_line(run) for run in result["runs"])


def run_line(run: Result) -> str:
    place = in_one_line(run["run"])
    if "error" in run:
        return f"{place:<28} cannot be read: {in_one_line(run['error'])}"
    best = run["best"]
    words = [
        f"{place:<28} {run['written'][:16].replace('T', ' ')}  {run['command']:<8} {run['status']:<10}",
        f"{counted(run['candidates'], 'candidate'):<17}",
        f"best {best['score']:.3f} ({in_one_line(best['id'])})" if best else "no score yet",
    ]
    labels = [in_one_line(run[key]) for key in ("name", "note") if run[key]]
    return " ".join([*words, *([" " + ": ".join(labels)] if labels else [])])


@command("ls", render_ls, example="selfdev-engine ls")
@click.argument("folder", metavar="[DIR]", type=PLACE, required=False)
def ls_command(folder: Path | None) -> Result:
    """List the runs in DIR, the newest first: how far each is, its best score, its name and note.

    DIR is ./runs unless given.
    """
    from ..runs import RUNS, list_runs

    return {"runs": list_runs(folder or RUNS)}


# ---- show


def render_show(result: Result) -> str:
    return candidate_text(result) if "id" in result else summary_text(result)


def summary_text(run: Result) -> str:
    ends = ", ".join(f"{n} {status}" for status, n in run["counts"].items())
    kinds = ", ".join(f"{n} {kind}" for kind, n in run["rejected"].items())
    lines = [
        run_line(run),
        f"task        {in_one_line(str(run['task']))}",
        f"candidates  {ends or 'none'}",
        *([f"rejected    {kinds}"] if kinds else []),
        f"base        {score_text(run['base'])}",
        *top_table(run["top"]),
        *([in_one_line(run["verdict"])] if run["verdict"] else []),
    ]
    return "\n".join(lines)


def candidate_text(found: Result) -> str:
    """All that is known of a candidate, its program last."""
    turn = f", iteration {found['iteration']}" if found["iteration"] else ""
    came = "known before the run" if found["known"] else f"arm {found['arm']}{turn}"
    lines = [
        f"{in_one_line(found['id'])}  ({came})",
        f"status      {status_text(found)}",
        *([f"dev         {score_text(found)}"] if found["score"] is not None else []),
        *([f"test        {score_text(found['test'])}"] if found["test"] else []),
        *([f"vs base     {against_text(found['against_base'])}"] if found["against_base"] else []),
        *([f"tier        {found['tier']}"] if found["tier"] else []),
        *linear_lines(found["linear"]),
        *([f"same as it  {', '.join(map(in_one_line, found['twins']))}"] if found["twins"] else []),
        *([f"parameters  {params_text(found['params'])}"] if found["params"] else []),
    ]
    return "\n".join([*lines, "", found["source"] or "the base model as it is: no program"])


def params_text(params: Mapping[str, Any]) -> str:
    """Parameters as a command takes them."""
    words = [shlex.quote(f"{key}={value}") for key, value in params.items()]
    return in_one_line(" ".join(f"--param {word}" for word in words)) or "none"


def status_text(found: Result) -> str:
    where = f", line {found['line']}" if found["line"] else ""
    kind = f" ({found['kind']}{where})" if found["kind"] else ""
    same = f" of {in_one_line(found['duplicate_of'])}" if found["duplicate_of"] else ""
    if same and found["score"] is not None:
        same += ", whose score it has"
    detail = f": {in_one_line(found['detail'])}" if found["detail"] else ""
    return f"{found['status'] or 'not decided'}{same}{kind}{detail}"


def score_text(score: dict[str, Any] | None) -> str:
    if score is None:
        return "no score yet"
    share = f"{score['correct']} of {score['n']} = {score['score']:.3f}"
    return f"{share} [{score['low']:.3f}, {score['high']:.3f}]"


def against_text(found: dict[str, Any]) -> str:
    return f"{found['difference']:+.3f} on {counted(found['n'], 'question')}, p = {found['p']:.3g}"


def linear_lines(linear: dict[str, Any] | None) -> list[str]:
    """The linear equivalent in a line; none where it is not known."""
    if not linear:
        return []
    sums = ", ".join(f"{in_one_line(n)} {v:+.4f}" for n, v in linear["coefficients"].items())
    return [f"linear      {sums}; residual {linear['residual']:.2g}"]


@command("show", render_show, example="selfdev-engine show last best")
@run_argument
@click.argument("name", metavar="[ID]", required=False, shell_complete=complete_ids)
def show_command(run: Path, name: str | None) -> Result:
    """Show what RUN found, or all that is known of one of its candidates.

    RUN is a run folder, or `last` for the newest one in ./runs. ID is an id, base, best, an expert, a
    baseline (its best setting) or ARM/best.
    """
    from ..look import show_candidate, show_run

    folder = run_of(run)
    return show_run(folder) if name is None else show_candidate(folder, name)


# ---- top


def top_table(rows: list[dict[str, Any]]) -> list[str]:
    """The best candidates, a line each: score, interval, difference to the base and p."""
    if not rows:
        return []
    width = max(len(short(row["id"])) for row in rows)
    heading = f"{'':<{width}}  {'dev':>5}  {'95 %':<14}  {'vs base':>7}  p"
    return [heading, *(top_line(row, width) for row in rows)]


def top_line(row: dict[str, Any], width: int) -> str:
    score = f"{row['score']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]"
    found = row["against_base"]
    paired = f"{found['difference']:+7.3f}  {found['p']:.3g}" if found else f"{'-':>7}  -"
    known = "  (known before the run)" if row.get("known") else ""
    return f"{short(row['id']):<{width}}  {score}  {paired}{known}"


def short(name: str) -> str:
    """An id as a table shows it: so that a score stays in sight, its end is cut where it is long."""
    shown = in_one_line(name)
    return shown if len(shown) <= MOST_WIDE else f"{shown[: MOST_WIDE - 3]}..."


def render_top(result: Result) -> str:
    table = top_table(result["candidates"]) or ["no program was scored yet"]
    return "\n".join([*table, f"base: {score_text(result['base'])}"])


@command("top", render_top, example="selfdev-engine top last --n 20")
@run_argument
@click.option(
    *("--n", "count"),
    type=click.IntRange(1, MOST_SHOWN),
    default=10,
    show_default=True,
    help="How many candidates to show.",
)
@click.option(
    "--arm", metavar="NAME", shell_complete=complete_arms, help="Only what one arm sampled."
)
def top_command(run: Path, count: int, arm: str | None) -> Result:
    """Show the best programs of RUN by dev score, and how each compares with the base.

    RUN is a run folder, or `last`. One that repeats another's update is not listed again. Experts and
    baselines are marked; --arm leaves them out. p is McNemar's exact test, question by question; it does
    not correct for how many were tried.
    """
    from ..look import top

    return top(run_of(run), count, arm)


# ---- diff


def render_diff(result: Result) -> str:
    params = result["params"]
    said = result["diff"] or "the programs are equal"
    if params["first"] != params["second"]:
        said += f"\nparameters: {params_text(params['first'])} and {params_text(params['second'])}"
    return "\n".join([said, *linear_table(result)])


def linear_table(result: Result) -> list[str]:
    """Coefficients of both by expert, and the residuals; none where one is not known."""
    both = [found for key in ("first", "second") if (found := (result["linear"] or {}).get(key))]
    if len(both) < 2:
        return ["no linear equivalents to compare"]
    heads = [short(result[key]) for key in ("first", "second")]
    widths = [max(14, len(head) + 2) for head in heads]
    lines = [f"{'':<12}{''.join(map(str.rjust, heads, widths))}"]
    rows = [(n, [found["coefficients"].get(n) for found in both]) for n in both[0]["coefficients"]]
    for name, values in [*rows, ("residual", [found["residual"] for found in both])]:
        numbers = ("-" if v is None else f"{v:.4f}" for v in values)
        lines.append(f"{in_one_line(name):<12}{''.join(map(str.rjust, numbers, widths))}")
    return lines


@command("diff", render_diff, example="selfdev-engine diff last base best")
@run_argument
@click.argument("first", metavar="A", shell_complete=complete_ids)
@click.argument("second", metavar="B", shell_complete=complete_ids)
def diff_command(run: Path, first: str, second: str) -> Result:
    """Show how the programs of two candidates of RUN differ, and what they are as plain sums.

    RUN is a run folder, or `last`. A and B are names as `show` takes them.
    """
    from ..look import diff

    if not (first.strip() and second.strip()):
        raise UsageError("an empty name of a candidate; is a variable unset?")
    return diff(run_of(run), first, second)
