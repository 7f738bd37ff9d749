"""`trace`: what a program computes and costs, without any weights."""

from __future__ import annotations

import click

from ...engine.errors import UsageError
from .command import Result, command, counted
from .completion import complete_methods
from .options import params_option, parse_params, parse_shape, seed_option, unsafe_option

# So many task vectors are made up; of millions the command never came to an end.
MOST_EXPERTS = 1000
VIEWS = ("graph", "plan", "triton", "ptx")


def render(result: Result) -> str:
    lines = [
        f"tier {result['tier']}: {counted(result['ops'], 'op')}, {counted(result['passes'], 'pass')} over "
        f"the weights, "
        f"{result['bytes'] / 1e6:.1f} MB for this tensor",
        f"fingerprint {result['fingerprint']}",
    ]
    if result["view"] == "flat":
        lines.append("read flat: it makes sense for a vector only")
    if result["reason"]:
        lines.append(f"not fused: {result['reason']}")
    if result["synthetic"]:
        lines.append("values it asked for come from seeded synthetic task vectors")
    return "\n".join([*lines, *([result["text"]] if result["text"] else [])])


@command("trace", render, example="selfdev-engine trace ties --shape 4096x14336 --show plan")
@click.argument("program", metavar="PROGRAM", shell_complete=complete_methods)
@click.option(
    "--shape", required=True, metavar="ROWSxCOLUMNS", help="Shape of the tensor to merge."
)
@click.option(
    "--experts", "num_experts", default=3, show_default=True, help="Number of experts to merge."
)
@click.option("--show", type=click.Choice(VIEWS), help="Also print the program in this form.")
@params_option
@seed_option
@unsafe_option
def trace_command(
    program: str,
    shape: str,
    num_experts: int,
    show: str | None,
    params: tuple[str, ...],
    seed: int,
    unsafe_sandbox: bool,
) -> Result:
    """Trace PROGRAM for one tensor and say what it would cost; no weights are needed.

    Numbers that the program asks for come from seeded synthetic task vectors.
    """
    from ..methods import read_program

    if not 1 <= num_experts <= MOST_EXPERTS:
        raise UsageError(f"--experts {num_experts}: write a number from 1 to {MOST_EXPERTS}")
    dimensions = parse_shape(shape)
    source = read_program(program, parse_params(params), num_experts)
    from ...engine.explain import describe_program  # torch: only once the input is known to be good

    return describe_program(
        source, dimensions, num_experts, show=show, seed=seed, unsafe=unsafe_sandbox
    )
