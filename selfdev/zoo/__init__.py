"""Makes models and tasks on this machine: a base, three experts, a generator of merge programs.

`make_zoo(folder, size)` takes minutes on two cores. It makes a folder once, with the same weights
each time on one machine. Each part is made by its own process (part_process.py) with one thread, so
that two cores work at the same time. The folder gets its name only when it is complete.

    tiny       all models are trained here: a Mistral of 1 M parameters learns arithmetic
    smollm2    SmolLM2-135M-Instruct from a PyPI package; its experts are fine-tuned here, and on demand a
               generator
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ...engine.errors import EngineError, MissingExtra, UsageError
from ...engine.output.claim import one_writer
from ...engine.output.folder import LOCK, real
from ...engine.output.owned import SCRATCH, check_place_for
from ...engine.sandbox.bound import bound_words
from ...engine.weights.small_file import end_of
from .wording import SKILLS

Progress = Callable[[int, int, str], None]
Phases = Sequence[tuple[str, ...]]
# The phases of each size; the parts of one phase are made at the same time.
SIZES = {
    "tiny": (("family", "generator"),),
    "smollm2": (("base",), tuple(SKILLS)),
}
# Version of each size, raised when a change gives other models or tasks.
RECIPES = {"tiny": 2, "smollm2": 4}
FIELDS = ("base", "experts", "generator", "tasks", "accuracy", "seconds")
# Entries that zoos of earlier versions lack: scores of linear merges, and which attempt was in the range.
MORE = ("merges", "attempt")


def make_zoo(
    folder: Path,
    size: str = "tiny",
    progress: Progress | None = None,
    settings: str = "",
    seed: int = 0,
    writer: bool = False,
) -> dict[str, Any]:
    """Make a zoo, or read one that was made before; the object of zoo.json.

    `seed` decides questions, splits and weights. With `writer` the base of smollm2 is tuned to write
    programs; otherwise its generator is the base. `settings` is JSON that changes other fields of
    training.ZooSettings; tests use it to make small zoos. Raises UsageError, and MissingExtra if a
    package is absent.
    """
    if writer and size != "smollm2":
        raise UsageError("--writer: is for --size smollm2; a tiny zoo has a generator that writes")
    if seed:
        settings = json.dumps({**json.loads(settings or "{}"), "seed": seed})
    phases = (*SIZES.get(size, ()), *([("writer",)] if writer else []))
    if size not in SIZES:
        raise UsageError(
            f"--size {size}: cannot be made by this version; there is {', '.join(SIZES)}"
        )
    if (folder / "zoo.json").is_file():
        return read_zoo(folder, made_with(size, settings, writer))
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
        made = made_with(size, settings, writer)
        return build(folder, fresh, progress or (lambda done, total, label: None), made, phases)


def read_zoo(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Read a zoo that was made before. UsageError if it is damaged or was not made as `wanted`."""
    again = "delete the folder to have it made again"
    try:
        zoo = json.loads((folder / "zoo.json").read_text())
        missing = [key for key in FIELDS if key not in zoo]
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"{folder / 'zoo.json'}: cannot be read ({error}); {again}") from None
    if missing:
        raise UsageError(f"{folder / 'zoo.json'}: has no {missing[0]}; {again}")
    if zoo.get("made_with", {}) != wanted:
        raise UsageError(f"{folder}: holds a zoo made with other settings; {again}")
    return zoo


def made_with(size: str, settings: str, writer: bool) -> dict[str, Any]:
    made = {"recipe": RECIPES[size], "size": size, "settings": settings}
    return {**made, "writer": True} if writer else made


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left beside the folder; only its one writer may."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}{SCRATCH}*"):
        shutil.rmtree(left)


def build(
    folder: Path, fresh: Path, progress: Progress, made: dict[str, Any], phases: Phases
) -> dict[str, Any]:
    """Make the parts of all phases, then give the folder its name. `made` is kept in zoo.json."""
    began = time.monotonic()
    try:
        zoo = run_parts(fresh, progress, phases, made)
        if made["size"] == "smollm2":
            zoo["experts"] = {skill: f"experts/{skill}" for skill in SKILLS}
            progress(0, 1, "zoo smollm2: score")
            zoo["accuracy"] = accuracies(fresh, zoo)
        zoo["seconds"] = round(time.monotonic() - began, 1)
        ordered = {key: zoo[key] for key in (*FIELDS, *MORE) if key in zoo}
        ordered["made_with"] = made
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


def run_parts(
    fresh: Path, progress: Progress, phases: Phases, made: dict[str, Any]
) -> dict[str, Any]:
    """Make all parts, phase after phase; the facts that they report, joined."""
    said: dict[str, Any] = {}
    for number, parts in enumerate(phases, 1):
        label = f"zoo {made['size']}" + f": {number} of {len(phases)}" * (len(phases) > 1)
        show = partial(show_step, progress, label)
        run_phase(fresh, parts, made["settings"], show)
        for part in parts:
            said |= json.loads((fresh / f"{part}.json").read_text())
            (fresh / f"{part}.json").unlink()
    return said


def show_step(progress: Progress, label: str, done: int, total: int) -> None:
    progress(done, total, label)


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
        last = end_of(fresh / f"{part}.log")[-2000:]
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
    steps = [line.split() for line in end_of(log).splitlines() if line.startswith("step ")]
    return (int(steps[-1][1]), int(steps[-1][2])) if steps else None
