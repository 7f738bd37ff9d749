"""`transfer`: tries the programs that a run found on other experts of the same base."""

from __future__ import annotations

from pathlib import Path

import click

from ...engine.errors import in_one_line
from ..sizes import parse_bytes
from ..verdict import of_several
from .command import Result, command, counted
from .completion import complete_runs
from .look import run_of
from .options import (
    PLACE,
    accept_engine_option,
    address_option,
    data_option,
    experts_option,
    gpu_memory_option,
    memory_option,
    parse_experts,
    unsafe_option,
    workers_option,
)
from .progress import Bar
from .screen import line, summary

# As many programs as the paper tests.
TOP = 15


def render(result: Result) -> str:
    known = [result["base"], *result["experts"].values(), result["task_arithmetic"]]
    rows = [line(row) for row in [*known, *result["candidates"]] if row]
    looks = counted(result["test_looks"], "look")
    said = f"Scores are on test ({looks} in the run's folder). {in_one_line(result['verdict'])}"
    said = " ".join([said, *filter(None, [of_several(result["comparisons"])])])
    return "\n".join(
        [*rows, *result["notes"], said, summary({**result, "run": result["transfer"]})]
    )


@command(
    "transfer",
    render,
    example="selfdev-engine transfer runs/demo --expert new=DIR --expert other=DIR --expert third=DIR",
)
@click.argument("folder", metavar="RUN", type=PLACE, shell_complete=complete_runs)
@experts_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    default=TOP,
    show_default=True,
    help="How many of the run's programs are tried: the best by its dev scores.",
)
@click.option("--base", metavar="DIR", help="Where the run's base is now, if it was moved.")
@workers_option
@address_option
@accept_engine_option
@memory_option
@gpu_memory_option
@data_option
@unsafe_option
def transfer_command(
    folder: Path,
    experts: tuple[str, ...],
    top: int,
    base: str | None,
    workers: int | None,
    address: str | None,
    accept_engine: bool,
    memory: str | None,
    gpu_memory: str | None,
    data: Path | None,
    unsafe_sandbox: bool,
) -> Result:
    """Score the programs that RUN found on other experts of its base, on test.

    Nothing is tuned about them. Task arithmetic is tuned anew beside them, on dev. The scores are kept in
    RUN/transfers; the same command goes on with what was cut off.
    """
    from ..transfer_inputs import prepare_transfer

    folder = run_of(folder)
    request = prepare_transfer(
        folder,
        parse_experts(experts),
        top,
        base=base,
        data=str(data) if data else None,
        workers=workers,
        address=address,
        memory_bytes=parse_bytes(memory),
        gpu_memory_bytes=parse_bytes(gpu_memory, "--gpu-memory"),
        unsafe_sandbox=unsafe_sandbox,
        accept_engine=accept_engine,
    )
    from ..transfer import run_transfer  # torch: only once the input is known to be good

    with Bar() as bar:
        return run_transfer(request, bar)
