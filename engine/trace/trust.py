"""Rules for overloads that trust their arguments.

The Python API never passes what is refused here, but a graph can. Torch would read or write outside
its tensors, divide the least integer by -1 (which kills the process), or choose a wrong size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

MAX_SMALL_INT = 1 << 20  # torch multiplies kernels, strides and sizes without a check
SCALES = (1e-3, 1e3)  # other scales of an upsampling round to indices outside the tensor

# Takes the arguments by name, tensors as meta tensors; returns what is wrong, or None.
Rule = Callable[[Mapping[str, Any]], str | None]


def is_vector(x: Any, length: int, like: Tensor) -> bool:
    return isinstance(x, Tensor) and tuple(x.shape) == (length,) and x.dtype is like.dtype


def batch_norm(given: Mapping[str, Any]) -> str | None:
    """Its kernels read one number per channel. Running statistics are written if it trains."""
    x, stats = given["input"], [given.get("running_mean"), given.get("running_var")]
    if x.dim() < 2:
        return "an input without channels"
    vectors = [v for v in (given.get("weight"), given.get("bias"), *stats) if v is not None]
    if not all(is_vector(v, x.shape[1], x) for v in vectors):
        return "weights or statistics of another length or type than the channels"
    if given["training"] and stats != [None, None]:
        return "running statistics, which it would write"
    return "no running statistics" if not given["training"] and None in stats else None


def powers(given: Mapping[str, Any]) -> str | None:
    """Refuse powers of truth values to one: torch's shape function promises integers."""
    truths = [x for x in (given["self"], given["exponent"]) if is_truth(x)]
    return "two truth values" if len(truths) == 2 else None


def is_truth(x: Any) -> bool:
    return x.dtype is torch.bool if isinstance(x, Tensor) else isinstance(x, bool)


def some_axes(given: Mapping[str, Any]) -> str | None:
    """Refuse no axes, for which torch's shape function names a shape and torch makes none."""
    none = given["dim"] in ([], ()) and given["self"].dim() and not given.get("keepdim")
    return "no axes" if none else None


def layer_norm(given: Mapping[str, Any]) -> str | None:
    """Refuse an input without elements, for which torch's shape function names other sizes."""
    return None if given["input"].numel() else "an input without elements"


def layer_norm_backward(given: Mapping[str, Any]) -> str | None:
    x, size = given["input"], list(given["normalized_shape"])
    rows = prod(x.shape[: x.dim() - len(size)])
    if list(x.shape[x.dim() - len(size) :]) != size or given["grad_out"].shape != x.shape:
        return "shapes that differ"
    for statistic in (given["mean"], given["rstd"]):
        if not isinstance(statistic, Tensor) or statistic.numel() != rows:
            return "statistics of another number than the rows"
    affine = [w for w in (given.get("weight"), given.get("bias")) if w is not None]
    tensors = [given["grad_out"], given["mean"], given["rstd"], *affine]
    if any(t.dtype is not x.dtype for t in tensors):
        return "tensors of several types"
    return "weights of another shape" if any(list(w.shape) != size for w in affine) else None


def group_norm(given: Mapping[str, Any]) -> str | None:
    """Refuse sizes that are not the input's. Even its shape function divides by the groups."""
    x, channels, groups = given["input"], given["C"], given["group"]
    if x.dim() < 2 or tuple(x.shape[:2]) != (given["N"], channels):
        return "sizes that are not the input's"
    if given["HxW"] != prod(x.shape[2:]) or groups < 1 or channels < 1 or channels % groups:
        return f"{groups} groups of {channels} channels"
    affine = [w for w in (given.get("weight"), given.get("bias")) if w is not None]
    fits = all(is_vector(w, channels, x) for w in affine)
    return None if fits else "weights of another length or type than the channels"


def cross_entropy(given: Mapping[str, Any]) -> str | None:
    """Refuse tensors of several shapes: Python makes the weights fit."""
    shapes = {x.shape for x in given.values() if isinstance(x, Tensor)}
    return "tensors of several shapes" if len(shapes) > 1 else one_type(given)


def loss_backward(given: Mapping[str, Any]) -> str | None:
    """Refuse what Python's losses never differentiate: they make both tensors fit first."""
    grad, x, wanted = given["grad_output"].shape, given["self"].shape, given["target"].shape
    return None if x == wanted and grad in (x, ()) else "tensors of several shapes"


def softmax_backward(given: Mapping[str, Any]) -> str | None:
    """Refuse a result of another shape or type than the gradient: it is read as if it had both."""
    grad, out = given["grad_output"], given["output"]
    same = grad.shape == out.shape and grad.dtype is out.dtype is given["input_dtype"]
    return None if same else "a result or a type that differs from the gradient's"


def one_type(given: Mapping[str, Any]) -> str | None:
    """Refuse tensors of several types, for which torch's shape function names the wrong one."""
    types = {x.dtype for x in given.values() if isinstance(x, Tensor)}
    return "tensors of several types" if len(types) > 1 else None


def dropout(given: Mapping[str, Any]) -> str | None:
    """Refuse what Python's dropout never passes, because replay draws it in a form of its own."""
    if not given["input"].is_floating_point() or not 0 <= given["p"] <= 1:
        return "numbers that are no floats, or no probability"
    return "no word on training" if given.get("train") is None else None


def typed(given: Mapping[str, Any]) -> str | None:
    return "a type of None" if given.get("dtype", torch.int64) is None else None


def chances(given: Mapping[str, Any]) -> str | None:
    """Refuse probabilities that do not fit: torch would refuse them, and kernels draw more numbers."""
    x, p = given["self"], given.get("p")
    if not isinstance(p, Tensor):
        return None
    fits = all(n in (1, m) for n, m in zip(reversed(p.shape), reversed(x.shape), strict=False))
    return None if fits and p.dim() <= x.dim() else "probabilities of another shape"


def fourier(given: Mapping[str, Any]) -> str | None:
    """Python makes the axes unique and cuts the input to the length; the op itself does not."""
    x, dims = given["self"], list(given["dim"])
    if not dims or len(set(dims)) != len(dims) or not all(0 <= d < x.dim() for d in dims):
        return f"axes {dims}"
    if given["normalization"] not in (0, 1, 2):
        return "an unknown normalization"
    size = given.get("last_dim_size")
    if size is not None and (size < 1 or x.shape[dims[-1]] != size // 2 + 1):
        return f"a length of {size}"
    return None


def unpacked_lu(given: Mapping[str, Any]) -> str | None:
    """Refuse pivots, which are indices that nobody checks."""
    return "pivots, which it trusts" if given.get("unpack_pivots", True) else None


def upsampling(given: Mapping[str, Any]) -> str | None:
    scale = given.get("scales")
    return None if scale is None or SCALES[0] <= scale <= SCALES[1] else f"a scale of {scale}"


def strided(given: Mapping[str, Any]) -> str | None:
    """Refuse what reaches outside a contiguous tensor of this shape."""
    sizes, strides, offset = given["size"], given["stride"], given.get("storage_offset") or 0
    if len(sizes) != len(strides) or min((offset, *sizes, *strides)) < 0:
        return "sizes and strides that differ in number or are negative"
    reach = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    return None if 0 in sizes or reach < given["self"].numel() else "strides that reach outside"


def truncated_division(given: Mapping[str, Any]) -> str | None:
    """Refuse the least integer divided by -1: it does not fit, and the processor traps."""
    integers = [x for x in (given["self"], given["other"]) if is_integer(x)]
    if given.get("rounding_mode") != "trunc" or len(integers) < 2:
        return None
    divisor = given["other"]
    return "a divisor that may be -1" if isinstance(divisor, Tensor) or divisor == -1 else None


def is_integer(x: Any) -> bool:
    if isinstance(x, Tensor):
        return not x.dtype.is_floating_point and not x.dtype.is_complex
    return isinstance(x, int)


def small_integers(given: Mapping[str, Any]) -> str | None:
    """Torch multiplies these without looking for an overflow."""
    values = [y for x in given.values() for y in (x if isinstance(x, (list, tuple)) else [x])]
    large = [y for y in values if isinstance(y, int) and abs(y) > MAX_SMALL_INT]
    return f"an integer of {large[0]}" if large else None


RULES: dict[str, Rule] = {
    "native_batch_norm": batch_norm,
    "_native_batch_norm_legit": batch_norm,
    "native_group_norm": group_norm,
    "binary_cross_entropy": cross_entropy,
    "mse_loss_backward": loss_backward,
    "smooth_l1_loss_backward": loss_backward,
    "huber_loss_backward": loss_backward,
    "logsumexp": some_axes,
    "pow": powers,
    "native_layer_norm": layer_norm,
    "native_layer_norm_backward": layer_norm_backward,
    **dict.fromkeys(("_softmax_backward_data", "_log_softmax_backward_data"), softmax_backward),
    **dict.fromkeys(("threshold_backward", "huber_loss"), one_type),
    "native_dropout": dropout,
    "bernoulli": chances,
    "randperm": typed,
    **dict.fromkeys(("_fft_r2c", "_fft_c2r", "_fft_c2c"), fourier),
    "lu_unpack": unpacked_lu,
    **dict.fromkeys(("upsample_nearest1d", "upsample_linear1d"), upsampling),
    **dict.fromkeys(("as_strided", "as_strided_scatter"), strided),
    "div": truncated_division,
    **dict.fromkeys(("tril_indices", "triu_indices", "unfold", "im2col", "col2im"), small_integers),
    **dict.fromkeys(("avg_pool2d", "max_pool2d_with_indices", "convolution"), small_integers),
    **dict.fromkeys(("_adaptive_avg_pool2d", "channel_shuffle", "diag_embed"), small_integers),
}


def has_rule(overload: Any) -> bool:
    return overload._schema.name[6:] in RULES


def trust_fault(overload: Any, args: Any, kwargs: Mapping[str, Any]) -> str | None:
    """Say why an overload must not run on these arguments, or None. Tensors are meta tensors."""
    if not has_rule(overload):
        return None
    names = (argument.name for argument in overload._schema.arguments)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    why = RULES[overload._schema.name[6:]](given)
    return f"{overload} with {why}" if why else None
