"""How much memory a plan's small values take at once: vectors over rows or columns, and numbers."""

from __future__ import annotations

from ..ir import Space
from ..reference import last_reads
from ..stages import Apply, Host, KernelPlan

NUMBER_BYTES = 8


def small_bytes(plan: KernelPlan, shape: tuple[int, int]) -> int:
    """Return the most bytes that slots and a host step take together, for a tensor [R, C]."""
    sizes = {Space.ROW: shape[0], Space.COL: shape[1], Space.SCALAR: 1, Space.FULL: 0}
    held = most = len(plan.params)
    for stage in plan.stages:
        if isinstance(stage, Apply):
            continue
        lengths = [sizes[node.space] for node in stage.graph.nodes]
        if isinstance(stage, Host):
            most = max(most, held + most_alive(stage, lengths))
        outputs = stage.graph.outputs
        held += sum(lengths[output] for output in outputs)
        most = max(most, held)
    return NUMBER_BYTES * most


def most_alive(stage: Host, lengths: list[int]) -> int:
    """Return how many numbers of a host step are needed at once, at most."""
    alive = most = 0
    for length, unread in zip(lengths, last_reads(stage.graph), strict=True):
        alive += length
        most = max(most, alive)
        alive -= sum(lengths[value] for value in unread)
    return most
