"""One merge, as the command `merge` and `sd.merge` do it: what is wanted, checked, then carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.errors import UsageError
from ..engine.given import at_home, checked, in_python, wrong
from ..engine.output.companions import Companions
from ..engine.output.folder import check_out
from ..engine.program import Program, extract
from ..engine.resident.check import check_askable
from ..engine.screening.inputs import check_backend
from ..engine.weights.selection import Selection
from .experts import check_experts
from .mergekit_filters import ALL
from .mergekit_yaml import Recipe, is_configuration, read_configuration
from .methods import built_in, read_program
from .parameters import Value, fitted
from .sizes import bytes_of
from .watching import UNSEEN, Watcher, given_watcher, watched

if TYPE_CHECKING:
    from ..engine.merge import MergeReport
    from ..engine.sandbox.box import Sandbox


@dataclass(frozen=True)
class Wanted:
    """What to merge: a program and its models; `recipe` is the mergekit configuration that said it."""

    program: Program
    base: str
    experts: Mapping[str, str]
    include: str
    also_read: Mapping[str, Path]
    recipe: Recipe | None = None


@dataclass(frozen=True)
class MergeRequest:
    """A merge whose input was checked: what, where to, and how."""

    wanted: Wanted
    out: Path
    backend: str
    overwrite: bool
    seed: int
    memory_bytes: int | None
    check: bool
    trust_remote_code: bool
    unsafe_sandbox: bool


def given_program(name: str, value: object) -> object:
    """Return a program, or the text that is one or says where it is."""
    if not isinstance(value, str | PathLike | Program):
        raise wrong(name, "a file, a method's name, a text, or what extract returned", value)
    return value


@in_python()
@checked(program=given_program, progress=given_watcher)
def merge(
    program: str | Path | Program,
    *,
    out: str | Path,
    base: str | Path | None = None,
    experts: Mapping[str, str | Path] | None = None,
    params: Mapping[str, Value] | None = None,
    include: str | None = None,
    backend: str = "auto",
    overwrite: bool = False,
    seed: int = 0,
    memory: str | int | None = None,
    check: bool = False,
    trust_remote_code: bool = False,
    unsafe_sandbox: bool = False,
    progress: Watcher | bool = False,
) -> MergeReport:
    """Apply a program to task vectors and write a Hugging Face checkpoint to the folder `out`.

    `program` is a file, the name of a built-in method, a mergekit configuration (config.yml, which names
    its models itself), the program's own text (a str with a line break), or what `extract` returned.
    `experts` maps names to folders or hub ids. `memory` bounds the tensors in flight: "2GiB", or bytes.
    `progress` is True for a bar on stderr. Raises UsageError (input, environment, disk) or Rejected (the
    program); then nothing is left behind.
    """
    request = prepare_merge(
        program,
        out=Path(out),
        base=base,
        experts=experts or {},
        params=params or {},
        include=include,
        backend=backend,
        overwrite=overwrite,
        seed=seed,
        memory=memory,
        check=check,
        trust_remote_code=trust_remote_code,
        unsafe_sandbox=unsafe_sandbox,
    )
    with watched(progress) as bar:
        bar.stage("merge")
        return merge_prepared(request, bar)


def prepare_merge(
    program: str | Path | Program,
    *,
    out: str | Path,
    base: str | Path | None,
    experts: Mapping[str, str | Path],
    params: Mapping[str, Value],
    include: str | None = None,
    backend: str = "auto",
    overwrite: bool = False,
    seed: int = 0,
    memory: str | int | None = None,
    check: bool = False,
    trust_remote_code: bool = False,
    unsafe_sandbox: bool = False,
) -> MergeRequest:
    """Check all that can be checked before torch is loaded. Raises UsageError or Rejected."""
    places = {name: str(place) for name, place in experts.items()}
    wanted = wanted_of(program, None if base is None else str(base), places, params, include)
    memory_bytes, out = bytes_of(memory), at_home(out)
    check_backend(backend)
    selection = Selection.open(wanted.base, wanted.experts, wanted.include)
    if wanted.recipe:
        wanted.recipe.check(selection)
    if check:
        check_askable(selection.base)
    check_out(out, selection, overwrite, wanted.also_read)
    Companions.of(selection.base.folder, trust_remote_code)
    selection.check_slot(selection.names, memory_bytes)
    how = overwrite, seed, memory_bytes, check, trust_remote_code, unsafe_sandbox
    return MergeRequest(wanted, out, backend, *how)


def merge_prepared(
    request: MergeRequest, bar: Watcher = UNSEEN, sandbox: Sandbox | None = None
) -> MergeReport:
    """Carry a merge out. A `sandbox` that is given was started before, and stays open."""
    # This loads torch.
    from ..engine.merge import merge_to_folder

    wanted = request.wanted
    report = merge_to_folder(
        wanted.program,
        base=wanted.base,
        experts=wanted.experts,
        include=wanted.include,
        backend=request.backend,
        out=request.out,
        overwrite=request.overwrite,
        seed=request.seed,
        unsafe_sandbox=request.unsafe_sandbox,
        memory_bytes=request.memory_bytes,
        progress=bar.update,
        sandbox=sandbox,
        also_read=wanted.also_read,
        check=request.check,
        trust_remote_code=request.trust_remote_code,
    )
    notes = wanted.recipe.notes if wanted.recipe else ()
    return replace(report, notes=[*notes, *report.notes])


def wanted_of(
    program: str | Path | Program,
    base: str | None,
    experts: Mapping[str, str],
    params: Mapping[str, Value],
    include: str | None,
) -> Wanted:
    """Read the program, or the mergekit configuration. Raises UsageError or Rejected."""
    if not isinstance(program, Program) and is_configuration(str(program)):
        return of_configuration(str(program), base, experts, params, include)
    if base is None:
        raise UsageError("--base is missing: add --base DIR, the model that the experts come from")
    check_experts(experts)
    also_read = {}
    if isinstance(program, Program) or is_text(program):
        found = program if isinstance(program, Program) else extract(str(program))
        given = {**found.params, **params}
        found = replace(found, params=fitted("the program", found.code, given, len(experts)))
    else:
        found = read_program(str(program), params, len(experts))
        also_read = program_file(str(program))
    chosen = "mlp" if include is None else include
    return Wanted(found, base, experts, chosen, also_read)


def is_text(program: str | Path) -> bool:
    """Whether this is a program's own text, and not the name of a file or method."""
    return isinstance(program, str) and "\n" in program


def of_configuration(
    program: str,
    base: str | None,
    experts: Mapping[str, str],
    params: Mapping[str, Value],
    include: str | None,
) -> Wanted:
    """Read a mergekit configuration. UsageError where something beside it says the same."""
    beside = {"--base": base, "--expert": experts, "--param": params}
    for option, given in beside.items():
        if given:
            raise UsageError(
                f"{option}: {program} names models and parameters itself; leave it out"
            )
    recipe = read_configuration(at_home(program))
    try:
        source = built_in(recipe.method, recipe.params, len(recipe.experts))
    except UsageError as error:
        # The methods speak of options, which a configuration has not.
        raise UsageError(f"{program}: {str(error).removeprefix('--param ')}") from None
    if include is not None and recipe.include != ALL:
        raise UsageError(f"--include: the filters of {program} choose the tensors; leave it out")
    models = recipe.base, recipe.experts, include or recipe.include
    return Wanted(source, *models, program_file(program), recipe)


def program_file(program: str) -> dict[str, Path]:
    """Return the program's file as an input of the merge; nothing for a built-in method."""
    file = at_home(program)
    return {"the program": file} if file.exists() else {}
