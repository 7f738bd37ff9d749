"""Starts the training stage in its own process, follows its progress, reads its result."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..engine.errors import EngineError, MissingExtra

MODULE = "selfdev_engine.selfdev.train_process"
EXTRA_MODULES = ("trl", "peft", "datasets")


@dataclass(frozen=True)
class TrainSettings:
    """Everything a stage depends on. Equal settings give equal weights on one machine."""

    generator: str  # folder of the current generator
    out: str  # folder of the new generator
    prompt: str
    pairs: Sequence[tuple[str, str]]  # (chosen, rejected) completions
    held_out: Sequence[tuple[str, str]]
    dpo: dict[str, float]
    seed: int


class TrainingFailed(EngineError):
    """The process of the stage ended without a result."""


def check_extra() -> None:
    """Raise MissingExtra now if a package for training is absent, not hours later."""
    for module in EXTRA_MODULES:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(module, "train")


def train(settings: TrainSettings, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Run the stage and return its log: steps, losses, margins in nats. Raises TrainingFailed."""
    check_extra()
    out = Path(settings.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    log = out.with_suffix(".log")
    with tempfile.TemporaryDirectory(prefix="selfdev-train-") as scratch, log.open("w") as sink:
        request = Path(scratch) / "settings.json"
        request.write_text(json.dumps(asdict(settings)))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, str(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "TMPDIR": scratch,
                "HF_DATASETS_CACHE": scratch,
                "TQDM_DISABLE": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
        )
        try:
            result = follow(process, progress)
        finally:
            process.kill()
            process.wait()
    if result is None:
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-12:])
        raise TrainingFailed(f"the training process ended without a result:\n{tail}")
    log.unlink()
    return result


def follow(
    process: subprocess.Popen[str], progress: Callable[[int, int], None]
) -> dict[str, Any] | None:
    """Read the lines of JSON that the process prints; its result, or None if it failed.

    {"step", "total"} goes to `progress`; {"result"} is the last line.
    """
    assert process.stdout is not None
    result = None
    for line in process.stdout:
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        if "step" in message:
            progress(message["step"], message["total"])
        result = message.get("result", result)
    return result if process.wait() == 0 else None
