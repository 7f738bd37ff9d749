"""`merge`: applies one program and writes a complete checkpoint folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ...engine.errors import UsageError
from ..sizes import parse_bytes
from .command import Result, command, counted, importing
from .options import PLACE, environment_options, merge_options, parse_experts, parse_params
from .progress import Bar

if TYPE_CHECKING:
    from ...engine.program import Program
    from ...engine.weights.selection import Selection
    from ..mergekit_yaml import Recipe


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


@dataclass(frozen=True)
class Wanted:
    """What to merge: a program and its models; `recipe` is the mergekit configuration that said it."""

    program: Program
    base: str
    experts: dict[str, str]
    include: str
    also_read: dict[str, Path]
    recipe: Recipe | None = None


@command("merge", render)
@click.argument("program", metavar="PROGRAM")
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
@environment_options
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
    **_: object,
) -> Result:
    """Apply PROGRAM to the task vectors and write a Hugging Face checkpoint to --out.

    PROGRAM is a .py file, a text file with a fenced code block, the name of a built-in method
    (for example `merge ties --param density=0.3 ...`), or a mergekit configuration (config.yml),
    which names its models itself.
    """
    from ...engine.trace.settings import TraceSettings, open_sandbox

    wanted = wanted_of(program, base, experts, params, include)
    memory_bytes = parse_bytes(memory)
    selection = selected(wanted, backend, check)
    check_destination(selection, out, overwrite, wanted.also_read, trust_remote_code)
    selection.check_slot(selection.names, memory_bytes)
    with open_sandbox(TraceSettings(unsafe=unsafe_sandbox)) as sandbox, Bar() as bar:
        bar.stage("merge")
        load_torch()  # while the sandbox loads its own
        from ...engine.merge import merge_to_folder

        report: Result = merge_to_folder(
            wanted.program,
            base=wanted.base,
            experts=wanted.experts,
            include=wanted.include,
            backend=backend,
            out=out,
            overwrite=overwrite,
            seed=seed,
            unsafe_sandbox=unsafe_sandbox,
            memory_bytes=memory_bytes,
            progress=bar.update,
            sandbox=sandbox,
            also_read=wanted.also_read,
            check=check,
            trust_remote_code=trust_remote_code,
        ).to_json()
    notes = wanted.recipe.notes if wanted.recipe else ()
    return {**report, "notes": [*notes, *report["notes"]]}


def wanted_of(
    program: str, base: str | None, experts: tuple[str, ...], params: tuple[str, ...], include: str
) -> Wanted:
    """Read the program, or the mergekit configuration. Raises UsageError or Rejected."""
    from ..mergekit_yaml import is_configuration, read_configuration
    from ..methods import built_in, read_program

    if not is_configuration(program):
        if base is None:
            raise UsageError(
                "--base is missing: add --base DIR, the model that the experts come from"
            )
        models = parse_experts(experts)
        source = read_program(program, parse_params(params), len(models))
        return Wanted(source, base, models, include, program_file(program))
    beside = {"--base": base, "--expert": experts, "--param": params}
    for option, given in beside.items():
        if given:
            raise UsageError(
                f"{option}: {program} names models and parameters itself; leave it out"
            )
    recipe = read_configuration(Path(program).expanduser())
    try:
        source = built_in(recipe.method, recipe.params, len(recipe.experts))
    except UsageError as error:
        # The methods speak of options, which a configuration has not.
        raise UsageError(f"{program}: {str(error).removeprefix('--param ')}") from None
    chosen = click.get_current_context().get_parameter_source("include")
    include = "all" if chosen is ParameterSource.DEFAULT else include
    return Wanted(source, recipe.base, recipe.experts, include, program_file(program), recipe)


def program_file(program: str) -> dict[str, Path]:
    """Return the program's file as an input of the command; nothing for a built-in method."""
    file = Path(program).expanduser()
    return {"the program": file} if file.exists() else {}


def selected(wanted: Wanted, backend: str, check: bool) -> Selection:
    """Read the headers of base and experts. UsageError says what is wrong with them; no torch is loaded."""
    from ...engine.resident.check import check_askable
    from ...engine.screening.inputs import check_backend
    from ...engine.weights.selection import Selection

    check_backend(backend)
    selection = Selection.open(wanted.base, wanted.experts, wanted.include)
    if wanted.recipe:
        wanted.recipe.check(selection)
    if check:
        check_askable(selection.base)
    return selection


def check_destination(
    selection: Selection, out: Path, overwrite: bool, also_read: dict[str, Path], trust: bool
) -> None:
    """Raise UsageError where --out must not be written, or what belongs there cannot be copied."""
    from ...engine.output.companions import Companions
    from ...engine.output.folder import check_out

    check_out(out, selection, overwrite, also_read)
    Companions.of(selection.base.folder, trust)
