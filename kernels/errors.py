"""The error that backends raise."""

from __future__ import annotations


class BackendError(RuntimeError):
    """A backend does not exist, or cannot run on this machine. The message is one line."""
