"""`eval`: a checkpoint as it is. `grade`: answers that were saved before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ...engine.errors import UsageError
from .command import Result, command
from .options import environment_options, parse_bytes
from .progress import Bar


def render_eval(result: Result) -> str:
    interval = f"[{result['low']:.3f}, {result['high']:.3f}]"
    return (
        f"{result['task']}: {result['correct']} of {result['n']} = {result['score']:.3f} {interval}"
        f"  (strict {result['strict']}, flexible {result['flexible']})"
    )


@command("eval", render_eval)
@click.argument("model", metavar="MODEL")
@click.option("--task", required=True, help="gsm8k, math or jsonl:PATH.")
@click.option("--split", type=click.Choice(["dev", "test"]), default="dev", show_default=True)
@click.option("--log-samples", metavar="FILE", type=click.Path(path_type=Path))
@environment_options
def eval_command(
    model: str,
    task: str,
    split: str,
    log_samples: Path | None,
    memory: str | None,
    seed: int,
    data: Path | None,
    **_: Any,
) -> Result:
    """Score MODEL, a folder or hub id, as it is."""
    from ...engine.evaluate import evaluate_model

    with Bar() as bar:
        bar.stage("eval")
        return evaluate_model(
            model,
            task,
            split,
            data=data,
            memory_bytes=parse_bytes(memory),
            seed=seed,
            log_samples=log_samples,
            progress=bar.update,
        )


def render_grade(result: Result) -> str:
    return f"{result['n']} answers: {result['strict']} strict, {result['flexible']} flexible"


@command("grade", render_grade)
@click.argument("responses", metavar="RESPONSES.jsonl", type=click.Path(path_type=Path))
@click.option("--task", required=True, help="gsm8k, math or jsonl:PATH; says how to grade.")
def grade_command(responses: Path, task: str) -> Result:
    """Grade saved answers: lines {"response", "answer"}."""
    from ...engine.tasks import grade, grading_of

    grading = grading_of(task)
    grades = [grade(grading, row["response"], row["answer"]) for row in read_responses(responses)]
    return {
        "n": len(grades),
        "strict": sum(g.strict for g in grades),
        "flexible": sum(g.flexible for g in grades),
        "results": [
            {"strict": g.strict, "flexible": g.flexible, "extracted": g.extracted} for g in grades
        ],
    }


def read_responses(path: Path) -> list[dict[str, str]]:
    """Lines {"response", "answer"}; UsageError names file and line at fault."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    rows = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({key: str(row[key]) for key in ("response", "answer")})
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'{path}:{number}: not a line {{"response", "answer"}}: {error}'
            ) from None
    if not rows:
        raise UsageError(f"{path}: holds no answers")
    return rows
