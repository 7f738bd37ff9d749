"""Selects the tensors to merge: those of the base that `include` names, checked in every expert.

Only headers are read, and nothing here loads torch, so a mistake is reported in the first second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import UsageError
from .budget import TensorBytes
from .checkpoint import Checkpoint
from .filled import check_filled
from .headers import shown
from .plain import FLOATS, check_config, check_float, check_plain, is_buffer
from .repeats import repeats
from .ties import HEAD, own_head, stored_ties

MLP = r"(^|\.)(mlp|feed_forward)\.(.*\.)?\w*(proj|fc|fc1|fc2|w1|w2|w3|dense\w*)\.weight$"
DOUBLE = "float64"


@dataclass(frozen=True)
class Selection:
    """The base, the experts by name, and the names of the tensors to merge, in the base's order.

    Commands open one to check their input; the bank is made from it. `ties` has the embedding of each
    head that repeats it in the base's files; only the embedding is merged. `notes` are what people should
    know of the models.
    """

    base: Checkpoint
    experts: Mapping[str, Checkpoint]
    include: str
    names: tuple[str, ...]
    ties: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @staticmethod
    def open(base: str, experts: Mapping[str, str], include: str) -> Selection:
        """Read all headers and check the selected tensors in every expert.

        `base` and `experts` are folders or hub ids; `include` is "mlp", "all" or a regular
        expression. UsageError names the model, file or tensor at fault.
        """
        if not experts:
            raise UsageError("no expert is given: add --expert NAME=DIR")
        opened = Checkpoint.open(base)
        checkpoints = {name: Checkpoint.open(place) for name, place in experts.items()}
        check_plain("", opened)
        for expert, checkpoint in checkpoints.items():
            check_plain(f"expert {expert}: ", checkpoint)
        check_config(opened)
        for checkpoint in (opened, *checkpoints.values()):
            check_filled(checkpoint)
        ties = stored_ties(opened)
        apart = {e: h for e, c in checkpoints.items() if (h := own_head(opened, c, ties))}
        names = select(opened, include, ties)
        for expert, checkpoint in checkpoints.items():
            for name in names:
                check_pair(expert, name, opened, checkpoint)
        twice = dict(repeats({"the base": opened, **named_experts(checkpoints)}, names))
        more = {e: extra(opened, c, include) for e, c in checkpoints.items()}
        notes = (*notes_on(apart), *notes_on_more(more), *notes_on_repeats(twice, len(names)))
        return Selection(opened, checkpoints, include, names, ties, notes)

    @property
    def models(self) -> tuple[Checkpoint, ...]:
        """The checkpoints of the base and then of the experts."""
        return (self.base, *self.experts.values())

    def check_unchanged(self, names: Iterable[str] | None = None) -> None:
        """Raise UsageError where a file of a model was changed since it was opened.

        Only the files of the tensors in `names` are looked at, if given.
        """
        wanted = None if names is None else tuple(names)
        for model in self.models:
            model.check_unchanged(wanted)

    def size_of(self, name: str) -> TensorBytes:
        """Return the bytes of one tensor in base and experts, without and with a result."""
        held = sum(model.entries[name].size_bytes for model in self.models)
        return TensorBytes(held, held + self.base.entries[name].size_bytes)

    def sizes(self, names: Iterable[str]) -> dict[str, TensorBytes]:
        """Return `size_of` each of these tensors, by name."""
        return {name: self.size_of(name) for name in names}

    def slot_bytes(self, names: Iterable[str]) -> int:
        """Return the bytes in which any of these tensors fits with its result, one at a time."""
        wanted = list(names)
        largest = [max((m.entries[n].size_bytes for n in wanted), default=0) for m in self.models]
        return sum(largest) + largest[0]

    def check_slot(self, names: Iterable[str], memory_bytes: int | None) -> int:
        """Return `slot_bytes`. UsageError where `memory_bytes` (None: no bound) is less."""
        needed = self.slot_bytes(names)
        if memory_bytes is not None and needed > memory_bytes:
            raise UsageError(
                f"--memory: the largest tensor needs {needed / 2**20:.1f} MiB for base, experts and "
                f"result; {memory_bytes / 2**20:.1f} MiB were allowed"
            )
        return needed

    @property
    def size_bytes(self) -> int:
        """The bytes of all selected tensors, of base and experts together."""
        return sum(self.size_of(name).held for name in self.names)


def notes_on(apart: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each expert with a head of its own; `apart` has the heads by expert."""
    for expert, head in apart.items():
        yield (
            f"expert {expert} has an output head of its own ({shown(head)}); the base's is its "
            "embedding, so that head is left out"
        )


def notes_on_more(more: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield a line for each expert that has tensors which the base lacks; `more` has them by expert."""
    for expert, names in more.items():
        if names:
            yield (
                f"expert {expert}: tensors of the selection that the base lacks are left out "
                f"({len(names)}, such as {shown(names[0])})"
            )


def extra(base: Checkpoint, expert: Checkpoint, include: str) -> list[str]:
    """Return the tensors that `include` names in an expert alone, without heads and constants."""
    matches = pattern_of(include).search
    names = [n for n in expert.names if n not in base.entries and matches(n)]
    return [name for name in names if not (is_buffer(expert, name) or HEAD.search(name))]


def named_experts(experts: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    return {f"expert {name}": checkpoint for name, checkpoint in experts.items()}


def notes_on_repeats(twice: Mapping[str, str], num_tensors: int) -> Iterator[str]:
    """Yield a line for each model that has the values of another one; `twice` has the other by name."""
    for model, other in twice.items():
        what = "it adds nothing" if other == "the base" else "they are one model, given twice"
        yield f"{model} has the values of {other} in all {num_tensors} selected tensors, wherever they were compared: {what}"


def select(
    base: Checkpoint, include: str, ties: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return the names to merge; `include` is `mlp`, `all`, or a regular expression for re.search.

    A head of `ties` that is named stands for its embedding. UsageError where `include` is not a regular
    expression or selects no tensor that can be merged.
    """
    matches = pattern_of(include).search
    ties = ties or {}
    named = {ties.get(name, name) for name in base.names if matches(name)}
    matching = [name for name in base.names if name in named and not is_buffer(base, name)]
    for name in matching:
        if base.entries[name].dtype == DOUBLE:
            check_float("", base, name)
    selected = [name for name in matching if base.entries[name].dtype in FLOATS]
    if not selected:
        raise UsageError(f"--include {include}: selects no tensor of {base.folder}")
    return tuple(selected)


def pattern_of(include: str) -> re.Pattern[str]:
    """Return `include` as a regular expression. UsageError where it is none."""
    if not include.strip():
        raise UsageError("--include: is empty; all takes every tensor")
    try:
        return re.compile({"mlp": MLP, "all": ""}.get(include, include))
    except re.error as error:
        raise UsageError(f"--include {include}: not a regular expression: {error}") from None


def check_pair(expert: str, name: str, base: Checkpoint, checkpoint: Checkpoint) -> None:
    """Raise UsageError where an expert's tensor cannot be merged with the base's.

    It may be absent, have another shape, or not be a float of 16 or 32 bits.
    """
    if name not in checkpoint.entries:
        raise UsageError(
            f"expert {expert} ({checkpoint.folder}): lacks {shown(name)}{alike(name, checkpoint)}"
        )
    mine, theirs = base.shape(name), checkpoint.shape(name)
    if mine != theirs:
        raise UsageError(
            f"expert {expert} ({checkpoint.folder}): {shown(name)} has shape {list(theirs)}, "
            f"the base's is {list(mine)}"
        )
    check_float(f"expert {expert}: ", checkpoint, name)


def alike(name: str, checkpoint: Checkpoint) -> str:
    """Say which tensor of a model has this name but for what a wrapper put before it; "" for none."""
    ends = f".{name}".endswith
    found = (one for one in checkpoint.names if one.endswith(f".{name}") or ends(f".{one}"))
    other = next(found, "")
    return f"; it has {shown(other)}: save it again under the base's names" if other else ""
