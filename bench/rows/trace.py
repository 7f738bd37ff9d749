"""`trace`: programs traced per second in the full sandbox, from fork to verified graph.

The baseline is an almost empty program that takes the same path, so the ratio says what tracing
costs beside isolation. The gate asks for at least 40 programs/s and a 99th percentile
below 200 ms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ...engine.errors import Rejection
from ...engine.program import Program, extract
from ...engine.trace.conversation import TraceRequest
from ...engine.trace.settings import TraceSettings
from ...engine.trace.tracer import Tracer
from ..registry import Row

SHAPE = (4096, 14336)
NUM_PROGRAMS = 200
LEAST_PER_S, LONGEST_P99_MS = 40.0, 200.0
HEAD = "import torch\n\ndef merge_models(model_dict, device):\n    ws = [m.detach().to(device) for m in model_dict.values()]\n"
BODIES = (
    "    return 0.4 * ws[0] + 0.3 * ws[1] + 0.2 * ws[2]\n",
    "    m = ws[0].clone()\n    for w in ws[1:]:\n        m = 0.5 * m + 0.5 * torch.maximum(m, w)\n    return m\n",
    "    s = torch.stack(ws)\n    sign = torch.sign(s.sum(0))\n    keep = torch.sign(s) == sign\n"
    "    return (s * keep).sum(0) / keep.sum(0).clamp(min=1)\n",
    "    n = torch.stack([w.norm() for w in ws])\n    p = torch.softmax(n, 0)\n    return sum(a * w for a, w in zip(p, ws))\n",
)
EMPTY = "def merge_models(model_dict, device):\n    return next(iter(model_dict.values()))\n"


def jobs(sources: list[Program]) -> Iterator[TraceRequest]:
    for source in sources:
        yield TraceRequest(source, ("a", "b", "c"), SHAPE, seed=0, tensor_name="t", answer=None)


@dataclass(frozen=True)
class Pace:
    """Speed of a stream of programs. CPU time shows the cost even on a busy machine."""

    per_s: float
    p99_ms: float  # 99th percentile over the programs
    child_cpu_ms: float
    engine_cpu_ms: float


def pace(tracer: Tracer, sources: list[Program]) -> Pace:
    began, began_cpu = time.perf_counter(), time.process_time()
    results = []
    for job, traced in tracer.trace_many(jobs(sources)):
        assert not isinstance(traced, Rejection), f"{job.program.code}: {traced}"
        results.append(traced)
    total, n = time.perf_counter() - began, len(sources)
    return Pace(
        n / total,
        1e3 * sorted(traced.seconds for traced in results)[int(0.99 * n)],
        1e3 * sum(traced.cpu_s for traced in results) / n,
        1e3 * (time.process_time() - began_cpu) / n,
    )


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """Programs/s with all sandbox layers, two programs in flight."""
    sources = [extract(HEAD + BODIES[i % len(BODIES)]) for i in range(NUM_PROGRAMS)]
    with Tracer(TraceSettings()) as tracer:
        pace(tracer, sources[:8])
        update(1, 3)
        empty = pace(tracer, [extract(EMPTY)] * NUM_PROGRAMS)
        update(2, 3)
        ours = pace(tracer, sources)
        update(3, 3)
    return Row(
        "trace",
        ours.per_s,
        "programs/s",
        "empty programs/s",
        empty.per_s,
        ours.per_s / empty.per_s,
        "forking and isolating an empty program",
        ours.per_s >= LEAST_PER_S and ours.p99_ms < LONGEST_P99_MS,
        {
            **{name: value for name, value in asdict(ours).items() if name != "per_s"},
            "load": os.getloadavg()[0],
        },
    )
