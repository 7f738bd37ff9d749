"""How much of the driver's own time one program may take: to verify, answer, plan, survey and compare.

The time of its children does not count: they have clocks of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ...kernels.compiler.clock import check, limited

PROGRAM_S = 30.0
TENSOR_S = 0.25  # more for each tensor that is traced: ordinary ones take some ms
BYTES_A_SECOND = 256 << 20  # more for large tensors, whose values are swept when they are asked for
# CPU time decides where the machine is idle; the wall clock ends what waits, or shares a busy machine.
WALL_FACTOR = 1.5


class ProgramClock:
    """The time that one program has taken so far, for all of its tensors."""

    def __init__(self) -> None:
        self.allowed_s = PROGRAM_S
        self.cpu_s = self.wall_s = 0.0
        self.num_tensors = 0

    def begin_tensor(self, inputs_bytes: int) -> None:
        """Allow the time of one more tensor, whose task vectors take so many bytes in float32."""
        self.num_tensors += 1
        self.allow(inputs_bytes)

    def allow(self, inputs_bytes: int) -> None:
        """Allow as much time again for a tensor that was traced, or is alike one: another step begins."""
        self.allowed_s += TENSOR_S + inputs_bytes / BYTES_A_SECOND

    def running(self) -> AbstractContextManager[None]:
        """Count what is done. Raises OutOfTime, at the latest at the end, where it takes too long."""
        return running_together([self])

    @property
    def words(self) -> str:
        """What a program is told that takes too long."""
        tensors = f"{self.num_tensors} tensor{'s' * (self.num_tensors > 1)}"
        return (
            f"verifying, answering, planning and surveying took more than {self.allowed_s:.0f} s for {tensors}: "
            "use fewer operations and questions"
        )


@contextmanager
def running_together(clocks: Sequence[ProgramClock]) -> Iterator[None]:
    """Count what is done for several programs at once: the first clock ends it, and all bear a share."""
    left = [(c.allowed_s - c.cpu_s, WALL_FACTOR * c.allowed_s - c.wall_s, c.words) for c in clocks]
    began_cpu, began = time.thread_time(), time.monotonic()
    try:
        with ExitStack() as stack:
            for cpu_s, wall_s, words in left:
                stack.enter_context(limited(words, cpu_s, wall_s))
            yield
            check()
    finally:
        for clock in clocks:
            clock.cpu_s += (time.thread_time() - began_cpu) / len(clocks)
            clock.wall_s += (time.monotonic() - began) / len(clocks)
