"""`run` runs the whole loop; `report` and `export` read the folder that it leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...engine.errors import UsageError, in_one_line
from ...engine.given import MAX_SEED
from ..capacity import plan_of, render_plan
from ..report import margin_text
from ..sizes import parse_bytes
from ..verdict import of_several
from .command import Result, command, counted, resumable, say
from .completion import complete_ids, complete_runs
from .look import run_of
from .options import (
    PLACE,
    accept_engine_option,
    address_option,
    check_gpus,
    data_option,
    gpu_memory_option,
    gpus_option,
    label_options,
    memory_option,
    parse_experts,
    unsafe_option,
    workers_option,
)
from .progress import Bar


def interval(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    return f"{score['score']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def iteration_table(result: Result) -> Table:
    """How the samples of each iteration ended, and how many texts and updates they are."""
    table = Table(title="samples")
    endings = ("success", "duplicate", "no_function", "not_executable", "timeout")
    for column in ("iteration", "sampled", *endings, "texts", "updates"):
        table.add_column(column.replace("_", " "), justify="right")
    for turn in result["iterations"]:
        numbers = (turn["iteration"], turn["sampled"], *(turn["categories"][k] for k in endings))
        table.add_row(*map(str, (*numbers, turn["texts"], turn["updates"])))
    return table


def learning_table(result: Result) -> Table:
    """What each iteration scored, and what was learned from it."""
    table = Table(title="scores and learning")
    numbers = ("chosen", "rejected_size", "pairs", "dpo_steps")
    columns = (
        "iteration",
        "best dev",
        "mean dev",
        "chosen",
        "rejected",
        "pairs",
        "steps",
        "margin",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for turn in result["iterations"]:
        best, mean = (f"{turn[k]:.3f}" if turn[k] is not None else "-" for k in ("best", "mean"))
        margin = margin_text(turn.get("training") or {})
        table.add_row(str(turn["iteration"]), best, mean, *(str(turn[k]) for k in numbers), margin)
    return table


def arm_table(result: Result) -> Table:
    """All arms at equal numbers of scored updates, and what else they drew and scored."""
    found = result["budget"]
    table = Table(title=f"arms, compared at {counted(found['scored'], 'scored update')}")
    columns = ("best dev", "mean dev", "samples for it", "samples", "scored", "last mean dev")
    for column in ("arm", *columns):
        table.add_column(column, justify="left" if column == "arm" else "right")
    turns = {"main": result["iterations"]}
    turns |= {name: arm["iterations"] for name, arm in result["arms"].items()}
    for name, arm in found["arms"].items():
        last = turns[name][-1]["mean"] if turns[name] else None
        numbers = (arm["best"], arm["mean"], arm["samples"], arm["all_samples"], arm["all_scored"])
        table.add_row(Text(name), *map(number_text, (*numbers, last)))
    return table


def number_text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def model_table(result: Result) -> Table:
    looks = counted(result["test_looks"], "score")
    table = Table(title=f"against the known ({looks} on test in this folder)")
    for column in ("model", "dev", "test"):
        table.add_column(column, justify="left" if column == "model" else "right")
    rows = {"base": result["base"], **result["experts"], **result["baselines"]}
    if result["best"]:
        rows[f"best: {result['best']['id']}"] = result["best"]
    for name, row in rows.items():
        table.add_row(Text(in_one_line(name)), interval(row["dev"]), interval(row["test"]))
    return table


def render_run(result: Result) -> str:
    if "plan" in result:
        return render_plan(result["plan"])
    console = Console(width=100, record=True, file=StringIO())
    tables = [iteration_table(result), learning_table(result), model_table(result)]
    if result["arms"]:
        tables.append(arm_table(result))
    console.print(*tables)
    arms = (result, *result["arms"].values())
    for note in (turn["note"] for arm in arms for turn in arm["iterations"] if "note" in turn):
        console.print(Text(in_one_line(note)))
    if result["arm_verdict"]:
        console.print(Text(in_one_line(result["arm_verdict"])))
    console.print(Text(in_one_line(shrunk(result["shrinkage"]) + result["verdict"])))
    compared = max(result["comparisons"], result["arm_comparisons"], key=len)
    if note := of_several(compared):
        console.print(Text(note))
    run = Path(result["run"])
    return f"{console.export_text()}run     {run}\nreport  {run / 'report.html'}"


def shrunk(found: dict[str, Any] | None) -> str:
    """A sentence about what the tested programs lost from dev to test; empty where none was tested."""
    if found is None:
        return ""
    programs = counted(found["programs"], "program")
    return f"From dev to test the best {programs} went from {found['dev']:.3f} to {found['test']:.3f}. "


@command("run", render_run, example="selfdev-engine run configs/demo.yaml --name demo")
@click.argument("config", metavar="CONFIG", type=PLACE)
@click.option(
    "--run",
    "folder",
    type=PLACE,
    help="Folder of the run. [default: runs/<config name>]",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped before its end.")
@click.option("--overwrite", is_flag=True, help="Delete an earlier run in that folder first.")
@click.option(
    "--plan",
    is_flag=True,
    help="Only check the config, and say what memory, time and disk the run would need.",
)
@gpus_option
@workers_option
@address_option
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    help="Seed of the run, instead of that in CONFIG.",
)
@label_options
@click.option(
    "--log-samples", is_flag=True, help="Write all answers to samples.jsonl in the run folder."
)
@accept_engine_option
@click.option(
    "--report-to",
    type=click.Choice(["tensorboard", "wandb"]),
    help="Also tell each iteration's figures, dev scores and training curves to this library; "
    "TensorBoard reads RUN/tensorboard.",
)
@memory_option
@gpu_memory_option
@data_option
@unsafe_option
def run_command(
    config: Path,
    folder: Path | None,
    resume: bool,
    overwrite: bool,
    plan: bool,
    gpus: str | None,
    workers: int | None,
    address: str | None,
    seed: int | None,
    name: str | None,
    note: str | None,
    log_samples: bool,
    accept_engine: bool,
    report_to: str | None,
    memory: str | None,
    gpu_memory: str | None,
    data: Path | None,
    unsafe_sandbox: bool,
) -> Result:
    """Run the loop of CONFIG: sample programs, trace, score, make pairs, train, repeat."""
    from ..run import request_of, run_prepared

    check_gpus(gpus, plan)
    request = request_of(
        config,
        run=folder,
        workers=workers,
        address=address,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        memory_bytes=parse_bytes(memory),
        gpu_memory_bytes=parse_bytes(gpu_memory, "--gpu-memory"),
        data=data,
        unsafe_sandbox=unsafe_sandbox,
        accept_engine=accept_engine,
        offline=plan,
        elsewhere=gpus is not None,
        report_to=report_to,
    )
    labels = {"name": name, "note": note, "log_samples": log_samples}
    request = replace(request, screening=replace(request.screening, **labels))
    if plan:
        from ..estimate import plan_run, run_request

        settings, screening = request.config, request.screening
        asked = run_request(settings, data, gpus, request.folder, screening)
        return {"plan": {**plan_run(settings, data), **plan_of(asked)}}
    with resumable(partial(how_on, request.folder)), Bar() as bar:
        return run_prepared(request, bar)


def how_on(folder: Path) -> str:
    """How a run that was interrupted goes on; before its first step there is nothing to resume."""
    from ...engine.screening.folder import holds_run

    if holds_run(folder):
        return "what was done is kept; the same command with --resume goes on"
    return "nothing was begun; the same command begins anew"


@command("report", lambda result: result["report"], example="selfdev-engine report last")
@click.argument("folder", metavar="RUN", type=PLACE, shell_complete=complete_runs)
@click.option(
    "--out",
    type=PLACE,
    metavar="FILE",
    help="The page, for example where the run's folder is read-only. [default: RUN/report.html]",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Write nothing; serve the page on this machine while the run grows, until Ctrl-C.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="With --watch: the port. [default: one that is free]",
)
def report_command(folder: Path, out: Path | None, watch: bool, port: int | None) -> Result:
    """Write RUN/report.html anew from RUN/run.db: plots, a table of all candidates, their sources.

    With --json, for a run of the loop, also the data of the tables and figures of the paper
    (arXiv 2410.15639).
    """
    from ..figures import figures
    from ..report import write_report

    folder = run_of(folder)
    if watch:
        if out:
            raise UsageError(f"--out {out}: --watch writes no file; leave one of the two out")
        watch_run(folder, port or 0)
    if port:
        raise UsageError(f"--port {port}: is for --watch only")
    return {"report": str(write_report(folder, out)), "figures": figures(folder)}


def watch_run(folder: Path, port: int) -> NoReturn:
    """Serve the page until the command is interrupted. UsageError where the run is damaged already."""
    from ..report.serve import ReportServer

    with ReportServer(folder, port, say) as server, resumable("nothing is served any more"):
        server.watched.page()
        say(f"{server.url} shows {folder}; Ctrl-C ends it")
        server.serve_forever()
    raise AssertionError("the server ends by an interrupt only")


@command(
    "export", lambda result: result["out"], example="selfdev-engine export last best --out best"
)
@click.argument("folder", metavar="RUN", type=PLACE, shell_complete=complete_runs)
@click.argument("candidate", metavar="CANDIDATE", shell_complete=complete_ids)
@click.option(
    "--out",
    required=True,
    type=PLACE,
    help="Folder to write the checkpoint to; with --mergekit the file.",
)
@click.option("--overwrite", is_flag=True, help="Replace the folder --out if it holds files.")
@click.option(
    "--mergekit",
    is_flag=True,
    help="Write no weights but a mergekit configuration to the file --out, for a candidate whose "
    "linear residual is below 0.001.",
)
@click.option("--base", metavar="DIR", help="Where the run's base is now, if it was moved.")
@click.option(
    *("--expert", "experts"),
    multiple=True,
    metavar="NAME=DIR",
    help="Where an expert is now, if it was moved.",
)
@unsafe_option
def export_command(
    folder: Path,
    candidate: str,
    out: Path,
    overwrite: bool,
    mergekit: bool,
    base: str | None,
    experts: tuple[str, ...],
    unsafe_sandbox: bool,
) -> Result:
    """Write a candidate of RUN as a complete Hugging Face checkpoint.

    RUN is a run folder, or `last`. CANDIDATE is a name as `show` takes it.

    The run's models must be the ones that it was scored with: their contents are compared.
    """
    from ..export import export, prepare_export
    from ..mergekit_export import export_mergekit

    folder = run_of(folder)
    moved = parse_experts(experts) if experts else {}
    if mergekit:
        models = {"base": base, "experts": moved}
        return export_mergekit(folder, candidate, out, **models, unsafe_sandbox=unsafe_sandbox)
    wanted = prepare_export(folder, candidate, out, overwrite, base=base, experts=moved)
    if wanted.unchecked:
        say(
            f"not checked: {folder} did not record the contents of {', '.join(wanted.unchecked)}, so these may "
            "differ from what was scored"
        )
    with Bar() as bar:
        bar.stage("export")
        report = export(wanted, unsafe_sandbox=unsafe_sandbox, progress=bar.update)
    return report.to_json()
