"""Opens the kernel backend that a command asks for."""

from __future__ import annotations

from ...kernels.backends import get_backend
from ...kernels.errors import BackendError
from ...kernels.execution.backend import Backend
from ..errors import UsageError


def open_backend(name: str) -> Backend:
    """Return the kernel backend of this name. UsageError where it does not exist, or not here."""
    try:
        return get_backend(name)
    except BackendError as error:
        raise UsageError(f"--backend {name}: {error}") from None


def driver_backend(chosen: str) -> str:
    """Return the name of the backend that value questions and surveys run on; it never uses a device.

    In a screening the device is the worker's alone. In a merge an answer's last bit may decide a
    plan, and a plan is to be the same everywhere.
    """
    return "cpu" if chosen in ("auto", "triton") else chosen
