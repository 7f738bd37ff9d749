"""A run belongs to contents, not to paths: its base, experts, generator, task, grader and engine.

What opening reads is compared at once. Weights are compared by the size, times and header of their
files; where one looks different the contents decide. Contents that nobody had to read yet are read by a
thread while the engine scores (`ContentReader`), so that a later command can tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from ..errors import UsageError
from ..records.candidate import BASE
from ..records.database import is_begun
from ..records.inputs import WEIGHTS, Input
from ..records.store import Store
from ..resident.client import choose_engine, installed_engine
from ..resident.decoding import GENERATION, generation_config
from ..tasks.grading import grader_of
from ..tasks.task import Task
from ..weights.checkpoint import Checkpoint
from ..weights.contents import (
    COMPANIONS,
    FileFacts,
    companion_digests,
    contents_fingerprint,
    facts_of,
)
from ..weights.selection import Selection
from .folder import DATABASE
from .inputs import open_selection, open_task
from .settings import ScreenSettings

ENGINE, GRADER, TASK, BASE_ROLE = "engine", "grader", "task", "base"
Mend = Callable[[Input], str]
OTHER = "put back what was there, or name another folder"


def model_input(role: str, checkpoint: Checkpoint, companions: tuple[str, ...] = ()) -> Input:
    """Return a model as it is now. Its weights are not read."""
    parts = companion_digests(checkpoint.folder, companions)
    if companions:
        parts |= ends_said(checkpoint)
    return Input(role, str(checkpoint.folder.absolute()), facts_of(checkpoint), parts)


def ends_said(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the tokens that end an answer by generation_config.json: all that is used of that file."""
    ids = generation_config(checkpoint.folder / GENERATION).get("eos_token_id")
    listed = ids if isinstance(ids, list) else [ids]
    return {GENERATION: json.dumps(sorted(one for one in listed if type(one) is int))}


def model_inputs(selection: Selection) -> list[Input]:
    """Return the base and the experts as they are now."""
    experts = selection.experts.items()
    return [
        model_input(BASE_ROLE, selection.base, COMPANIONS),
        *(model_input(f"expert {name}", checkpoint) for name, checkpoint in experts),
    ]


def inputs_of(settings: ScreenSettings, selection: Selection, task: Task) -> list[Input]:
    """Return everything that a screening belongs to, as it is now."""
    grader = grader_of(task.grading)
    engine = installed_engine(choose_engine(settings.engine))
    return [
        *model_inputs(selection),
        Input(TASK, settings.task, parts={"questions": task.version}),
        Input(GRADER, "", parts={"version": grader}),
        Input(ENGINE, "", parts={"version": engine}),
    ]


# ---- is it what it was?


def check_inputs_are(
    known: Mapping[str, Input],
    found: Sequence[Input],
    run: Path,
    accept_engine: bool = False,
    options: Mapping[str, str] | None = None,
) -> list[Input]:
    """Return what is to be recorded of these inputs. UsageError names the one that is another.

    An input that the run does not know (a run of an older version) is taken as it is. `options` say by
    role with which option people tell where a model is now.
    """
    settled = []
    for now in found:
        before = known.get(now.role)
        if before is not None:
            mend = partial(mending, known, (options or {}).get(now.role))
            now = settle(before, now, run, accept_engine, mend)
        settled.append(now)
    return settled


def mending(known: Mapping[str, Input], option: str | None, now: Input) -> str:
    """Say in words what people can do about a model that is another one."""
    if option is None:
        return OTHER
    weights = now.parts.get(WEIGHTS)
    alike = [one.role for one in known.values() if weights and one.parts.get(WEIGHTS) == weights]
    found = f"they are those of its {alike[0]}; " if alike else ""
    there = known[now.role].place
    return f"{found}put back what was there ({there}), or say with {option} where it is now"


def settle(before: Input, now: Input, run: Path, accept_engine: bool, mend: Mend) -> Input:
    """Return the input with all that is known of it."""
    if before.files == now.files and WEIGHTS in before.parts:
        now = replace(now, parts={**now.parts, WEIGHTS: before.parts[WEIGHTS]})
    elif before.files != now.files:
        now = read_to_compare(before, now, run, mend)
    different = sorted(
        part for part in before.parts.keys() | now.parts.keys() if part_differs(before, now, part)
    )
    if different and not (now.role == ENGINE and accept_engine):
        raise UsageError(f"{run}: {fault_of(before, now, different[0], mend(now))}")
    return now


def part_differs(before: Input, now: Input, part: str) -> bool:
    """Tell whether a part is another. Unread weights in files that look as before are the same."""
    if part == WEIGHTS and before.files == now.files:
        return False
    # A run of an older version does not know it.
    if part == GENERATION and part not in before.parts:
        return False
    return before.parts.get(part) != now.parts.get(part)


def read_to_compare(before: Input, now: Input, run: Path, mend: Mend) -> Input:
    """Read the contents of files that look different. UsageError where no earlier ones are known."""
    if not before.is_read:
        why = (
            "the run is of a version that recorded its contents by another digest"
            if WEIGHTS in before.parts
            else "the run was cut off before its contents were recorded"
        )
        raise UsageError(
            f"{run}: {now.role} ({now.place}) looks different: {first_difference(before, now)}; "
            f"{why}, so nobody can tell whether the weights changed: {mend(now)}"
        )
    return replace(now, parts={**now.parts, WEIGHTS: weights_of(now.place, now.files)})


@cache
def weights_of(place: str, files: tuple[FileFacts, ...]) -> str:
    """Return the digest of a model's tensors. They are read once for files that look like this."""
    return contents_fingerprint(Checkpoint.open(place))


def fault_of(before: Input, now: Input, part: str, mend: str) -> str:
    """Say in words what is another."""
    there, here = before.parts.get(part, "none"), now.parts.get(part, "none")
    if now.role == ENGINE:
        return (
            f"was scored by {there}, and {here} is installed: its answers may differ; give "
            "--accept-engine to go on with it (the run records that), or name another folder"
        )
    if now.role == GRADER:
        return f"was graded by {there!r}; here the grader is {here!r}: install that, or name another folder"
    if now.role == TASK:
        return (
            f"the task has changed: {now.place} differs from what the run was asked (questions, "
            f"answers, prompts or rules: {there} there, {here} here); {OTHER}"
        )
    if not now.files:
        return f"{now.role} ({now.place}) has changed since the run began; {mend}"
    what = "its weights are others" if part == WEIGHTS else f"{part} differs"
    seen = f" ({first_difference(before, now)})" if part == WEIGHTS else ""
    if now.place != before.place:
        return f"{now.role} ({now.place}) is another model than the run's: {what}{seen}; {mend}"
    return f"{now.role} ({now.place}) has changed since the run began: {what}{seen}; {mend}"


def first_difference(before: Input, now: Input) -> str:
    """Say which file looks different, and how."""
    known = {facts.name: facts for facts in before.files}
    for facts in now.files:
        there = known.pop(facts.name, None)
        if there is None:
            return f"{facts.name} was not there"
        if there.size_bytes != facts.size_bytes:
            return f"{facts.name} has {facts.size_bytes} bytes, not {there.size_bytes}"
        if there.header != facts.header:
            return f"{facts.name} has another header"
        if there != facts:
            return f"{facts.name} was written or copied since"
    return f"{next(iter(known), 'a file')} is gone"


# ---- with a run's store


def check_existing_screening(settings: ScreenSettings, run: Path) -> None:
    """Raise UsageError where the run that is there belongs to something else. Loads no torch."""
    if is_begun(run / DATABASE):
        found = inputs_of(settings, open_selection(settings), open_task(settings))
        check_existing(found, run, settings.accept_engine)


def check_existing(found: Sequence[Input], run: Path, accept_engine: bool = False) -> None:
    """Do the same for inputs that the caller has opened."""
    with Store.read(run / DATABASE) as store:
        check_inputs_are(known_inputs(store), found, run, accept_engine)


def known_inputs(store: Store) -> dict[str, Input]:
    """Return what a run belongs to. For an older version, what the score of its base says."""
    if known := store.inputs():
        return known
    made = store.made_with(BASE) or {}
    said = {TASK: ("questions", "task_version"), GRADER: ("version", "grader")}
    said[ENGINE] = ("version", "engine")
    return {
        role: Input(role, "", parts={part: made[key]})
        for role, (part, key) in said.items()
        if key in made
    }


def record_inputs(
    store: Store, found: Sequence[Input], run: Path, accept_engine: bool = False
) -> None:
    """Check what a run belongs to, and record it: what is new, has moved, or was accepted."""
    known = known_inputs(store)
    settled = check_inputs_are(known, found, run, accept_engine)
    with store.transaction():
        for now in settled:
            before = known.get(now.role)
            if before and before.place and before.place != now.place:
                store.add_event("moved", role=now.role, before=before.place, now=now.place)
            if before and now.role == ENGINE and before.parts != now.parts:
                store.add_event(
                    "engine accepted", before=before.parts["version"], now=now.parts["version"]
                )
            store.set_input(now)
