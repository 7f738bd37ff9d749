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
    SAME,
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
from .memory import META, Buffer, Lazy, Part, in_memory, meta_of
from .overlap import check_mode, check_repeats_nothing, check_write
from .recorder import BUGS, Node, Recorder, Unsupported, end_if_spoilt
from .rehearsal import check_masks, check_put, rehearse
from .values import Values

Tag = torch.Tag
# A trace replaces the function of this name in torch (surface.py).
as_tensor = torch.from_numpy
WRITE_AT = torch.ops.aten.index_put_.default
# Up to so many places among experts, or numbers of a matrix, are asked for, so that a program stays
# fused. More of them are left to torch on whole tensors.
MAX_PLACES_ASKED, MAX_MATRIX_ASKED = 16, 64


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
        self.inference = False

    def input(self, name: str, shape: tuple[int, ...]) -> Lazy:
        meta = torch.empty(shape, device=META)
        self.input_sizes.add(meta.numel())
        self.axis_lengths |= {n for n in shape if n > MAX_PLACES_ASKED}
        self.values.input_sizes = self.input_sizes
        self.values.axis_lengths |= set(shape)
        return self.wrap(self.recorder.add("input", (name,), {}, meta), meta)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        end_if_spoilt()
        try:
            return self.dispatched(func, args, kwargs or {})
        except BUGS as error:
            # A program that catches errors must not take one of ours for torch's.
            raise Unsupported(f"{func}: {type(error).__name__}: {error}") from error

    def dispatched(self, func: Any, args: Any, kwargs: Any) -> Any:
        # Other namespaces are profiler marks in torch's own Python code.
        if func.namespace != "aten":
            return func(*args, **kwargs)
        func = SAME.get(func, func)
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
        rehearse(func, args, kwargs)
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
        try:
            return meta_run(func, mapped(meta_of, args, (Tensor, Node)), kwargs)
        except NotImplementedError as error:
            raise Unsupported(f"{func} has no shape function here") from error

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
            return Lazy(Buffer(value, metas.is_contiguous()), (), metas, self.inference)
        return [self.wrap(v, m) for v, m in zip(value, metas, strict=True)]

    # ---- aliasing: buffers, views, writes

    def read(self, t: Tensor) -> Any:
        """The value of a tensor now: a node, or real numbers."""
        if not isinstance(t, Lazy):
            return t
        buffer = t.lazy_buffer
        if buffer.is_memory():
            return in_memory(t).clone()
        self.take_array_writes(buffer)
        if t.lazy_cached[0] != buffer.version:
            value = buffer.value
            for func, *rest in t.lazy_path:
                value = self.emit(func, (value, *rest))
            t.lazy_cached = (buffer.version, value)
        return t.lazy_cached[1]

    def owned(self, buffer: Buffer) -> Any:
        """The value of all of a buffer's memory now."""
        self.take_array_writes(buffer)
        return buffer.value.clone() if buffer.is_memory() else buffer.value

    def take_array_writes(self, buffer: Buffer) -> None:
        """Takes over what was written to the parts that numpy() gave out."""
        for part in buffer.parts:
            if part.changed():
                part.seen[...] = part.array
                self.put_back(part.lazy, as_tensor(part.array.copy()))

    def array(self, t: Lazy) -> np.ndarray:
        """The numbers of a tensor as an array that shares its memory, in both directions."""
        buffer = t.lazy_buffer
        if isinstance(value := buffer.value, Node) and not self.values.is_statistic(value):
            array = self.real(t).numpy().copy()
            buffer.parts.append(Part(t, array, array.copy()))
            return array
        if not buffer.is_memory():
            buffer.become_memory(self.values.of(value) if isinstance(value, Node) else value)
        buffer.arrays.append(array := in_memory(t).numpy())
        return array

    def write(self, t: Lazy, new: Any) -> None:
        """Stores a value in the memory of a tensor, which its arrays see too."""
        buffer = t.lazy_buffer
        self.take_array_writes(buffer)
        if any(part.is_held() for part in buffer.parts):
            raise Unsupported(
                "a write to a tensor of which numpy() gave out a part: clone() it first"
            )
        buffer.parts.clear()
        if not buffer.is_memory():
            return self.put_back(t, new)
        with _disable_current_modes():
            in_memory(t).copy_(self.values.of(new) if isinstance(new, Node) else new)
        buffer.version += 1

    def put_back(self, t: Lazy, new: Any) -> None:
        """Walks a value back along the path into the buffer."""
        sources = [t.lazy_buffer.value]
        for func, *rest in t.lazy_path:
            sources.append(self.emit(func, (sources[-1], *rest)))
        for source, (func, *rest) in zip(
            reversed(sources[:-1]), reversed(t.lazy_path), strict=True
        ):
            if func in SCATTER:
                new = self.emit(SCATTER[func], (source, new, *rest))
            elif func is PERMUTE:
                order = rest[0]
                new = self.emit(PERMUTE, (new, [order.index(d) for d in range(len(order))]))
            else:
                check_repeats_nothing(source, new)
                new = self.emit(RESHAPE, (new, list(meta_of(source).shape)))
        t.lazy_buffer.value, t.lazy_buffer.version = new, t.lazy_buffer.version + 1

    def view(self, func: Any, args: Any, kwargs: Any, meta: Tensor) -> Lazy:
        base, *rest = args
        # A real tensor enters the program by lift_fresh.
        if not isinstance(base, Lazy):
            return self.wrap(base, meta)
        step = view_step(func, base.lazy_meta, meta, rest, kwargs)
        if meta.dtype != base.dtype or not (step or base.lazy_buffer.flat):
            raise Unsupported(f"{func}: a view by bits or by strides of a strided tensor")
        inference = base.lazy_inference and func is not torch.ops.aten.detach.default
        if not step:
            step = (STRIDED, list(meta.shape), list(meta.stride()), meta.storage_offset())
            return Lazy(base.lazy_buffer, (step,), meta, inference)
        same = step[0] is RESHAPE and meta.shape == base.shape
        path = base.lazy_path if same else (*base.lazy_path, step)
        return Lazy(base.lazy_buffer, path, meta, inference)

    def mutate(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Computes the functional form, then writes where the in-place or out= form would."""
        outs = [a.name for a in func._schema.arguments if a.is_out]
        targets = [kwargs[name] for name in outs] or [args[0]]
        pure = functional(func)
        if pure is None or not all(isinstance(t, Lazy) for t in targets):
            raise Unsupported(f"{func}: an in-place form without a functional one")
        for target in targets:
            check_write(func, target, (args, kwargs))
        with self:
            new = pure(*args, **{k: v for k, v in kwargs.items() if k not in outs})
        results = new if len(outs) > 1 else [new]
        if outs and any(t.shape != r.shape for t, r in zip(targets, results, strict=True)):
            raise Unsupported(f"{func}: out= gets another shape: make it of the result's shape")
        stored = [self.store(t, r) for t, r in zip(targets, results, strict=True)]
        # Eager writes, and only then raises.
        for target in targets:
            check_mode(target, self.inference)
        return stored if len(outs) > 1 else stored[0]

    def reshape_in_place(self, func: Any, args: Any, kwargs: Any) -> Lazy:
        """Gives the same tensor object another shape, as unsqueeze_ and t_ do."""
        target, pure = args[0], functional(func)
        if pure is None:
            raise Unsupported(f"{func}")
        with self:
            new = pure(*args, **kwargs)
        with no_dispatch():
            func(*args, **kwargs)
        target.lazy_path, target.lazy_meta = new.lazy_path, new.lazy_meta
        target.lazy_cached = (-1, None)
        check_mode(target, self.inference)
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
        check_masks(*args[:2])
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
        check_write(WRITE_AT, x, (indices, values))
        check_put(x, indices, values)
        value = self.read(values)
        if len(indices) == 1 and by_mask(indices) and not accumulate:
            with self:
                chosen = self.chosen_by_mask(x, indices[0], values, value)
            # Stored outside the mode, in which shapes would become lazy tensors.
            if chosen is not None:
                return self.store(x, chosen)
            self.check_fits(x, indices, values)
        put = self.emit(PUT, (*mapped(self.read, [x, indices]), value, accumulate), {}, x.lazy_meta)
        return self.store(x, self.wrap(put, x.lazy_meta))

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
