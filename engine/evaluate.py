"""Scores a checkpoint as it is (the `eval` command): one engine, one task, one split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import UsageError
from .output.file import check_file, write_file
from .records.score import provenance
from .resident.ask import evaluate
from .resident.client import Client, choose_engine
from .resident.messages import EngineSettings
from .resident.runnable import check_runnable
from .tasks.load import load_task
from .weights.checkpoint import Checkpoint


def evaluate_model(
    model: str,
    task_name: str,
    split: str,
    *,
    data: Path | None = None,
    memory_bytes: int | None = None,
    seed: int = 0,
    shots: str = "auto",
    engine: str = "auto",
    log_samples: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a checkpoint on a task, and return the `eval` command's object.

    `log_samples` is a file for the answers, as JSON lines. UsageError for a missing model, task or
    split.
    """
    if log_samples:
        check_file("--log-samples", log_samples, is_log)
    checkpoint, engine = Checkpoint.open(model), choose_engine(engine)
    check_runnable(checkpoint, engine)
    task = load_task(task_name, data, shots)
    task = task.unsealed() if split == "test" else task
    if not task.split(split):
        raise UsageError(f"--task {task.name}: has no {split} questions")
    settings = EngineSettings(engine, memory_bytes=memory_bytes, seed=seed)
    with Client.start(settings) as worker:
        live = worker.open_model("target", str(checkpoint.folder))
        score, samples = evaluate(worker, "target", task, split, progress)
        made = provenance(task, worker.engine, worker.decoding)
    if log_samples:
        rows = [json.dumps({**sample.to_json(), "candidate": model}) for sample in samples]
        text = "".join(row + "\n" for row in rows)
        write_file("--log-samples", log_samples, text, is_log)
    return {"task": task.name, **score.to_json(), "weights_fingerprint": live, **made}


def is_log(start: str) -> bool:
    """Whether a file that begins so is a log of answers."""
    line = start.split("\n")[0]
    return all(f'"{key}": ' in line for key in ("prompt", "response", "strict", "candidate"))
