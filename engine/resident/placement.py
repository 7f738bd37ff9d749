"""Where checkpoint tensors live inside a loaded model: recorded, never written by hand.

The model's own `load_weights` runs on meta tensors. Every copy into a live parameter is noted and
not carried out. A view of a meta tensor shares its storage, so (storage, size, stride, offset) says
which part of which checkpoint tensor it is, whatever the loader did on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
SAME_VALUE = {aten._to_copy.default, aten.clone.default}
# Characters of an error that are shown.
MOST_SAID = 200
FILLS = {aten.fill_.Scalar, aten.fill_.Tensor, aten.zero_.default}


@dataclass(frozen=True)
class Segment:
    """A part of a checkpoint tensor, and the part of a live parameter that holds it.

        checkpoint tensor[source as strided] -> live parameter[target as strided]

    Strides and offsets are in elements.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    source_stride: tuple[int, ...]
    source_offset: int
    target_stride: tuple[int, ...]
    target_offset: int

    def of_source(self, tensor: Tensor) -> Tensor:
        """Return the view of a checkpoint tensor that this segment covers."""
        offset = tensor.storage_offset() + self.source_offset
        return tensor.as_strided(self.shape, self.source_stride, offset)

    def of_target(self, live: Tensor) -> Tensor:
        """Return the view of a live parameter that this segment covers."""
        offset = live.storage_offset() + self.target_offset
        return live.as_strided(self.shape, self.target_stride, offset)


class Unplaceable(RuntimeError):
    """This model cannot be swapped in place: its loader computes weights, or leaves some out."""


class LoadRecorder(TorchDispatchMode):
    """Watches one call of `load_weights`.

    Copies become `segments`, constants become `fills`, and what cannot be swapped becomes `faults`.
    """

    def __init__(self, live: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.live = live
        self.owners: dict[int, list[str]] = {}
        for name, tensor in live.items():
            self.owners.setdefault(tensor.untyped_storage()._cdata, []).append(name)
        self.sources: dict[int, tuple[str, Tensor]] = {}
        self.segments: list[Segment] = []
        self.fills: list[Segment] = []
        self.faults: dict[str, str] = {}
        self.current = ""

    def stream(
        self, metas: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, meta tensor) of the checkpoint, for `load_weights` to iterate over."""
        for name, (shape, dtype) in metas.items():
            tensor = torch.empty(shape, dtype=dtype, device="meta")
            self.sources[tensor.untyped_storage()._cdata] = (name, tensor)
            self.current = name
            yield name, tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args and isinstance(args[0], Tensor) else None
        target = None if first is None else self.owner(first)
        if func is aten.copy_.default and target:
            self.note_copy(target, first, args[1])
            return first
        if func in FILLS and target:
            if first is not None and first.numel():
                self.fills.append(segment("", target, first, first, self.live[target]))
            return first
        if func in SAME_VALUE and first is not None and self.source(first):
            return aten.alias.default(first)
        if target and func._schema.is_mutable:
            self.faults[self.current] = f"{func} on {target}"
            return first
        return func(*args, **kwargs)

    def note_copy(self, target: str, into: Any, value: Tensor) -> None:
        """Note a copy into a live parameter as a segment, or as a fault."""
        found = self.source(value)
        if found is None:
            self.faults[self.current] = f"a computed tensor is copied into {target}"
        elif into.shape != value.shape:
            self.faults[self.current] = f"a broadcast into {target}"
        else:
            self.segments.append(segment(found, target, value, into, self.live[target]))

    def source(self, tensor: Tensor) -> str | None:
        """Return the checkpoint tensor that a tensor is a view of, or None."""
        found = self.sources.get(tensor.untyped_storage()._cdata)
        return found[0] if found else None

    def owner(self, tensor: Tensor) -> str | None:
        """Return the name of the live parameter that a tensor is a part of, or None."""
        names = self.owners.get(tensor.untyped_storage()._cdata, [])
        # Several parameters may share a storage.
        for name in names:
            first = self.live[name].storage_offset()
            if first <= tensor.storage_offset() < first + max(1, self.live[name].numel()):
                return name
        return names[0] if names else None


def segment(source: str, target: str, value: Tensor, into: Tensor, live: Tensor) -> Segment:
    """Make the segment that copies `value`, a view of the source, to `into`, a view of `live`."""
    return Segment(
        source,
        target,
        tuple(into.shape),
        tuple(value.stride()),
        int(value.storage_offset()),
        tuple(into.stride()),
        int(into.storage_offset() - live.storage_offset()),
    )


@dataclass(frozen=True)
class Placement:
    """Segments by checkpoint tensor, and the live parameters by name.

    Every element of every live parameter is covered once.
    """

    segments: Mapping[str, tuple[Segment, ...]]
    live: Mapping[str, Tensor]

    def write(self, name: str, tensor: Tensor) -> None:
        """Put a checkpoint tensor into the live storage, in place."""
        for one in self.segments[name]:
            one.of_target(self.live[one.target]).copy_(one.of_source(tensor))

    def with_ties(self, ties: Mapping[str, str]) -> Placement:
        """Return a placement that writes each embedding of `ties` to its heads, too, where they are apart."""
        segments = dict(self.segments)
        for head, name in ties.items():
            mine = {self.live[one.target].untyped_storage()._cdata for one in segments[name]}
            apart = [
                replace(one, source=name)
                for one in segments.pop(head, ())
                if self.live[one.target].untyped_storage()._cdata not in mine
            ]
            segments[name] = (*segments[name], *apart)
        return Placement(segments, self.live)

    def parameters(self, name: str) -> list[Tensor]:
        """Return the live parameters that hold parts of a checkpoint tensor."""
        return [self.live[target] for target in {one.target for one in self.segments[name]}]

    def whole(self, name: str, shape: tuple[int, ...]) -> Tensor | None:
        """Return a checkpoint tensor's live storage; None if it is not one piece in order."""
        first, *others = self.segments[name]
        live = first.of_target(self.live[first.target])
        in_order = first.source_stride == live.stride() and not first.source_offset
        fits = live.shape == shape and live.is_contiguous() and in_order
        return live if fits and not others else None

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a copy of the checkpoint tensor that the live storage holds."""
        out = torch.empty(shape, dtype=dtype)
        for one in self.segments[name]:
            one.of_source(out).copy_(one.of_target(self.live[one.target]))
        return out


def record(model: Any, metas: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> Placement:
    """Return the placement of a checkpoint in a live model.

    `metas` has (shape, dtype) by tensor name. Raises Unplaceable.
    """
    live = {name: p.data for name, p in model.named_parameters()}
    recorder = LoadRecorder(live | dict(model.named_buffers()))
    try:
        with torch.no_grad(), recorder:
            model.load_weights(recorder.stream(metas))
    except Exception as error:  # a loader may do anything with what is no tensor of numbers
        raise Unplaceable(
            f"{recorder.current}: its loader computes: {error_in_words(error)}"
        ) from error
    if recorder.faults:
        name, fault = next(iter(recorder.faults.items()))
        raise Unplaceable(f"{name}: {fault}")
    check_coverage(live, [*recorder.segments, *recorder.fills])
    if left := metas.keys() - {one.source for one in recorder.segments}:
        raise Unplaceable(f"{min(left)}: the engine leaves it out")
    segments: dict[str, list[Segment]] = {}
    for one in recorder.segments:
        segments.setdefault(one.source, []).append(one)
    return Placement({name: tuple(found) for name, found in segments.items()}, recorder.live)


def error_in_words(error: BaseException) -> str:
    """Return an error's type and its first line, with the next one where it ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = " ".join(lines[: 1 + lines[0].endswith(":")])
    return f"{type(error).__name__}: {shorten(text, MOST_SAID, placeholder=' ...')}"


def check_coverage(live: Mapping[str, Tensor], segments: list[Segment]) -> None:
    """Raise Unplaceable unless segments cover each element of each live parameter once."""
    for name, tensor in live.items():
        hits = torch.zeros(tensor.shape, dtype=torch.uint8)
        if not tensor.is_contiguous():
            raise Unplaceable(f"{name} is not contiguous")
        for one in segments:
            if one.target == name:
                hits.as_strided(one.shape, one.target_stride, one.target_offset).add_(1)
        if not bool((hits == 1).all()):
            missing, twice = int((hits == 0).sum()), int((hits > 1).sum())
            raise Unplaceable(f"{name}: {missing} elements not loaded, {twice} more than once")
