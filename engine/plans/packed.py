"""A plan as bytes for a worker. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable


class PackedPlan(bytes):
    """What `Plan.to_bytes` writes, with the files that it names: updates that torch computed.

    A worker on another machine gets copies of them, and is told where they lie.
    """

    files: tuple[str, ...]

    def __new__(cls, data: bytes, files: Iterable[str] = ()) -> PackedPlan:
        made = super().__new__(cls, data)
        made.files = tuple(files)
        return made


def files_of(plan: bytes) -> tuple[str, ...]:
    """Return the files that a plan's bytes name."""
    return plan.files if isinstance(plan, PackedPlan) else ()
