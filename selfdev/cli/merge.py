"""`merge`: applies one program and writes a complete checkpoint folder."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from .command import Result, command, counted, importing
from .completion import complete_methods
from .options import (
    PLACE,
    memory_option,
    merge_options,
    parse_experts,
    parse_params,
    seed_option,
    unsafe_option,
)
from .progress import Bar


def render(result: Result) -> str:
    moved = (result["bytes_read"] + result["bytes_written"]) / 1e9
    lines = [
        f"{result['out']}  ({counted(result['tensors'], 'tensor')}, {result['seconds']:.1f} s, {moved:.2f} GB moved)",
        f"tier {result['tier']}, backend {result['backend']}, {counted(result['passes'], 'pass')}",
        f"weights {result['weights_fingerprint']}, program {result['fingerprint']}",
        *result["notes"],
    ]
    if found := result["check"]:
        lines.append(f"{found['engine']} loads it and answers {found['answer']!r}")
    return "\n".join(lines)


def load_torch() -> None:
    """Import torch without its compiler."""
    with importing():
        from ...engine.trace.ops import use_native_shapes
        from ...engine.trace.torch_start import leave_compiler_out

        use_native_shapes()
        leave_compiler_out()


@command(
    "merge",
    render,
    example="selfdev-engine merge ties --param density=0.3 --base zoo/tiny/base --expert add=zoo/tiny/experts/add --out blend",
)
@click.argument("program", metavar="PROGRAM", shell_complete=complete_methods)
@merge_options
@click.option(
    "--out",
    required=True,
    type=PLACE,
    help="Folder to write the checkpoint to.",
)
@click.option("--overwrite", is_flag=True, help="Replace the folder --out if it holds files.")
@click.option(
    "--check", is_flag=True, help="Load the result in transformers and ask it one question."
)
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Copy the base's .py files, too; nothing runs them here.",
)
@memory_option
@seed_option
@unsafe_option
def merge_command(
    program: str,
    base: str | None,
    experts: tuple[str, ...],
    include: str,
    backend: str,
    params: tuple[str, ...],
    out: Path,
    overwrite: bool,
    check: bool,
    trust_remote_code: bool,
    memory: str | None,
    seed: int,
    unsafe_sandbox: bool,
) -> Result:
    """Apply PROGRAM to the task vectors and write a Hugging Face checkpoint to --out.

    PROGRAM is a .py file, a text file with a fenced code block, the name of a built-in method
    (for example `merge ties --param density=0.3 ...`), or a mergekit configuration (config.yml),
    which names its models itself.
    """
    from ...engine.trace.settings import TraceSettings, open_sandbox
    from ..merge import merge_prepared, prepare_merge

    chosen = click.get_current_context().get_parameter_source("include")
    request = prepare_merge(
        program,
        out=out,
        base=base,
        experts=parse_experts(experts) if experts else {},
        params=parse_params(params),
        include=None if chosen is ParameterSource.DEFAULT else include,
        backend=backend,
        overwrite=overwrite,
        seed=seed,
        memory=memory,
        check=check,
        trust_remote_code=trust_remote_code,
        unsafe_sandbox=unsafe_sandbox,
    )
    with open_sandbox(TraceSettings(unsafe=unsafe_sandbox)) as sandbox, Bar() as bar:
        bar.stage("merge")
        load_torch()  # while the sandbox loads its own
        return merge_prepared(request, bar, sandbox).to_json()
