"""Opens a backend by its name: the only module that knows all of them."""

from __future__ import annotations

import torch

from .errors import BackendError
from .execution.backend import Backend
from .execution.reference import ReferenceBackend

NAMES = ("auto", "cpu", "triton", "reference")


def get_backend(name: str = "auto") -> Backend:
    """The backend of that name; "auto" picks by device. BackendError names what is missing."""
    if name not in NAMES:
        raise BackendError(f"no backend {name}: choose one of {', '.join(NAMES)}")
    if name == "reference":
        return ReferenceBackend()
    if name == "triton" or (name == "auto" and torch.cuda.is_available()):
        from .triton.backend import TritonBackend

        return TritonBackend()
    from .cpu.backend import CpuBackend

    return CpuBackend()
