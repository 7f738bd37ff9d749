"""Programs that are traced side by side get what each gets alone."""

from __future__ import annotations

import pytest
import torch
from selfdev_engine.engine.errors import Rejection
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.conversation import TraceRequest
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer

HEAD = "def merge_models(model_dict, device):\n    a, b = model_dict.values()\n    import torch\n"
SOURCES = (
    "    return a + 2 * b\n",
    "    return a * a.norm().item()\n",
    "    return a + 1 * 0 // 0\n",
    "    return a * (b.mean().item() + a.sum().item())\n",
    "    return torch.stack([a, b])\n",
    "    return nobody\n",
    "    return torch.maximum(a, b)\n",
)
SHAPES = ((4, 6), (6, 4), (3, 5))


@pytest.fixture(scope="module")
def tracer():
    with Tracer(TraceSettings(timeout_s=5.0, slots=3)) as one:
        yield one


def answer(question):
    """Numbers that tell questions and tensors apart."""
    return [
        torch.tensor(float(sum(question.shape)) + output, dtype=question.nodes[output].dtype)
        for output in question.outputs
    ]


def requests(source):
    program = extract(HEAD + source)
    return [TraceRequest(program, ("a", "b"), s, 0, f"t{s}", answer) for s in SHAPES]


def work(source, times=1):
    found = []
    for _ in range(times):
        found += yield requests(source)
    return found


def told(traces):
    return [t if isinstance(t, Rejection) else (t.graph.fingerprint, t.num_asks) for t in traces]


def test_each_gets_what_it_gets_alone(tracer):
    alone = [told(tracer.trace_in_turn(requests(source))) for source in SOURCES]
    assert [len(traces) for traces in alone] == [3, 3, 1, 3, 1, 1, 3]
    together = tracer.trace_together([work(source) for source in SOURCES])
    assert [told(traces) for traces in together] == alone


def test_a_work_goes_on_with_what_it_was_told(tracer):
    once, twice = tracer.trace_together([work(SOURCES[1]), work(SOURCES[1], times=2)])
    assert told(twice) == 2 * told(once)


def test_nothing_wanted_is_nothing_found(tracer):
    def idle():
        return (yield []), (yield [])

    assert tracer.trace_together([idle()]) == [([], [])]
    assert tracer.trace_together([]) == []


def test_a_bug_in_one_closes_all_and_leaves_the_tracer_usable(tracer):
    closed = []

    def faulty():
        yield requests(SOURCES[0])
        raise ZeroDivisionError

    def careful():
        try:
            yield requests("    while True: pass\n")
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        tracer.trace_together([careful(), faulty()])
    assert closed
    (found,) = tracer.trace_together([work(SOURCES[0])])
    assert len(found) == 3
