"""Makes models and tasks on this machine: a base, three experts, a generator of merge programs.

`make_zoo(folder, size)` takes minutes on two cores. It makes a folder once, with the same weights
each time on one machine. Each part is made by its own process (part_process.py) with one thread, so
that two cores work at the same time. The folder gets its name only when it is complete.

    tiny       all models are trained here: a Mistral of 1 M parameters learns arithmetic
    smollm2    SmolLM2-135M-Instruct from a PyPI package; its experts are fine-tuned here
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from ...engine.errors import EngineError, MissingExtra, UsageError
from ...engine.output.claim import one_writer
from ...engine.output.folder import LOCK, real
from ...engine.output.owned import SCRATCH, check_place_for
from ...engine.sandbox.bound import bound_words
from .wording import SKILLS

Progress = Callable[[int, int, str], None]
# The phases of each size; the parts of one phase are made at the same time.
SIZES = {
    "tiny": (("family", "generator"),),
    "smollm2": (("base",), tuple(SKILLS)),
}
# Version of each size, raised when a change gives other models or tasks.
RECIPES = {"tiny": 2, "smollm2": 4}
FIELDS = ("base", "experts", "generator", "tasks", "accuracy", "seconds")


def make_zoo(
    folder: Path, size: str = "tiny", progress: Progress | None = None, settings: str = ""
) -> dict[str, Any]:
    """Make a zoo, or read one that was made before; the object of zoo.json.

    `settings` is JSON that changes fields of training.ZooSettings; tests use it to make small zoos.
    Raises UsageError, and MissingExtra if a package is absent.
    """
    if size not in SIZES:
        raise UsageError(
            f"--size {size}: cannot be made by this version; there is {', '.join(SIZES)}"
        )
    if (folder / "zoo.json").is_file():
        return read_zoo(folder, size, settings)
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra("transformers", "train")
    if size == "smollm2":
        from .smollm2 import packaged_gguf

        packaged_gguf()
    folder = real(folder)
    check_place_for(str(folder), folder)
    fresh = folder.parent / f".{folder.name}{SCRATCH}{os.getpid()}"
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = folder.parent / f".{folder.name}{LOCK}"
            if stack.enter_context(one_writer(lock, str(folder))):
                clear_leftovers(folder)
            if folder.exists() and any(folder.iterdir()):
                raise UsageError(f"{folder}: holds files that are no zoo")
            fresh.mkdir()
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made: {error.strerror}") from None
        return build(folder, fresh, progress or (lambda done, total, label: None), size, settings)


def read_zoo(folder: Path, size: str, settings: str) -> dict[str, Any]:
    """Read a zoo that was made before. UsageError if it is damaged or has other settings."""
    again = "delete the folder to have it made again"
    try:
        zoo = json.loads((folder / "zoo.json").read_text())
        missing = [key for key in FIELDS if key not in zoo]
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"{folder / 'zoo.json'}: cannot be read ({error}); {again}") from None
    if missing:
        raise UsageError(f"{folder / 'zoo.json'}: has no {missing[0]}; {again}")
    if zoo.get("made_with", {}) != made_with(size, settings):
        raise UsageError(f"{folder}: holds a zoo made with other settings; {again}")
    return zoo


def made_with(size: str, settings: str) -> dict[str, Any]:
    return {"recipe": RECIPES[size], "size": size, "settings": settings}


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left beside the folder; only its one writer may."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}{SCRATCH}*"):
        shutil.rmtree(left)


def build(
    folder: Path, fresh: Path, progress: Progress, size: str, settings: str
) -> dict[str, Any]:
    began = time.monotonic()
    try:
        zoo = run_parts(fresh, progress, size, settings)
        if size == "smollm2":
            zoo["experts"] = {skill: f"experts/{skill}" for skill in SKILLS}
            progress(0, 1, "zoo smollm2: score")
            zoo["accuracy"] = accuracies(fresh, zoo)
        zoo["seconds"] = round(time.monotonic() - began, 1)
        ordered = {key: zoo[key] for key in FIELDS}
        ordered["made_with"] = made_with(size, settings)
        (fresh / "zoo.json").write_text(json.dumps(ordered, indent=1) + "\n")
        if folder.exists():
            folder.rmdir()
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return ordered


def accuracies(fresh: Path, zoo: dict[str, Any]) -> dict[str, Any]:
    """Dev scores by model and task, as `eval` would give them.

    All models share one live engine, and all questions one batch.
    """
    from ...engine.resident.ask import graded
    from ...engine.resident.client import Client, choose_engine
    from ...engine.resident.messages import EngineSettings, Sampling
    from ...engine.tasks.load import load_task
    from ...engine.tasks.task import MAX_NEW_TOKENS

    tasks = {name: load_task(f"jsonl:{fresh / path}") for name, path in zoo["tasks"].items()}
    asked = {name: task.split("dev") for name, task in tasks.items()}
    prompts = [question.prompt for questions in asked.values() for question in questions]
    found: dict[str, Any] = {}
    with Client.start(EngineSettings(engine=choose_engine("auto")), fresh / "engine.log") as worker:
        worker.open_model("target", str(fresh / zoo["base"]))
        for model, place in {"base": zoo["base"], **zoo["experts"]}.items():
            worker.load_weights("target", str(fresh / place))
            answers = iter(worker.generate("target", prompts, Sampling(MAX_NEW_TOKENS)))
            scores = {
                n: graded(t, "dev", list(islice(answers, len(asked[n])))) for n, t in tasks.items()
            }
            found[model] = {name: round(score.score, 4) for name, (score, _) in scores.items()}
    (fresh / "engine.log").unlink()
    return found


def run_parts(fresh: Path, progress: Progress, size: str, settings: str) -> dict[str, Any]:
    """Make all parts, phase after phase; the facts that they report, joined."""
    said: dict[str, Any] = {}
    for number, parts in enumerate(SIZES[size], 1):
        label = f"zoo {size}" + f": {number} of {len(SIZES[size])}" * (len(SIZES[size]) > 1)
        run_phase(fresh, parts, settings, lambda d, t, label=label: progress(d, t, label))
        for part in parts:
            said |= json.loads((fresh / f"{part}.json").read_text())
            (fresh / f"{part}.json").unlink()
    return said


def run_phase(
    fresh: Path, parts: tuple[str, ...], settings: str, progress: Callable[[int, int], None]
) -> None:
    """Make parts at the same time; `progress` gets the sums of their steps."""
    processes = {part: start_part(part, fresh, settings) for part in parts}
    done: dict[str, tuple[int, int]] = dict.fromkeys(parts, (0, 1))
    try:
        while any(process.poll() is None for process in processes.values()):
            for part, process in processes.items():
                check_part(part, process, fresh)
                done[part] = last_progress(fresh / f"{part}.log") or done[part]
            progress(sum(d for d, _ in done.values()), sum(t for _, t in done.values()))
            time.sleep(0.2)
        for part, process in processes.items():
            check_part(part, process, fresh)
            (fresh / f"{part}.log").unlink()
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def check_part(part: str, process: subprocess.Popen[bytes], fresh: Path) -> None:
    """EngineError with the end of its log if the process of a part failed."""
    if process.poll() not in (None, 0):
        last = (fresh / f"{part}.log").read_text(errors="replace").strip()[-2000:]
        raise EngineError(f"zoo: making the {part} failed; its last words:\n{last}")


def start_part(part: str, fresh: Path, settings: str) -> subprocess.Popen[bytes]:
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (fresh / f"{part}.log").open("wb") as log:
        return subprocess.Popen(
            bound_words(os.getpid(), f"{__name__}.part_process", part, str(fresh), settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **threads, "HF_HUB_OFFLINE": "1"},
        )


def last_progress(log: Path) -> tuple[int, int] | None:
    """(done, total) of the last line "step DONE TOTAL" in the log of a part."""
    lines = log.read_text(errors="replace").splitlines()
    steps = [line.split() for line in lines if line.startswith("step ")]
    return (int(steps[-1][1]), int(steps[-1][2])) if steps else None
