"""The training stage, seen from the driver: a process of its own that leaves a new generator."""

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
EXTRA_MODULES = ("trl", "peft", "datasets", "accelerate")


@dataclass(frozen=True)
class TrainSettings:
    """All that a stage depends on; equal settings, equal weights on one machine."""

    generator: str  # folder of the current one
    out: str
    prompt: str
    pairs: Sequence[tuple[str, str]]  # completions: chosen, rejected
    held_out: Sequence[tuple[str, str]]
    dpo: dict[str, float]
    seed: int


class TrainingFailed(EngineError):
    """The stage's process ended without a generator."""


def check_extra() -> None:
    """MissingExtra before anything is paid for."""
    for module in EXTRA_MODULES:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(module, "train")


def train(settings: TrainSettings, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Run the stage; its log: steps, losses, margins in nats. Raises TrainingFailed."""
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
    """Lines of JSON: {"step", "total"} on the way, {"result"} at the end."""
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
