"""How much of the driver's own time one program may take: to verify, to answer and to plan.

The time of its children does not count: they have clocks of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

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
        self.allowed_s += TENSOR_S + inputs_bytes / BYTES_A_SECOND

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done. Raises OutOfTime, at the latest at the end, where it takes too long."""
        cpu_s, wall_s = self.allowed_s - self.cpu_s, WALL_FACTOR * self.allowed_s - self.wall_s
        began_cpu, began = time.thread_time(), time.monotonic()
        try:
            with limited(self.words, cpu_s, wall_s):
                yield
                check()
        finally:
            self.cpu_s += time.thread_time() - began_cpu
            self.wall_s += time.monotonic() - began

    @property
    def words(self) -> str:
        """What a program is told that takes too long."""
        tensors = f"{self.num_tensors} tensor{'s' * (self.num_tensors > 1)}"
        return (
            f"verifying, answering and planning took more than {self.allowed_s:.0f} s for {tensors}: "
            "use fewer operations and questions"
        )
