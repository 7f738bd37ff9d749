"""`bench`: ratios measured in one run on this machine, each beside its floor."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ...engine.errors import UsageError
from .command import Result, command
from .progress import Bar


def render(result: Result) -> str:
    lines = [f"{'row':<10}{'value':>12} {'unit':<16}{'against':<36}{'ratio':>8}  gate"]
    for row in result["rows"]:
        against = f"{row['baseline']} {row['baseline_value']:.4g}"
        gate = "-" if row["gate"] is None else "ok" if row["gate"] else "MISSED"
        gate = gate if row["measured"] else "not measured: the machine was disturbed"
        value = f"{row['name']:<10}{row['value']:>12.4g} {row['unit']:<16}"
        lines.append(f"{value}{against:<36}{row['ratio']:>8.2f}  {gate}")
    return "\n".join([*lines, result["machine"]])


@command("bench", render)
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option(
    *("--zoo", "zoo"),
    type=click.Path(path_type=Path),
    default=Path("zoo/tiny"),
    show_default=True,
    help="For the rows that score.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="For apply, sweep, many and order; auto: the GPU, if there is one.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Keep the result as JSON here, not in bench/results/.",
)
def bench_command(names: tuple[str, ...], zoo: Path, device: str, out: Path | None) -> Result:
    """Measure rows (all, or those named): apply, sweep, many, order, merge, growth, trace, screen."""
    from ...bench.registry import ROWS, run_rows, write_results

    if unknown := [name for name in names if name not in ROWS]:
        raise UsageError(f"bench {unknown[0]}: no such row; there are {', '.join(ROWS)}")
    import torch

    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" != found:
        raise UsageError("--device cuda: torch finds no CUDA device here; nothing was measured")
    with Bar() as bar:
        result = run_rows(names or tuple(ROWS), zoo, bar, found if device == "auto" else device)
    write_results(result, out or Path("bench/results") / f"{time.strftime('%Y%m%d-%H%M%S')}.json")
    return result
