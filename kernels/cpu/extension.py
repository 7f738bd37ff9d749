"""Loads the compiled C++ module; it needs no torch."""

from __future__ import annotations

from typing import Any

from ..errors import BackendError


def load_extension() -> Any:
    """Return the compiled module. Raises BackendError, which says how to get it, if it is missing."""
    try:
        from .. import _cpu  # pyright: ignore
    except ImportError as error:
        raise BackendError(
            f"the C++ extension is not there ({error}): pip install . with a C++17 compiler on PATH"
        ) from None
    return _cpu
