"""Opens a backend by its name: the only module that knows all of them.

Torch and the backends are imported when one is opened, so that a wrong name is said at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import BackendError

if TYPE_CHECKING:
    from .execution.backend import Backend

NAMES = ("auto", "cpu", "triton", "reference")


def check_name(name: str) -> None:
    """BackendError where no backend has this name."""
    if name not in NAMES:
        raise BackendError(f"no backend {name}: choose one of {', '.join(NAMES)}")


def get_backend(name: str = "auto") -> Backend:
    """The backend of that name; "auto" picks by device. BackendError names what is missing."""
    check_name(name)
    if name == "reference":
        from .execution.reference import ReferenceBackend

        return ReferenceBackend()
    import torch

    if name == "triton" or (name == "auto" and torch.cuda.is_available()):
        from .triton.backend import TritonBackend

        return TritonBackend()
    from .cpu.backend import CpuBackend

    return CpuBackend()
