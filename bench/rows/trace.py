"""`trace`: programs per second through zygote, fork, all sandbox layers, lazy run and verification.

The baseline is an almost empty program through the same path, so the ratio says what tracing costs
beside isolation. The gate is DESIGN's: at least 40 programs/s, 99th percentile below 200 ms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...engine.errors import Rejection
from ...engine.program import Program, extract
from ...engine.trace.tracer import TraceJob, Tracer, TraceSettings
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


def jobs(sources: list[Program]) -> Iterator[TraceJob]:
    for source in sources:
        yield TraceJob(source, ("a", "b", "c"), SHAPE, seed=0, tensor_name="t", answer=None)


def rate(tracer: Tracer, sources: list[Program]) -> tuple[float, float]:
    """Programs per second, and the 99th percentile in ms of one program's way through."""
    began, seconds = time.perf_counter(), []
    for job, traced in tracer.trace_many(jobs(sources)):
        assert not isinstance(traced, Rejection), f"{job.program.code}: {traced}"
        seconds.append(traced.seconds)
    total = time.perf_counter() - began
    return len(sources) / total, 1e3 * sorted(seconds)[int(0.99 * len(seconds))]


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """Programs/s with all layers, two in flight."""
    sources = [extract(HEAD + BODIES[i % len(BODIES)]) for i in range(NUM_PROGRAMS)]
    with Tracer(TraceSettings()) as tracer:
        rate(tracer, sources[:8])
        update(1, 3)
        empty, _ = rate(tracer, [extract(EMPTY)] * NUM_PROGRAMS)
        update(2, 3)
        ours, p99_ms = rate(tracer, sources)
        update(3, 3)
    return Row(
        "trace",
        ours,
        "programs/s",
        "empty programs/s",
        empty,
        ours / empty,
        "fork and isolation of an empty program",
        ours >= LEAST_PER_S and p99_ms < LONGEST_P99_MS,
        {"p99_ms": p99_ms},
    )
