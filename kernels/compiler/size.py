"""How large a plan may become: decided before its stages are made."""

from __future__ import annotations

MAX_DEPTH = 64  # sweeps that rest on each other
# Of all stages together. A value that many sweeps read is in each of them, and in each pass of a sweep.
MAX_STAGE_NODES = 200_000
MOST_REDUCTIONS = 16  # in one pass of a backend, so that their lanes stay in L1


class TooLarge(Exception):
    """A plan would have more stages, or more nodes in them, than are allowed."""
