"""Writes a candidate of a run as a complete Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ..engine.errors import UsageError
from ..engine.program import extract
from ..engine.records.candidate import BASE
from ..engine.records.store import Store

if TYPE_CHECKING:
    from ..engine.merge import MergeReport


def export(
    folder: Path,
    candidate: str,
    out: Path,
    overwrite: bool = False,
    *,
    unsafe_sandbox: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Merge the candidate's stored program again and write the result to `out`.

    `candidate` is an id or "best" (see Store.named). UsageError if the run has no such candidate.
    """
    config = yaml.safe_load((folder / "config.yaml").read_text())
    with Store.read(folder / "run.db") as store:
        candidate = store.named(candidate)
        found = store.candidate(candidate)
    if found is None or found.source is None or candidate == BASE:
        raise UsageError(f"{folder}: has no candidate {candidate!r} with a program")
    from ..engine.merge import merge_to_folder  # torch: only once the candidate is known

    return merge_to_folder(
        extract(found.source, found.params),
        base=config["base"],
        experts=config["experts"],
        include=config["include"],
        seed=config["seed"],
        out=out,
        overwrite=overwrite,
        unsafe_sandbox=unsafe_sandbox,
        progress=progress,
        also_read={"the run": folder},
    )
