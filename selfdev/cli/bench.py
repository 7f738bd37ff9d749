"""`bench`: measures the rows of bench/registry.py on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ...engine.errors import PartlyDone, UsageError, did_you_mean, keeping
from .command import Result, command
from .completion import complete_rows
from .options import PLACE
from .progress import Bar


def render(result: Result) -> str:
    lines = [f"{'row':<15}{'value':>12} {'unit':<16}{'against':<36}{'ratio':>8}  gate"]
    for row in result["rows"]:
        against = f"{row['baseline']} {row['baseline_value']:.4g}"
        gate = "-" if row["gate"] is None else "ok" if row["gate"] else "MISSED"
        gate = gate if row["measured"] else "not measured: the machine was disturbed"
        value = f"{row['name']:<15}{row['value']:>12.4g} {row['unit']:<16}"
        lines.append(f"{value}{against:<36}{row['ratio']:>8.2f}  {gate}")
        lines += [f"          {row['note']}"] if row["note"] else []
    return "\n".join([*lines, f"{result['machine']}; {result['caches']}; {result['date']}"])


@command("bench", render, example="selfdev-engine bench apply sweep")
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=complete_rows)
@click.option(
    *("--zoo", "zoo"),
    type=PLACE,
    default=Path("zoo/tiny"),
    show_default=True,
    help="Folder of the zoo whose models and questions the rows `screen` and `pool` use.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where apply, sweep, many and order run; auto is the GPU, if there is one.",
)
@click.option(
    "--out",
    type=PLACE,
    help="Write the result as JSON to this file instead of bench/results/DATE-TIME.json.",
)
def bench_command(names: tuple[str, ...], zoo: Path, device: str, out: Path | None) -> Result:
    """Measure the speed of this installation: all rows, or those named.

    \b
    Rows:
      apply   a merge formula of 15 operations, beside a plain copy of the same bytes
      new     a program that was never seen, compiling included, beside torch.compile
      sweep   12 statistics of 3 task vectors, beside a plain read of the same bytes
      many    12 statistics for each of 100 candidates, beside those of one candidate
      order   the exact 80th percentile of 50 M numbers, beside torch.sort and kthvalue
      merge   a whole merge of 0.5 B parameters from disk to disk, beside mergekit
      growth  time and memory of merges from 13 M to 1 B parameters
      trace   programs traced per second in the sandbox, beside an empty program
      screen  candidates scored per second, beside merging to disk and loading again
      pool    several workers: how busy eight sleeping ones are, two real ones beside one
      report  the page of 10,000 candidates: CPU to build it, beside its limit; bytes, and a browser's view
    """
    from ...engine.output.file import check_file

    if out:
        check_file("--out", out, is_result)
    # This loads torch.
    from ...bench.registry import ROWS, run_rows, write_results

    if unknown := [name for name in names if name not in ROWS]:
        near = did_you_mean(unknown[0], ROWS)
        raise UsageError(f"bench {unknown[0]}: no such row{near} (there are {', '.join(ROWS)})")
    import torch

    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" != found:
        raise UsageError("--device cuda: torch finds no CUDA device here; nothing was measured")
    place = out or Path("bench/results") / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    try:
        with Bar() as bar:
            result = run_rows(names or tuple(ROWS), zoo, bar, found if device == "auto" else device)
    except PartlyDone as error:
        write_results(error.result, place)
        raise
    with keeping(lambda: result):
        write_results(result, place)
    return result


def is_result(start: str) -> bool:
    """Whether a file that begins so is a result of this command."""
    return start.startswith("{") and '"rows": [' in start
