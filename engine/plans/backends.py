"""Opens the kernel backend that a command asks for."""

from __future__ import annotations

from ...kernels.backends import get_backend
from ...kernels.errors import BackendError
from ...kernels.execution.backend import Backend
from ..errors import UsageError


def open_backend(name: str) -> Backend:
    """UsageError where the backend does not exist, or not here."""
    try:
        return get_backend(name)
    except BackendError as error:
        raise UsageError(f"--backend {name}: {error}") from None


def driver_backend(chosen: str) -> str:
    """What questions and surveys run on: never a device, which is a worker's alone in a screening.

    In a merge, too: an answer's last bit may decide a plan, which is to be the same everywhere.
    """
    return "cpu" if chosen in ("auto", "triton") else chosen
