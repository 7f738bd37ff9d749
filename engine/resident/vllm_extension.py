"""vLLM's worker, extended: weights stay live on the CPU, and the placement gets the model itself.

vLLM imports this module before it loads the model (worker_extension_cls). On the CPU it packs every
linear weight into an opaque kernel handle and leaves an empty parameter behind; then a write into
the weight changes nothing and every candidate would score as the base. So the parameter stays here,
and a packed copy of a large one is made again whenever the engine is told that it was written
(`LiveEngine.wrote`): oneDNN's products of packed weights take half the time of the plain ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any

# Packing a smaller weight costs a swap more than it saves.
LEAST_PACKED_ELEMENTS = 1 << 18
# All packed copies together take at most this.
MOST_PACKED_BYTES = 4 << 30
# Kernels of so many numbers of rows are kept: vLLM's own setting.
CACHED_SHAPES = 32


class LiveLinear:
    """Computes x @ weight.T + bias by a packed copy of the live weight."""

    def __init__(self) -> None:
        self._packed: Any = None

    def forget(self) -> None:
        """Drop the copy, as the weight was written; it is made anew when it is needed."""
        self._packed = None

    def __call__(self, x: Any, weight: Any, bias: Any = None) -> Any:
        from vllm import _custom_ops as ops

        if self._packed is None:
            self._packed = ops.create_onednn_mm(weight.t(), CACHED_SHAPES)
        return ops.onednn_mm(self._packed, x, bias)


@cache
def has_packed_product(dtype: Any) -> bool:
    """Tell by trying it whether oneDNN multiplies packed weights of this dtype on this processor.

    It has no such product of bfloat16 on processors without AVX-512.
    """
    import torch
    from vllm import _custom_ops as ops

    if not getattr(ops, "_supports_onednn", False):
        return False
    weight = torch.zeros(64, 64, dtype=dtype)
    try:
        ops.onednn_mm(ops.create_onednn_mm(weight.t(), CACHED_SHAPES), weight, None)
    except RuntimeError:
        return False
    return True


def keep_weights_live() -> None:
    """Make vLLM keep weights where they are on the CPU; on CUDA it does so by itself."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    import torch.nn.functional as F
    import vllm.model_executor.layers.utils as utils

    left_bytes = MOST_PACKED_BYTES

    def dispatch(layer: Any, remove_weight: bool) -> None:
        nonlocal left_bytes
        weight = layer.weight
        large = weight.dim() == 2 and weight.numel() >= LEAST_PACKED_ELEMENTS
        fits = large and not weight.is_meta and weight.nbytes <= left_bytes
        if fits and has_packed_product(weight.dtype):
            left_bytes -= weight.nbytes
            # vLLM calls it as cpu_linear(x, weight, bias).
            layer.cpu_linear = LiveLinear()
        else:
            layer.cpu_linear = F.linear

    utils.dispatch_cpu_unquantized_gemm = dispatch


keep_weights_live()


class SwapExtension:
    """A part of vLLM's worker; vLLM refuses names that clash with its own."""

    def selfdev_model(self) -> Any:
        """Return the live model; works only for an engine in this very process."""
        return self.get_model()  # type: ignore[attr-defined]
