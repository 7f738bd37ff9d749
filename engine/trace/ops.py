"""Facts about ATen overloads: views, fills, functional forms, and shapes from meta tensors."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

# Several ATen ops mean the same. Each kind of view, cast and fill is recorded as one of these.
RESHAPE, PERMUTE, CAST = aten.reshape.default, aten.permute.default, aten._to_copy.default
FULL, EXPAND, PUT = aten.full.default, aten.expand.default, aten.index_put.default
STRIDED, INDEX = aten.as_strided.default, aten.index.Tensor
# View -> the op that writes back through it.
SCATTER = {
    aten.slice.Tensor: aten.slice_scatter.default,
    aten.select.int: aten.select_scatter.default,
    aten.diagonal.default: aten.diagonal_scatter.default,
    STRIDED: aten.as_strided_scatter.default,
}
# Other names of an op. The numbers of the first one have no memory, which ends a process that reads them.
SAME: dict[Any, Any] = {
    aten._efficientzerotensor.default: aten.zeros.default,
    aten._is_all_true.default: aten.all.default,
    aten._is_any_true.default: aten.any.default,
    aten.__lshift__.Scalar: aten.bitwise_left_shift.Tensor_Scalar,
    aten.__lshift__.Tensor: aten.bitwise_left_shift.Tensor,
    aten.__ilshift__.Scalar: aten.bitwise_left_shift_.Tensor_Scalar,
    aten.__ilshift__.Tensor: aten.bitwise_left_shift_.Tensor,
    aten.__rshift__.Scalar: aten.bitwise_right_shift.Tensor_Scalar,
    aten.__rshift__.Tensor: aten.bitwise_right_shift.Tensor,
    aten.__irshift__.Scalar: aten.bitwise_right_shift_.Tensor_Scalar,
    aten.__irshift__.Tensor: aten.bitwise_right_shift_.Tensor,
}
ZERO, ONE = "zero", "one"
# Fill op -> its number, or the position of the argument that is the number.
FILLS: dict[Any, Any] = {
    **dict.fromkeys([aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default], ZERO),
    **dict.fromkeys([aten.ones.default, aten.ones_like.default, aten.new_ones.default], ONE),
    **dict.fromkeys([aten.empty.memory_format, aten.empty_like.default, aten.zero.default], ZERO),
    **dict.fromkeys([aten.new_empty.default, aten.empty_strided.default], ZERO),
    **dict.fromkeys([aten.full.default, aten.full_like.default, aten.fill.Scalar], 1),
    aten.new_full.default: 2,
    aten.scalar_tensor.default: 0,
}
POSITIONS = frozenset({aten.arange, aten.linspace})
# Ops that no kernel runs unless the numbers in some arguments are known: all arguments from this
# position on. Where they are small they are asked for.
ASKED: dict[Any, int] = {
    **dict.fromkeys([aten.index, aten.index_select, aten.take, aten.searchsorted], 1),
    **dict.fromkeys([aten._linalg_eigh, aten._linalg_svd, aten.linalg_qr, aten.linalg_eig], 0),
    **dict.fromkeys([aten.linalg_inv_ex, aten._linalg_solve_ex, aten.linalg_cholesky_ex], 0),
    **dict.fromkeys([aten.linalg_lstsq, aten.linalg_pinv, aten._linalg_det], 0),
    **dict.fromkeys(
        [aten._linalg_slogdet, aten.linalg_solve_triangular, aten.linalg_matrix_exp], 0
    ),
    **dict.fromkeys([aten.linalg_lu_factor_ex, aten.linalg_ldl_factor_ex, aten.cholesky_solve], 0),
}
LAYOUT = frozenset(
    {
        *("device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"),
        "implicit",
    }
)


def fill_number(func: Any, args: Any) -> Any:
    """The number that a fill op fills with."""
    where = FILLS[func]
    return {ZERO: 0.0, ONE: 1.0}[where] if isinstance(where, str) else args[where]


def view_step(func: Any, source: Tensor, out: Tensor, rest: Any, kwargs: Any) -> tuple[Any, ...]:
    """A view as (op, arguments...) on the source, or () if only its strides describe it."""
    dims = list(range(source.dim()))
    if func is PERMUTE:
        return (PERMUTE, [d % source.dim() for d in rest[0]])
    if func in (aten.transpose.int, aten.t.default):
        i, j = rest if rest else (0, -1)
        if len(dims) > 1:
            dims[i], dims[j] = dims[j], dims[i]
        return (PERMUTE, dims)
    if func in SCATTER and func is not STRIDED:
        return (func, *rest, *kwargs.values())
    if func is EXPAND:
        return (EXPAND, list(out.shape))
    geometric = func.overloadpacket in (aten.as_strided, aten.unfold)
    return () if geometric or out.numel() != source.numel() else (RESHAPE, list(out.shape))


@cache
def functional(func: Any) -> Any:
    """The form of an op that writes nothing, or None: add_.Tensor and add.out -> add.Tensor.

    The arguments must agree in names and types: names alone confuse mul.Scalar and mul.Tensor.
    """
    name = func._schema.name.split("::")[1]
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments if not a.is_out]
    packet = getattr(aten, name.rstrip("_"), None) if name.endswith("_") else func.overloadpacket
    forms = [getattr(packet, o) for o in packet.overloads()] if packet else []
    forms += [aten.normal_functional.default] if name == "normal_" else []
    for form in forms:
        same = [(a.name, str(a.type)) for a in form._schema.arguments] == wanted
        if same and not form._schema.is_mutable:
            return form
    return None


def run(op: Any, args: Any, kwargs: Any) -> Any:
    """Runs an overload on real tensors. Strides in its arguments are for a contiguous tensor."""
    if op in (STRIDED, aten.as_strided_scatter.default):
        args = [args[0].contiguous(), *args[1:]]
    return op(*args, **kwargs)


def argument_names(func: Any) -> frozenset[str]:
    return frozenset(a.name for a in func._schema.arguments)


def by_mask(indices: Any) -> bool:
    """Tells whether an index contains truth values."""
    masks = (torch.bool, torch.uint8)
    return any(isinstance(i, Tensor) and i.dtype in masks for i in indices)


_SHAPE_FUNCTIONS: dict[Any, Any] = {}
_LIBRARIES: list[Any] = []  # kept, because a registration ends with its library


def use_native_shapes() -> None:
    """Gives ops torch's C++ shape functions back, where there are any. Call it once per process.

    At import torch replaces them by Python ones, which take 10 to 400 times as long. A process that
    compiles with torch needs the Python ones, for sizes that are symbols, and must not call this.
    The names used here are private to torch: the lock file pins its version, and a test runs them.
    """
    import torch._meta_registrations as python
    from torch._decomp import global_decomposition_table as tables

    has = torch._C._dispatch_has_kernel_for_dispatch_key
    python._meta_lib_dont_use_me_use_register_meta._destroy()
    library = torch.library.Library("aten", "IMPL", "Meta")
    shapes = {**tables["pre_autograd"], **tables["post_autograd"], **tables["meta"]}
    keys = ("Meta", "CompositeImplicitAutograd", "CompositeExplicitAutograd")
    for op, function in shapes.items():
        if not isinstance(op, torch._ops.OpOverload) or op.namespace != "aten":
            continue
        _SHAPE_FUNCTIONS[op] = function
        if not op.is_view and not any(has(op.name(), key) for key in keys):
            library.impl(op, function)
    _LIBRARIES.append(library)


def meta_run(func: Any, args: Any, kwargs: Any) -> Any:
    """Runs an overload on meta tensors, with eager's own checks, errors, promotion and strides."""
    # Of no axes nansum makes the sum of all, as sum does. Its shape function keeps them all.
    if func is aten.nansum.default:
        func, args = aten.sum.dim_IntList, (*args, None)[: max(2, len(args))]
    if func is aten.native_batch_norm.default and not args[5]:
        # It makes no statistics then, which its shape function makes.
        return [args[0].new_empty(shape) for shape in (args[0].shape, 0, 0)]
    try:
        return func(*args, **kwargs)
    except NotImplementedError:  # It is a composite, and a part has no shape function.
        if func not in _SHAPE_FUNCTIONS:
            raise
        return _SHAPE_FUNCTIONS[func](*args, **kwargs)
