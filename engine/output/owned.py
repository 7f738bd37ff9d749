"""Tells what in a folder this program may delete: a model, or a run, and nothing that others put there.

A merged folder has a marker, which lists the files that the merge wrote. Older markers have no list; then,
and for models that others made, only names that models have are deleted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from ..errors import UsageError, in_one_line

MARKER = "selfdev-engine.json"  # says that this program made the folder
# The program of a merge, beside the weights that it made.
PROGRAM = "merge_program.py"
MADE_BY = "selfdev-engine"
MARKER_BYTES = 1 << 20
# Parts of the names of folders that are deleted unseen: half-made ones, and runs that are being replaced.
SCRATCH, ASIDE = ".selfdev-scratch-", ".selfdev-replaced-"
# Of 255 bytes, names beside the folder need some.
MOST_NAME_BYTES = 220
# Files of a run.
CONFIG, DATABASE, RUN_LOCK = "config.yaml", "run.db", "selfdev-engine.lock"
# The folder in a run that holds a folder, itself a run, for each transfer of its programs: a digest.
TRANSFERS, TRANSFER = "transfers", "[0-9a-f]" * 12
# The one folder that a model has.
TEMPLATES = "additional_chat_templates"
MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.bin.index.json"),
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt"),
    *("merges.txt", "spiece.model", "sentencepiece.*", "*.tiktoken", "chat_template.*"),
    *("preprocessor_config.json", "processor_config.json", f"{TEMPLATES}/*.jinja"),
    *("README.md", "LICENSE*", "NOTICE*", ".gitattributes", MARKER),
)
RUN_FILES = (
    *(CONFIG, f"{CONFIG}.*", DATABASE, f"{DATABASE}-*", RUN_LOCK, "engine*.log"),
    *("samples.jsonl", "samples.[0-9]*", "report.html", ".report.html.*"),
    *("scratch", "scratch/updates-*.safetensors", "generators", "generators/[0-9]*"),
    *("adapters", "adapters/[0-9]*", "arms", "arms/*/generators", "arms/*/generators/[0-9]*"),
    *("arms/*/adapters", "arms/*/adapters/[0-9]*", TRANSFERS),
    # Of `run --report-to tensorboard`.
    *("tensorboard", "tensorboard/events.out.tfevents.*"),
)


def write_marker(folder: Path, facts: Mapping[str, object]) -> None:
    """Write the marker of a finished folder, with the sizes of all files that it has now."""
    sizes = {name: (folder / name).stat().st_size for name in names_in(folder)}
    text = json.dumps({"made_by": MADE_BY, **facts, "files": sizes}, indent=1)
    (folder / MARKER).write_text(text + "\n")


def names_in(folder: Path) -> Iterator[str]:
    """Yield the places of all files below a folder, and those of its empty folders, sorted."""

    def fail(error: OSError) -> None:
        raise error

    found = []
    for place, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        inner = [] if folders or files or place == str(folder) else [""]
        found += [
            str((Path(place) / name).relative_to(folder)) for name in (*files, *links, *inner)
        ]
    yield from sorted(found)


def foreign_in_model(folder: Path) -> str:
    """Return in words what a model's folder holds beside the model; "" where nothing else is there."""
    names = list(names_in(folder))
    if (written := written_by_us(folder)) is not None:
        for name in names:
            if name != MARKER and name not in written:
                return f"{in_one_line(name)}, which no merge wrote"
            if name != MARKER and written[name] != (folder / name).lstat().st_size:
                return f"{in_one_line(name)}, which was changed since it was merged"
        return ""
    strange = next((n for n in names if not is_one_of(n, MODEL_FILES)), None)
    weights = any(fnmatch(n, "*.safetensors") or n in ("config.json", MARKER) for n in names)
    if strange is None and not weights:
        strange = names[0]
    return "" if strange is None else f"{in_one_line(strange)}, which no model folder has"


def foreign_in_run(folder: Path) -> str:
    """Return in words what a run's folder holds beside the run; "" where nothing else is there."""
    inner = f"{TRANSFERS}/{TRANSFER}"
    patterns = (*RUN_FILES, inner, *(f"{inner}/{p}" for p in RUN_FILES))
    strange = next((n for n in names_in(folder) if not is_one_of(n, patterns)), None)
    return "" if strange is None else f"{in_one_line(strange)}, which no run wrote"


def is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a pattern fits a place in a folder; one without / is of files directly in it."""
    return any(fnmatch(name, p) and ("/" in p or "/" not in name) for p in patterns)


def written_by_us(folder: Path) -> dict[str, int] | None:
    """Return the sizes of the files that a merge wrote there; None where no marker lists them."""
    try:
        with (folder / MARKER).open("rb") as file:
            found = json.loads(file.read(MARKER_BYTES))
        sizes = found["files"] if str(found["made_by"]).startswith(MADE_BY) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return sizes if isinstance(sizes, dict) else None


def check_place_for(option: str, place: Path) -> None:
    """UsageError where a folder must not be made or replaced at this real path. `option` begins the line.

    The present folder would vanish under the shell, a mount point cannot be renamed, and what lies in a
    run or a model of ours is deleted with it.
    """
    check_not_inside(option, place)
    if holds_cwd(place):
        raise UsageError(
            f"{option}: is the present folder, or holds it, so it cannot be made anew; add a name"
        )
    if place.is_dir() and os.path.ismount(place):
        raise UsageError(f"{option}: is a mount point, which cannot appear whole; add a name")


def check_not_inside(option: str, place: Path) -> None:
    """UsageError where the path leads into a folder that this program makes and deletes."""
    for part in place.parts:
        if SCRATCH in part or ASIDE in part:
            raise UsageError(
                f"{option}: {part} is a name of folders that are deleted; choose another"
            )
    if (count := len(os.fsencode(place.name))) > MOST_NAME_BYTES:
        raise UsageError(f"{option}: the name has {count} bytes; {MOST_NAME_BYTES} are the most")
    for above in place.parents:
        if place.parent == above / TRANSFERS and fnmatch(place.name, TRANSFER):
            return
        if (above / MARKER).is_file():
            raise UsageError(f"{option}: lies in a merged model ({above}); name another place")
        if (above / RUN_LOCK).is_file() or all((above / n).is_file() for n in (CONFIG, DATABASE)):
            raise UsageError(f"{option}: lies in the folder of a run ({above}); name another place")


def holds_cwd(place: Path) -> bool:
    """Tell whether a real path is the present folder, or above it."""
    try:
        return Path.cwd().resolve().is_relative_to(place)
    except OSError:
        return False
