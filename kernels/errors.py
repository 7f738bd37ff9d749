"""What a backend raises."""

from __future__ import annotations


class BackendError(RuntimeError):
    """A backend that does not exist, or not on this machine; one line with the fix."""
