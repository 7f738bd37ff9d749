"""Lazy tensors, which have everything but numbers, and the dispatch mode that does their work.

A `Lazy` is a `Buffer` (the value of the tensor that owns the memory) and a path of view steps into
it. A value is a graph node, or a small real tensor if it does not depend on the inputs. A read
replays the path. A write goes back along the path into the buffer and raises the buffer's version,
so that every alias sees it, also those in the caller's model_dict. Composite functions arrive
decomposed, because they lie above the mode. If Python needs a number, the driver is asked
(values.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from ..bounds import MAX_CONSTANT_ELEMENTS
from ..draws import next_key
from ..ops import (
    ASKED,
    CAST,
    EXPAND,
    FILLS,
    FULL,
    INDEX,
    LAYOUT,
    PERMUTE,
    POSITIONS,
    PUT,
    RESHAPE,
    SCATTER,
    STRIDED,
    argument_names,
    by_mask,
    fill_number,
    functional,
    meta_run,
    run,
    view_step,
)
from ..tree import found, mapped
from .recorder import Node, Recorder, Unsupported
from .values import Values

Tag = torch.Tag
# Up to so many places among experts, or numbers of a matrix, are asked for, so that a program stays
# fused. More of them are left to torch on whole tensors.
MAX_PLACES_ASKED, MAX_MATRIX_ASKED = 16, 64
META, CPU = torch.device("meta"), torch.device("cpu")


@dataclass(eq=False)
class Buffer:
    """Owns memory. `shared` holds the arrays that numpy() gave out, as (lazy, array, copy)."""

    value: Any  # a Node or a real tensor, in the owner's shape
    flat: bool  # whether the owner is contiguous
    version: int = 0
    shared: list[Any] = field(default_factory=list)


class Lazy(Tensor):
    """A tensor without storage; the mode does all the work."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    buffer: Buffer
    path: tuple[Any, ...]
    meta: Tensor
    cached: tuple[int, Any]

    @staticmethod
    def __new__(cls, buffer: Buffer, path: tuple[Any, ...], meta: Tensor) -> Lazy:
        lazy = Tensor._make_wrapper_subclass(
            cls, meta.shape, meta.stride(), meta.storage_offset(), dtype=meta.dtype, device=CPU
        )
        lazy.buffer, lazy.path, lazy.meta, lazy.cached = buffer, path, meta, (-1, None)
        return lazy

    def __copy__(self) -> Tensor:
        """Shares the storage, as a shallow copy of a tensor does."""
        return self.detach()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise Unsupported(f"{func} outside the traced function")


def meta_of(x: Any) -> Any:
    if isinstance(x, (Lazy, Node)):
        return x.meta
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)


# Overload -> rule(mode, *args, **kwargs).
Rules = Mapping[Any, Callable[..., Any]]


class LazyMode(TorchDispatchMode):
    """Sees every ATen op of the program and of torch's composites, and every factory."""

    def __init__(self, values: Values, rules: Rules) -> None:
        super().__init__()
        self.recorder: Recorder = values.recorder
        self.values, self.rules = values, rules
        self.input_sizes: set[int] = set()
        self.axis_lengths: set[int] = set()
        self.draws = 0

    def input(self, name: str, shape: tuple[int, ...]) -> Lazy:
        meta = torch.empty(shape, device=META)
        self.input_sizes.add(meta.numel())
        self.axis_lengths |= {n for n in shape if n > MAX_PLACES_ASKED}
        self.values.input_sizes = self.input_sizes
        return self.wrap(self.recorder.add("input", (name,), {}, meta), meta)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Other namespaces are profiler marks in torch's own Python code.
        if func.namespace != "aten":
            return func(*args, **kwargs)
        if rule := self.rules.get(func):
            return rule(self, *args, **kwargs)
        # In inference_mode, and only there, composites arrive whole.
        if func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        if Tag.dynamic_output_shape in func.tags and (func is not INDEX or by_mask(args[1])):
            return self.unsized(func, args, kwargs)
        if Tag.inplace_view in func.tags:
            return self.reshape_in_place(func, args, kwargs)
        return self.ordinary(func, args, kwargs)

    def ordinary(self, func: Any, args: Any, kwargs: Any) -> Any:
        metas = self.shape_of(func, args, kwargs)
        if func in FILLS:
            args, func = (list(metas.shape), fill_number(func, args)), FULL
            kwargs = {"dtype": metas.dtype}
        if func._schema.is_mutable:
            return self.mutate(func, args, kwargs)
        if func.is_view:
            return self.view(func, args, kwargs, metas)
        if Tag.nondeterministic_seeded in func.tags:
            return self.random(func, args, kwargs, metas)
        args, kwargs = mapped(self.read, self.settled(func, args, kwargs))
        return self.wrap(self.emit(func, args, kwargs, metas), metas)

    def settled(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The arguments, with real numbers for small ones that a kernel must know.

        They are asked for. Examples are the order in which experts are picked, or a Gram matrix to
        be inverted.
        """
        first = ASKED.get(func.overloadpacket)
        if first is None:
            return args, kwargs
        values = found(mapped(self.read, args[first:]), Node)
        most = MAX_PLACES_ASKED if first else MAX_MATRIX_ASKED
        if not all(self.values.is_statistic(v) and v.meta.numel() <= most for v in values):
            return args, kwargs
        return [*args[:first], *mapped(self.real, list(args[first:]))], kwargs

    def shape_of(self, func: Any, args: Any, kwargs: Any) -> Any:
        kwargs = mapped(meta_of, kwargs, (Tensor, Node))
        names = argument_names(func)
        if "generator" in kwargs:
            kwargs["generator"] = None
        if "device" in names:
            if torch.device(kwargs.get("device") or "cpu").type != "cpu":
                raise RuntimeError(f"no such device here: {kwargs['device']}")
            kwargs |= {"device": META, "pin_memory": None}
            kwargs = {k: v for k, v in kwargs.items() if k in names}
        return meta_run(func, mapped(meta_of, args, (Tensor, Node)), kwargs)

    def small(self, metas: Any) -> bool:
        """Tells whether these may be real numbers. A tensor of an input's size never is."""
        sizes = [m.numel() for m in found(metas, Tensor)]
        return all(n <= MAX_CONSTANT_ELEMENTS and n not in self.input_sizes for n in sizes)

    def symbolic(self, func: Any, metas: Any, kwargs: Any) -> bool:
        """Tells whether a result is a node without inputs: draws, and positions along an axis."""
        along = func.overloadpacket in POSITIONS and metas.numel() in self.axis_lengths
        return along or "draw" in kwargs

    def emit(self, func: Any, args: Any, kwargs: Any = None, metas: Any = None) -> Any:
        """The value of an op: real if all of its arguments are and it is small, else a node."""
        kwargs = {k: v for k, v in (kwargs or {}).items() if k not in LAYOUT and v is not None}
        metas = self.shape_of(func, args, kwargs) if metas is None else metas
        if (
            not found((args, kwargs), Node)
            and self.small(metas)
            and not self.symbolic(func, metas, kwargs)
        ):
            return run(func, args, kwargs)
        args, kwargs = mapped(self.recorder.const, (args, kwargs))
        node = self.recorder.add(func, args, kwargs, metas)
        return self.results(node, metas)

    def results(self, node: Node, metas: Any) -> Any:
        if isinstance(metas, Tensor):
            return node
        return [self.recorder.add("item", (node, i), {}, m) for i, m in enumerate(metas)]

    def wrap(self, value: Any, metas: Any) -> Any:
        if isinstance(metas, Tensor):
            return Lazy(Buffer(value, metas.is_contiguous()), (), metas)
        return [self.wrap(v, m) for v, m in zip(value, metas, strict=True)]

    # ---- aliasing: buffers, views, writes

    def read(self, t: Tensor) -> Any:
        """The value of a tensor now: a node, or real numbers."""
        if not isinstance(t, Lazy):
            return t
        self.take_array_writes(t.buffer)
        if t.cached[0] != t.buffer.version:
            value = t.buffer.value
            for func, *rest in t.path:
                value = self.emit(func, (value, *rest))
            t.cached = (t.buffer.version, value)
        return t.cached[1]

    def take_array_writes(self, buffer: Buffer) -> None:
        """Takes over what was written to arrays from numpy(): they share a tensor's memory."""
        for lazy, array, copy in buffer.shared:
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
                copy[...] = array
                self.write(lazy, torch.from_numpy(array.copy()))

    def write(self, t: Lazy, new: Any) -> None:
        sources = [t.buffer.value]
        for func, *rest in t.path:
            sources.append(self.emit(func, (sources[-1], *rest)))
        for source, (func, *rest) in zip(reversed(sources[:-1]), reversed(t.path), strict=True):
            if func in SCATTER:
                new = self.emit(SCATTER[func], (source, new, *rest))
            elif func is PERMUTE:
                order = rest[0]
                new = self.emit(PERMUTE, (new, [order.index(d) for d in range(len(order))]))
            else:
                # A reshape, or an expand that repeats nothing: eager refuses to write to others.
                new = self.emit(RESHAPE, (new, list(meta_of(source).shape)))
        t.buffer.value, t.buffer.version = new, t.buffer.version + 1

    def view(self, func: Any, args: Any, kwargs: Any, meta: Tensor) -> Lazy:
        base, *rest = args
        # A real tensor enters the program by lift_fresh.
        if not isinstance(base, Lazy):
            return self.wrap(base, meta)
        step = view_step(func, base.meta, meta, rest, kwargs)
        if meta.dtype != base.dtype or not (step or base.buffer.flat):
            raise Unsupported(f"{func}: a view by bits or by strides of a strided tensor")
        if not step:
            step = (STRIDED, list(meta.shape), list(meta.stride()), meta.storage_offset())
            return Lazy(base.buffer, (step,), meta)
        same = step[0] is RESHAPE and meta.shape == base.shape
        return Lazy(base.buffer, base.path if same else (*base.path, step), meta)

    def mutate(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Computes the functional form, then writes where the in-place or out= form would."""
        target = kwargs["out"] if "out" in kwargs else args[0]
        pure = functional(func)
        if pure is None or not isinstance(target, Lazy):
            raise Unsupported(f"{func}: an in-place form without a functional one")
        with self:
            new = pure(*args, **{k: v for k, v in kwargs.items() if k != "out"})
        return self.store(target, new)

    def reshape_in_place(self, func: Any, args: Any, kwargs: Any) -> Lazy:
        """Gives the same tensor object another shape, as unsqueeze_ and t_ do."""
        target, pure = args[0], functional(func)
        if pure is None:
            raise Unsupported(f"{func}")
        with self:
            new = pure(*args, **kwargs)
        with no_dispatch():
            func(*args, **kwargs)
        target.path, target.meta, target.cached = new.path, new.meta, (-1, None)
        return target

    def store(self, target: Lazy, source: Tensor, *_: Any) -> Lazy:
        """Does what target.copy_(source) does."""
        value = self.read(source)
        if meta_of(value).dtype != target.dtype:
            value = self.emit(CAST, (value,), {"dtype": target.dtype})
        if meta_of(value).shape != target.shape:
            value = self.emit(EXPAND, (value, list(target.shape)))
        self.write(target, value)
        return target

    # ---- numbers for Python, sizes, draws

    def real(self, t: Tensor) -> Tensor:
        """A small tensor's numbers. The driver is asked if they depend on the inputs."""
        with _disable_current_modes():
            value = self.read(t)
            return torch.as_tensor(self.values.of(value)) if isinstance(value, Node) else value

    def unsized(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An op whose sizes depend on values (x[mask], nonzero): the driver is asked for them."""
        args, kwargs = mapped(self.read, (args, kwargs))
        if not found((args, kwargs), Node):
            out = func(*args, **kwargs)
            return self.wrap(out, mapped(meta_of, out))
        args, kwargs = mapped(self.recorder.const, (args, kwargs))
        node = self.recorder.add(func, args, kwargs, None)
        if node.meta is None:
            node.meta = self.values.sizes(node, several=len(func._schema.returns) > 1)
        return self.wrap(self.results(node, node.meta), node.meta)

    def random(self, func: Any, args: Any, kwargs: Any, metas: Any) -> Any:
        """A random draw: torch's own if it is small, else a node with a key from the generator."""
        of_inputs = any(m.numel() % n == 0 for m in found(metas, Tensor) for n in self.input_sizes)
        if self.small(metas) and not of_inputs:
            real = func(*mapped(self.real, args), **mapped(self.real, kwargs))
            return self.wrap(real, metas)
        generator = kwargs.get("generator") or torch.default_generator
        with _disable_current_modes():
            draw = next_key(generator)
        self.draws += 1
        args, kwargs = mapped(self.read, (args, kwargs | {"draw": draw}))
        if "dtype" in argument_names(func):
            kwargs["dtype"] = metas.dtype
        return self.wrap(self.emit(func, args, kwargs, metas), metas)

    def put(self, x: Lazy, indices: Any, values: Tensor, accumulate: bool = False, *_: Any) -> Lazy:
        """Writes x[indices] = values: a `where` for a number or y[mask], else index_put."""
        value = self.read(values)
        if len(indices) == 1 and by_mask(indices) and not accumulate:
            with self:
                chosen = self.chosen_by_mask(x, indices[0], values, value)
            # Stored outside the mode, in which shapes would become lazy tensors.
            if chosen is not None:
                return self.store(x, chosen)
            self.check_fits(x, indices, values)
        put = self.emit(PUT, (*mapped(self.read, [x, indices]), value, accumulate), {}, x.meta)
        return self.store(x, self.wrap(put, x.meta))

    def chosen_by_mask(self, x: Lazy, mask: Tensor, values: Tensor, value: Any) -> Tensor | None:
        """x with the values under the mask, or None if no `where` says it."""
        other = self.masked_source(x, mask, values, value)
        if other is None:
            return None
        mask = mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim()))
        return torch.where(mask, other.to(x.dtype), x)

    def check_fits(self, x: Lazy, indices: Any, values: Tensor) -> None:
        """Raises eager's error if x[mask] has another size than the values to be put there."""
        picked = self.unsized(INDEX, (x, indices), {}).shape
        if values.dim() and values.shape[0] not in (1, picked[0]) and values.dim() == len(picked):
            raise RuntimeError(
                f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast "
                f"to indexing result of shape {list(picked)}"
            )

    def masked_source(self, x: Lazy, mask: Tensor, values: Tensor, value: Any) -> Any:
        """A tensor from which a `where` can choose under the mask, or None."""
        if values.numel() == 1:
            return values.reshape(())
        picked = isinstance(value, Node) and value.op is INDEX
        if picked and value.args[1] == [self.read(mask)] and value.args[0].meta.shape == x.shape:
            return self.wrap(value.args[0], value.args[0].meta)
        return None
