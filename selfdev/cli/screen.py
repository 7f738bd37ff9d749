"""`screen`: scores many programs in one resident engine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from ...engine.errors import in_one_line
from ...engine.screening.settings import ScreenSettings
from ..capacity import Request, plan_of, render_plan
from ..sizes import parse_bytes
from .command import Result, command, counted, resumable
from .look import score_text, top_table
from .options import (
    PLACE,
    accept_engine_option,
    address_option,
    check_gpus,
    data_option,
    engine_option,
    gpu_memory_option,
    gpus_option,
    label_options,
    memory_option,
    model_options,
    parse_experts,
    parse_params,
    seed_option,
    shots_option,
    task_option,
    unsafe_option,
    workers_option,
)
from .progress import Bar

REJECTED_SHOWN = 3


def render(result: Result) -> str:
    if "plan" in result:
        return render_plan(result["plan"])
    table = top_table(result["top"]) or ["no program was scored"]
    lines = [
        counts(result["candidates"]),
        *table,
        f"base: {score_text(result['base'])}",
        *rejected_lines(result["candidates"]),
    ]
    return "\n".join([*lines, *result["notes"], *report_line(result), summary(result)])


def report_line(result: Result) -> list[str]:
    """Where the report is; nothing where it could not be written."""
    return [f"report  {result['report']}"] if "report" in result else []


def counts(candidates: list[dict[str, Any]]) -> str:
    """How many programs ended in each way, and why the rejected ones were, in a line."""
    ends = Counter(c["status"] or "not decided" for c in candidates)
    kinds = Counter(c["kind"] for c in candidates if c["kind"])
    words = [f"{number} {status}" for status, number in ends.most_common()]
    why = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return f"{counted(len(candidates), 'program')}: {', '.join(words)}" + (
        f" ({why})" if why else ""
    )


def rejected_lines(candidates: list[dict[str, Any]]) -> list[str]:
    """Why the first few programs were rejected, a line each, and how many more there are."""
    found = [candidate for candidate in candidates if candidate["status"] == "rejected"]
    more = len(found) - REJECTED_SHOWN
    rest = [f"and {more} more: `show RUN ID` says why"] if more > 0 else []
    return [*map(line, found[:REJECTED_SHOWN]), *rest]


def summary(result: Result) -> str:
    """The last line: run folder, seconds, and how busy the engine was."""
    engine = result["engine"]
    words = [f"{result['run']}  ({result['seconds']:.0f} s"]
    if engine["busy_share"]:
        threads = f" on {engine['threads']} threads" if engine["threads"] != 1 else " on one thread"
        if engine["workers"] > 1:
            threads = f" in {engine['workers']} workers{threads} each"
        words.append(f"{engine['name']}{threads}: {engine['busy_share']:.0%} busy")
        words.append(f"{engine['swap_share']:.1%} of that swapping")
    return "; ".join(words) + ")"


def line(candidate: dict[str, Any]) -> str:
    name = f"{in_one_line(candidate['id']):<28}"
    if candidate["score"] is None:
        kind = f" ({candidate['kind']})" if candidate["kind"] else ""
        where = f", line {candidate['line']}" if candidate["line"] else ""
        detail = f": {in_one_line(candidate['detail'])}" if candidate["detail"] else ""
        return f"{name} {candidate['status'] or 'not decided'}{kind}{where}{detail}"
    same = f"  = {candidate['duplicate_of']}" if candidate["duplicate_of"] else ""
    if candidate["status"] == "stopped":
        same = f"  stopped after {counted(candidate['n'], 'question')}"
    score = f"{candidate['score']:.3f} [{candidate['low']:.3f}, {candidate['high']:.3f}]"
    return f"{name} {score}{same}"


def plan_screening(
    places: tuple[str, ...],
    settings: ScreenSettings,
    gpus: str | None,
    folder: Path,
    workers: int | None,
) -> dict[str, Any]:
    """What a screening asks of a machine. UsageError for what it would refuse, and what cannot fit."""
    from ...engine.weights.durations import Amounts
    from ..estimate import count_questions
    from ..screen import prepare_screen

    texts = prepare_screen(places, settings, folder, True, gpus is not None).texts
    data = Path(settings.data) if settings.data else None
    questions, _ = count_questions(settings.task, data)
    request = Request(
        base=settings.base,
        experts=settings.experts,
        generator=settings.base,
        include=settings.include,
        gpus=gpus,
        folder=folder,
        amounts=Amounts(questions=questions, programs=0, candidates=1 + len(texts)),
        memory_bytes=settings.memory_bytes,
        gpu_memory_bytes=settings.gpu_memory_bytes,
        workers=workers,
    )
    counts = {"programs": len(texts), "questions per candidate": questions}
    return {**counts, **plan_of(request)}


@command(
    "screen",
    render,
    example="selfdev-engine screen examples --base zoo/tiny/base --expert add=zoo/tiny/experts/add --task jsonl:zoo/tiny/tasks/mixed.jsonl --run runs/screen",
)
@click.argument("programs", metavar="PROGRAMS...", nargs=-1, required=True)
@model_options
@task_option
@shots_option
@click.option(
    *("--run", "folder"),
    required=True,
    type=PLACE,
    help="Folder of the run. If it holds this run already, the run goes on.",
)
@click.option(
    "--race",
    type=click.Choice(["full", "sure", "likely"]),
    default="full",
    show_default=True,
    help="Stop candidates early that will not be among the best K. full: never. sure: only where the "
    "best K stay the same. likely: on average wrong for at most 1 % of the candidates (lost from the "
    "top K, or kept there instead).",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="The K of --race: how many of the best programs it looks for.",
)
@label_options
@workers_option
@address_option
@engine_option
@accept_engine_option
@click.option(
    "--log-samples", is_flag=True, help="Write all answers to samples.jsonl in the run folder."
)
@click.option(
    "--plan", is_flag=True, help="Only say what memory and time the screening would need."
)
@gpus_option
@gpu_memory_option
@memory_option
@seed_option
@data_option
@unsafe_option
def screen_command(
    programs: tuple[str, ...],
    base: str,
    experts: tuple[str, ...],
    include: str,
    backend: str,
    params: tuple[str, ...],
    task: str,
    shots: str,
    folder: Path,
    race: str,
    top: int | None,
    name: str | None,
    note: str | None,
    workers: int | None,
    address: str | None,
    engine: str,
    accept_engine: bool,
    log_samples: bool,
    plan: bool,
    gpus: str | None,
    gpu_memory: str | None,
    memory: str | None,
    seed: int,
    data: Path | None,
    unsafe_sandbox: bool,
) -> Result:
    """Score PROGRAMS in a live engine whose weights are swapped from one program to the next.

    PROGRAMS are files, folders or .jsonl files.
    """
    check_gpus(gpus, plan)
    settings = ScreenSettings(
        base=base,
        experts=parse_experts(experts),
        include=include,
        backend=backend,
        params=parse_params(params),
        task=task,
        shots=shots,
        race=race,
        top=top,
        workers=workers or default_count(None if plan else address),
        address=address,
        engine=engine,
        seed=seed,
        data=str(data) if data else None,
        memory_bytes=parse_bytes(memory),
        gpu_memory_bytes=parse_bytes(gpu_memory, "--gpu-memory"),
        log_samples=log_samples,
        name=name,
        note=note,
        unsafe_sandbox=unsafe_sandbox,
        accept_engine=accept_engine,
    )
    if plan:
        return {"plan": plan_screening(programs, settings, gpus, folder, workers)}
    return screened(programs, settings, folder)


def default_count(address: str | None) -> int:
    """Return the number of workers where none is given."""
    from ...engine.screening.inputs import default_workers

    return default_workers(address)


def screened(places: tuple[str, ...], settings: ScreenSettings, folder: Path) -> Result:
    """Screen the programs of these places with a bar. Torch is loaded once the input is known to be good."""
    from ..screen import prepare_screen, screen_prepared

    request = prepare_screen(places, settings, folder)
    with resumable("what was scored is kept; the same command goes on"), Bar() as bar:
        return screen_prepared(request, bar)
