"""Scores a checkpoint as it is (the `eval` command): one engine, one task, one split."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UsageError, keeping
from .given import checked, given_path, in_python
from .output.file import check_file, write_file
from .output.folder import real
from .records.harness_results import Scored, harness_results, is_results
from .records.score import Sample, provenance
from .resident.ask import evaluate
from .resident.client import Client, check_engine, choose_engine
from .resident.messages import EngineSettings
from .screening.inputs import check_model, check_split
from .screening.place import DATABASE
from .screening.room import cache_alone
from .screening.settings import ScreenSettings
from .tasks.load import load_task
from .tasks.task import Task
from .weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class Evaluation:
    """An evaluation whose input was checked."""

    model: str
    checkpoint: Checkpoint
    task: Task
    split: str
    settings: EngineSettings
    log_samples: Path | None
    output: Path | None = None


@in_python()
@checked(log_samples=given_path)
def evaluate_model(
    model: str | Path,
    task: str,
    split: str,
    *,
    data: str | Path | None = None,
    memory_bytes: int | None = None,
    seed: int = 0,
    shots: str = "auto",
    engine: str = "auto",
    log_samples: str | Path | None = None,
    output: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a checkpoint on a task, and return the `eval` command's object.

    `log_samples` is a file for the answers, as JSON lines; `output` one for the score, as
    lm-evaluation-harness writes it. UsageError for a missing model, task or
    split. PartlyDone, with the score, for what fails after the questions were answered.
    """
    files = [None if place is None else Path(place) for place in (data, log_samples, output)]
    wanted = prepare_evaluation(
        str(model),
        task,
        split,
        data=files[0],
        memory_bytes=memory_bytes,
        seed=seed,
        shots=shots,
        engine=engine,
        log_samples=files[1],
        output=files[2],
    )
    return evaluate_prepared(wanted, progress)


def prepare_evaluation(
    model: str,
    task_name: str,
    split: str,
    *,
    data: Path | None,
    memory_bytes: int | None,
    seed: int,
    shots: str,
    engine: str,
    log_samples: Path | None,
    output: Path | None = None,
) -> Evaluation:
    """Check all that can be known before an engine is up. UsageError for what is wrong."""
    if log_samples:
        check_file("--log-samples", log_samples, is_log)
        check_in_no_run("--log-samples", log_samples)
    if output:
        check_file("--output", output, is_results)
        check_in_no_run("--output", output)
    if log_samples and output and real(log_samples) == real(output):
        raise UsageError(f"--output {output}: is the file of --log-samples, too; name another")
    checkpoint = Checkpoint.open(model)
    task = load_task(task_name, data, shots)
    check_split(task, split)
    task = task.unsealed() if split == "test" else task
    check_engine(engine)
    asked = ScreenSettings(model, {}, task_name, engine=engine, memory_bytes=memory_bytes)
    check_model(checkpoint, asked)
    cache = cache_alone(checkpoint, memory_bytes)
    settings = EngineSettings(choose_engine(engine), cache_bytes=cache, seed=seed)
    return Evaluation(model, checkpoint, task, split, settings, log_samples, output)


def evaluate_prepared(
    wanted: Evaluation,
    progress: Callable[[int, int], None] | None = None,
    stage: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Ask the questions, and return the `eval` command's object. PartlyDone carries the score.

    `stage` is told what begins.
    """
    task = wanted.task
    date, began = time.time(), time.monotonic()
    stage("start the engine")
    with Client.start(wanted.settings) as worker:
        stage("load the model")
        try:
            opened = worker.open_model("target", str(wanted.checkpoint.folder))
        finally:
            # An engine that reads a file while it is cut off ends, or holds something else.
            wanted.checkpoint.check_unchanged()
        stage("eval")
        score, samples = evaluate(worker, "target", task, wanted.split, progress)
        made = provenance(task, worker.engine, worker.decoding)
        result = {
            "task": task.name,
            "split": wanted.split,
            **score.to_json(),
            "weights_fingerprint": opened,
            **made,
        }
        with keeping(lambda: result):
            if wanted.log_samples:
                write_log(wanted.log_samples, samples, wanted.model)
            if wanted.output:
                seconds = time.monotonic() - began
                what = wanted.model, task, wanted.split, wanted.settings.seed
                write_results(wanted.output, Scored(*what, date, seconds, score, made))
            check_live(worker, opened, wanted.checkpoint.folder)
    return result


def check_live(worker: Client, opened: str, folder: Path) -> None:
    """RuntimeError where the live weights are no longer those that opening compared with the files."""
    if worker.fingerprint("target") != opened:
        raise RuntimeError(f"{folder}: the engine did not hold this checkpoint when it answered")


def write_log(path: Path, samples: Sequence[Sample], model: str) -> None:
    """Write the answers as JSON lines.

    Where that fails they go to a temporary file, which the UsageError names.
    """
    rows = (json.dumps({**sample.to_json(), "candidate": model}) for sample in samples)
    text = "".join(row + "\n" for row in rows)
    try:
        write_file("--log-samples", path, text, is_log)
    except (OSError, UsageError) as error:
        descriptor, name = tempfile.mkstemp(prefix="selfdev-samples-", suffix=".jsonl")
        with open(descriptor, "w") as file:
            file.write(text)
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"--log-samples {path}: cannot be written: {why}; the answers are in {name}"
        ) from None


def write_results(path: Path, scored: Scored) -> None:
    """Write the score as lm-evaluation-harness does. UsageError where that fails."""
    text = json.dumps(harness_results(scored), indent=2, allow_nan=False) + "\n"
    try:
        write_file("--output", path, text, is_results)
    except OSError as error:
        raise UsageError(f"--output {path}: cannot be written: {error.strerror}") from None


def check_in_no_run(option: str, file: Path) -> None:
    """Raise UsageError where a file would stand in for one of a run."""
    folder = real(file).parent
    if (folder / DATABASE).exists():
        raise UsageError(f"{option} {file}: {folder} is a run's folder; name a file elsewhere")


def is_log(start: str) -> bool:
    """Whether a file that begins so is a log of answers."""
    line = start.split("\n")[0]
    return all(f'"{key}": ' in line for key in ("prompt", "response", "strict", "candidate"))
