"""vLLM's worker, extended: live weights on the CPU, and the model itself for the placement.

vLLM imports this module before it loads the model (worker_extension_cls). On the CPU it packs every
linear weight into an opaque kernel handle and leaves an empty parameter behind; then a write into
the weight changes nothing and every candidate would score as the base. So its own fallback is
chosen here: the plain linear on the live weight.
"""

from __future__ import annotations

from typing import Any


def keep_weights_live() -> None:
    """On the CPU only; CUDA keeps weights where they are."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    import torch.nn.functional as F
    import vllm.model_executor.layers.utils as utils

    def dispatch(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = F.linear  # called as cpu_linear(x, weight, bias)

    utils.dispatch_cpu_unquantized_gemm = dispatch


keep_weights_live()


class SwapExtension:
    """Mixed into the worker; vLLM refuses names that clash with its own."""

    def selfdev_model(self) -> Any:
        """The live model; only for an engine in this very process."""
        return self.get_model()  # type: ignore[attr-defined]
