"""Finds which of a checkpoint's tensors an engine holds, and where: by name, or by their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..weights.checkpoint import Checkpoint
from ..weights.plain import is_buffer
from ..weights.ties import stored_ties
from .placement import Placement, Segment, Unplaceable

# First elements of a part, by which it is looked up.
KEY_ELEMENTS = 16
# Up to the number of a layer.
LAYER = re.compile(r".*?\.\d+\.")


@dataclass(frozen=True)
class Parts:
    """A checkpoint's tensors by what an engine makes of them.

    `own` have a place of their own. `ties` has the embedding of each head that repeats it. `left_out` are
    those that every loader computes for itself.
    """

    own: tuple[str, ...]
    ties: Mapping[str, str]
    left_out: tuple[str, ...]

    @staticmethod
    def of(checkpoint: Checkpoint) -> Parts:
        ties = stored_ties(checkpoint)
        left_out = tuple(name for name in checkpoint.names if is_buffer(checkpoint, name))
        own = tuple(n for n in checkpoint.names if n not in ties and n not in left_out)
        return Parts(own, ties, left_out)


def place_by_name(
    checkpoint: Checkpoint,
    parts: Parts,
    live: Mapping[str, Tensor],
    parameters: set[str],
    prefix: str = "",
) -> Placement:
    """Return the placement of a checkpoint in live tensors, most of which have the checkpoint's names.

    The files may leave `prefix` out of all names, as those of GPT-2 on the hub do. A tensor that a loader
    renamed, fused or transposed is found by its values. Raises Unplaceable where one is in no place or in
    two, or where a part of a parameter is in no file.
    """
    segments, taken = dict[str, tuple[Segment, ...]](), set[str]()
    for name in (*parts.own, *parts.ties):
        target = name if name in live else f"{prefix}.{name}"
        if target in live and live[target].shape == checkpoint.shape(name):
            segments[name] = (segment_of(name, target, live[target], live[target]),)
            taken.add(target)
    search = Search({n: t for n, t in live.items() if n not in taken}, prefix)
    for name in parts.own:
        if name not in segments:
            segments[name] = (search.find(name, checkpoint.tensor(name)),)
    check_covered(segments, live, parameters)
    return Placement(segments, live).with_ties(parts.ties)


def segment_of(name: str, target: str, whole: Tensor, part: Tensor) -> Segment:
    """Make the segment of a whole checkpoint tensor, in C order, that lives in `part` of `whole`."""
    strides = torch.empty(part.shape, device="meta").stride()
    offset = int(part.storage_offset() - whole.storage_offset())
    return Segment(name, target, tuple(part.shape), strides, 0, tuple(part.stride()), offset)


class Search:
    """Finds parts of live tensors by their first values, layer by layer."""

    def __init__(self, live: Mapping[str, Tensor], prefix: str = "") -> None:
        self.live, self.prefix = live, prefix
        self._layers = {layer_of(name) for name in live}
        self._shapes: dict[tuple[str, tuple[int, ...]], dict[bytes, list[tuple[str, Tensor]]]] = {}

    def find(self, name: str, tensor: Tensor) -> Segment:
        """Return the one part that holds the tensor. Raises Unplaceable for none, and for several."""
        layer = layer_of(name)
        if layer not in self._layers:
            layer = layer_of(f"{self.prefix}.{name}")
        known = self._shapes.setdefault((layer, tuple(tensor.shape)), {})
        if not known:
            for target, part in self._parts(layer, tuple(tensor.shape)):
                known.setdefault(key_of(part), []).append((target, part))
        dtypes = {part.dtype for found in known.values() for _, part in found}
        cast = {key_of(tensor.to(dtype)): tensor.to(dtype) for dtype in dtypes}
        found = [
            (target, part)
            for key, mine in cast.items()
            for target, part in known.get(key, ())
            if torch.equal(part, mine.to(part.dtype))
        ]
        if len(found) != 1:
            what = (
                "leaves it out" if not found else "may have put it in several places (equal values)"
            )
            raise Unplaceable(f"{name}: the engine {what}")
        ((target, part),) = found
        return segment_of(name, target, self.live[target], part)

    def _parts(self, layer: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
        for target, live in self.live.items():
            if layer_of(target) == layer:
                yield from ((target, part) for part in parts_of(live, shape))


def layer_of(name: str) -> str:
    """Return a name up to its first number, such as "model.layers.3."; "" where it has none."""
    found = LAYER.match(name)
    return found[0] if found else ""


def key_of(tensor: Tensor) -> bytes:
    first = tensor.reshape(-1)[:1] if tensor.dim() < 2 else tensor[(0,) * (tensor.dim() - 1)]
    return bytes(first[:KEY_ELEMENTS].contiguous().view(torch.uint8).tolist())


def parts_of(live: Tensor, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield pieces of that shape: the whole, its transpose, blocks of rows, and those of each slice."""
    if live.dim() == len(shape) + 1 == 3:
        for inner in live:
            yield from parts_of(inner, shape)
    if live.dim() != len(shape):
        return
    forms = [live, live.t()] if live.dim() == 2 else [live]
    for form in forms:
        rows = shape[0] if shape else 1
        if form.dim() == 0 and not shape:
            yield form
        elif form.dim() and form.shape[1:] == shape[1:] and rows and form.shape[0] % rows == 0:
            yield from form.split(rows)


def check_covered(
    segments: Mapping[str, tuple[Segment, ...]], live: Mapping[str, Tensor], parameters: set[str]
) -> None:
    """Raise Unplaceable where a part of a parameter is in no file: a loader fills it with random values."""
    filled = dict[int, int]()
    for parts in segments.values():
        for one in parts:
            storage = live[one.target].untyped_storage()._cdata
            filled[storage] = filled.get(storage, 0) + one.of_target(live[one.target]).numel()
    for name in parameters:
        have, wanted = filled.get(live[name].untyped_storage()._cdata, 0), live[name].numel()
        if have < wanted:
            raise Unplaceable(f"{name}: {wanted - have} of its {wanted} values are in no file")
