"""`bench`: ratios measured in one run on this machine, each beside its floor."""

from __future__ import annotations

import click

from ...engine.errors import UsageError
from .command import Result, command
from .progress import Bar


def render(result: Result) -> str:
    head = f"{'row':<16}{'value':>12} {'unit':<14}{'against':<30}{'ratio':>8}  gate"
    lines = [head]
    for row in result["rows"]:
        against = f"{row['baseline']} {row['baseline_value']:.4g}"
        gate = "-" if row["gate"] is None else "ok" if row["gate"] else "MISSED"
        lines.append(
            f"{row['name']:<16}{row['value']:>12.4g} {row['unit']:<14}{against:<30}"
            f"{row['ratio']:>8.2f}  {gate}"
        )
    return "\n".join([*lines, result["machine"]])


@command("bench", render)
@click.argument("names", metavar="[NAME...]", nargs=-1)
def bench_command(names: tuple[str, ...]) -> Result:
    """Measure rows (all, or those named): apply, trace, screen."""
    from ...bench.registry import ROWS, run_rows

    if unknown := [name for name in names if name not in ROWS]:
        raise UsageError(f"bench {unknown[0]}: no such row; there are {', '.join(ROWS)}")
    with Bar() as bar:
        return run_rows(names or tuple(ROWS), bar)
