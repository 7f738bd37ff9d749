"""`eval` scores a checkpoint, `grade` saved answers."""

from __future__ import annotations

from pathlib import Path

import click

from ...engine.errors import UsageError
from ..sizes import parse_bytes
from .command import Result, command, counted
from .completion import complete_tasks
from .options import (
    PLACE,
    data_option,
    engine_option,
    memory_option,
    seed_option,
    shots_option,
    split_option,
    task_option,
)
from .progress import Bar


def render_eval(result: Result) -> str:
    interval = f"[{result['low']:.3f}, {result['high']:.3f}]"
    return (
        f"{result['task']}, {result['split']}: {result['correct']} of {result['n']} = {result['score']:.3f} {interval}"
        f"  (strict {result['strict']}, flexible {result['flexible']}; {result['engine']})"
    )


@command(
    "eval", render_eval, example="selfdev-engine eval blend --task jsonl:zoo/tiny/tasks/mixed.jsonl"
)
@click.argument("model", metavar="MODEL")
@task_option
@split_option
@shots_option
@engine_option
@click.option(
    "--log-samples",
    metavar="FILE",
    type=PLACE,
    help="Write every question with its answer and grade to this file, as lines of JSON.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=PLACE,
    help="Write the score to this file, in lm-evaluation-harness's format, with standard errors.",
)
@memory_option
@seed_option
@data_option
def eval_command(
    model: str,
    task: str,
    split: str,
    shots: str,
    engine: str,
    log_samples: Path | None,
    output: Path | None,
    memory: str | None,
    seed: int,
    data: Path | None,
) -> Result:
    """Score MODEL, a folder or a hub id, on a task."""
    from ...engine.evaluate import evaluate_prepared, prepare_evaluation

    wanted = prepare_evaluation(
        model,
        task,
        split,
        data=data,
        memory_bytes=parse_bytes(memory),
        seed=seed,
        shots=shots,
        engine=engine,
        log_samples=log_samples,
        output=output,
    )
    with Bar() as bar:
        return evaluate_prepared(wanted, bar.update, bar.stage)


def render_grade(result: Result) -> str:
    counts = f"{counted(result['n'], 'answer')}: {result['strict']} strict, {result['flexible']} flexible"
    return f"{counts} (by {result['grader']})"


@command("grade", render_grade, example="selfdev-engine grade answers.jsonl --task gsm8k")
@click.argument("responses", metavar="RESPONSES.jsonl", type=PLACE)
@click.option(
    "--task",
    required=True,
    shell_complete=complete_tasks,
    help="The task that was asked: gsm8k, math or jsonl:PATH. It decides how to grade.",
)
def grade_command(responses: Path, task: str) -> Result:
    """Grade saved answers: lines of JSON with "response" and "answer"."""
    from ...engine.tasks.grading import grade, grader_of
    from ...engine.tasks.load import grading_of

    grading = grading_of(task)
    grades = [grade(grading, *pair) for pair in read_responses(responses, grading)]
    return {
        "n": len(grades),
        "strict": sum(g.strict for g in grades),
        "flexible": sum(g.flexible for g in grades),
        "grader": grader_of(grading),
        "results": [
            {"strict": g.strict, "flexible": g.flexible, "extracted": g.extracted} for g in grades
        ],
    }


def read_responses(path: Path, grading: str = "numbers") -> list[tuple[str, str]]:
    """(response, answer) of each line. UsageError names the wrong file and line.

    A response may be empty, because answers of models may be; the reference answer may not, and must be
    one that `grading` can compare with.
    """
    from ...engine.tasks.grading import check_reference
    from ...engine.tasks.rows import rows_of, text_of

    pairs = []
    for place, row in rows_of(path, "answers"):
        response = text_of(place, row, "response", may_be_empty=True, is_raw=True)
        answer = text_of(place, row, "answer")
        if why := check_reference(grading, answer):
            raise UsageError(f"{place}: 'answer' {why}")
        pairs.append((response, answer))
    return pairs
