"""The sandbox: hostile replies, budgets, slots, layers, each with a real child or real bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from selfdev_engine.engine.errors import Rejection, UsageError
from selfdev_engine.engine.explain import SyntheticAnswers
from selfdev_engine.engine.plans.plan import Eager
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.sandbox import box, guard, layers, protocol
from selfdev_engine.engine.sandbox.job import Job
from selfdev_engine.engine.sandbox.protocol import (
    FRAME_BYTES,
    TOTAL_BYTES,
    BadFrame,
    Frames,
    decode,
    encode,
    printable,
    reply_rejection,
)
from selfdev_engine.engine.sandbox.zygote_process import ZygoteLost
from selfdev_engine.engine.trace.bounds import (
    MAX_ANSWER_ELEMENTS,
    MAX_CONSTANT_ELEMENTS,
    MAX_WORK,
)
from selfdev_engine.engine.trace.conversation import TraceRequest
from selfdev_engine.engine.trace.replay import replay
from selfdev_engine.engine.trace.settings import TraceSettings
from selfdev_engine.engine.trace.tracer import Tracer
from selfdev_engine.kernels.tensors import TensorSet

NAMES, SHAPE = ("x", "y"), (24, 40)
GOOD = "def merge_models(d, device):\n    x, y = d.values()\n    return 0.5 * x + y * x.norm()\n"
HEAD = "import torch\ndef merge_models(d, device):\n    x, y = d.values()\n"


@pytest.fixture(scope="module")
def tracer():
    with Tracer(TraceSettings(timeout_s=5.0, memory_bytes=256 << 20)) as tracer:
        yield tracer


def trace(tracer: Tracer, code: str, shape=SHAPE, questions: list | None = None) -> Any:
    """A verdict. `questions` collects how many numbers each answer had."""
    vectors = {name: torch.full(shape, 0.01 * (i + 1)) for i, name in enumerate(NAMES)}

    def answer(graph):
        values = replay(graph, vectors)
        if questions is not None:
            questions.append(sum(v.numel() for v in values))
        return values

    return tracer.trace(extract(code), NAMES, shape, seed=0, tensor_name="t", answer=answer)


def rejected(tracer: Tracer, body: str, **how: Any) -> Rejection:
    result = trace(tracer, HEAD + body, **how)
    assert isinstance(result, Rejection), result
    return result


# ---- frames


def test_frames_are_cut_wherever_the_bytes_are_split():
    stream = encode({"a": 1}) + encode({"b": "ü"}) + encode({"c": [None, True, 0.5]})
    for step in (1, 2, 3, 7, len(stream)):
        frames, bodies = Frames(), []
        for i in range(0, len(stream), step):
            bodies += frames.feed(stream[i : i + step])
        assert [decode(body) for body in bodies] == [{"a": 1}, {"b": "ü"}, {"c": [None, True, 0.5]}]


def test_frames_are_bounded():
    with pytest.raises(BadFrame, match="frame of"):
        Frames().feed((FRAME_BYTES + 1).to_bytes(4, "little"))
    frames, chunk = Frames(), (1 << 20).to_bytes(4, "little") + bytes(1 << 20)
    for _ in range(TOTAL_BYTES // len(chunk)):
        assert len(frames.feed(chunk)) == 1
    with pytest.raises(BadFrame, match="flood"):
        frames.feed(chunk)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"3", b'"x"', b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1'),
        *(b"\xff\xfe", b'{"\xc3": 1}', b"[" * 400_000, b'{"a":' * 100_000, b"9" * 5000),
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_only_an_object_in_json_is_a_message(body: bytes):
    with pytest.raises(BadFrame):
        decode(body)


@pytest.mark.parametrize(
    "reply",
    [
        {"status": "rejected", "kind": "fine", "line": 1},
        {"status": "rejected", "kind": ["timeout"], "line": 1},
        {"status": "rejected", "kind": "timeout", "line": "1"},
        {"status": "rejected", "kind": "timeout", "line": True},
        {"status": "rejected", "kind": "timeout", "line": -1},
        {"status": "rejected", "kind": "timeout", "line": 10**40},
        {"status": None},
        {},
    ],
)
def test_a_malformed_rejection_is_a_violation(reply: dict[str, Any]):
    rejection = reply_rejection(reply)
    assert rejection is not None and rejection.kind == "violation"


def test_a_childs_text_drives_no_terminal_and_no_database():
    detail = "\x1b[2J\x1b]0;x\x07 \ud800 \x00 \u202e \u200b" + "y" * 10**6
    rejection = reply_rejection({"status": "rejected", "kind": "runtime", "detail": detail})
    assert rejection is not None
    assert rejection.detail.isprintable() and len(rejection.detail) < 5000
    assert printable({"nested": [detail]}).isprintable()
    rejection.detail.encode()


# ---- replies of a real child

X = {"n": 0}  # the first node of a graph, as an argument

REPLIES = {
    "nothing": (b"", "runtime"),
    "null": (b"null", "violation"),
    "nan": (b'{"done": {"status": NaN}}', "violation"),
    "done without nodes": (b'{"done": {"status": "ok", "shape": [24, 40]}}', "violation"),
    "another shape": (b'{"done": {"status": "ok", "shape": [1], "nodes": []}}', "violation"),
    "an unknown kind": (b'{"done": {"status": "rejected", "kind": "win"}}', "violation"),
    "bad utf-8": (b'{"done": {"status": "\xff"}}', "violation"),
    "deep": (b"[" * 100_000, "violation"),
    "a question without outputs": (b'{"ask": {"shape": [24, 40], "nodes": []}}', "violation"),
    "a question of another kind": (b'{"ask": 3}', "violation"),
    "a huge line": (
        b'{"done": {"status": "rejected", "kind": "runtime", "line": ' + b"9" * 400 + b"}}",
        "violation",
    ),
}


@pytest.mark.parametrize(("body", "kind"), REPLIES.values(), ids=REPLIES.keys())
def test_a_forged_reply_is_a_rejection_and_the_next_is_right(
    tracer: Tracer, body: bytes, kind: str
):
    send = f"    data = {encode_body(body)!r}\n    while data:\n        data = data[os.write(3, data):]\n"
    result = trace(tracer, "import os\n" + HEAD + send + "    os._exit(0)\n")
    assert isinstance(result, Rejection) and result.kind == kind, result
    assert not isinstance(trace(tracer, GOOD), Rejection)


def encode_body(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body if body else b""


def test_a_child_that_does_not_read_holds_nobody(tracer: Tracer):
    """The child floods with questions for large answers and never reads one."""
    assert not isinstance(trace(tracer, QUICK), Rejection)  # Now the zygote is up.
    nodes = [
        ["input", ["x"], {}, None, None],
        ["aten.sum.dim_IntList", [X, [1]], {}, None, None],
    ]
    ask = encode({"ask": {"nodes": nodes, "outputs": [1], "shape": [4096, 2]}})
    more = encode({"ask": {"nodes": [], "outputs": [1], "shape": [4096, 2]}})
    body = f"    os.write(3, {ask!r})\n    while True:\n        os.write(3, {more!r})\n"
    hostile, good = (
        TraceRequest(extract(code), NAMES, (4096, 2), 0, "t", answer, tag=code)
        for code, answer in (
            ("import os\n" + HEAD + body, lambda graph: [torch.zeros(4096)] * len(graph.outputs)),
            (GOOD, lambda graph: [torch.ones(())]),
        )
    )
    began = time.monotonic()
    results = {job.tag: result for job, result in tracer.trace_many([hostile, good])}
    assert time.monotonic() - began < tracer.settings.timeout_s  # Nobody waited for a deadline.
    assert results[hostile.tag].kind in ("violation", "unsupported")
    assert not isinstance(results[good.tag], Rejection)


# ---- budgets


def test_questions_are_counted(tracer: Tracer):
    loop = "    t = 0.0\n    for i in range({}):\n        t += (x + i).sum().item()\n    return t * x\n"
    assert trace(tracer, HEAD + loop.format(256)).num_asks == 256
    rejection = rejected(tracer, loop.format(257))
    assert (rejection.kind, rejection.line) == ("unsupported", 6)
    assert "256 questions" in rejection.detail and "tolist" in rejection.detail


def test_an_answer_is_bounded_and_split_where_it_must_be(tracer: Tracer):
    shape, questions = (3000, 4), list[int]()
    body = "    return x * (x.sum(1) > y.sum(1)).any().item()\n"
    result = trace(tracer, HEAD + body, shape=shape, questions=questions)
    assert not isinstance(result, Rejection), result
    assert questions == [3000, 3000]
    rejection = rejected(tracer, "    return x * sum(x.sum(1).tolist())\n", shape=(4097, 4))
    assert (rejection.kind, rejection.line) == ("unsupported", 4)
    assert str(MAX_ANSWER_ELEMENTS) in rejection.detail


def test_a_forged_question_for_more_is_a_violation(tracer: Tracer):
    nodes = [["input", ["x"], {}, None, None], ["aten.sum.dim_IntList", [X, [1]], {}, None, None]]
    for outputs in ([0], [1, 1], [1] * 9999):
        ask = encode({"ask": {"nodes": nodes, "outputs": outputs, "shape": [4096, 2]}})
        code = "import os, time\n" + HEAD + f"    os.write(3, {ask!r})\n    time.sleep(9)\n"
        result = trace(tracer, code, shape=(4096, 2))
        assert isinstance(result, Rejection) and result.kind == "violation", result


def test_a_constant_is_bounded(tracer: Tracer):
    numbers = "    t = torch.tensor([float(i % 7) for i in range({})])\n"
    body = numbers + "    return x * (t * x.sum()).sum()\n"
    assert not isinstance(trace(tracer, HEAD + body.format(MAX_CONSTANT_ELEMENTS)), Rejection)
    rejection = rejected(tracer, body.format(MAX_CONSTANT_ELEMENTS + 1))
    assert (rejection.kind, rejection.line) == ("unsupported", 5)
    assert f"at most {MAX_CONSTANT_ELEMENTS}" in rejection.detail


def test_an_intermediate_is_bounded(tracer: Tracer):
    rejection = rejected(
        tracer, "    t = torch.cat([x] * 99)\n    return t[:1024]\n", shape=(1024, 512)
    )
    assert (rejection.kind, rejection.line) == ("memory", 4)
    assert "aten.cat" in rejection.detail and "at most 64 MiB" in rejection.detail


def test_work_is_bounded():
    body, shape = (
        "    t = x\n    for _ in range({}):\n        t = t @ t\n    return t\n",
        (4096, 4096),
    )
    # The bound of work is to end it, not the clock of a busy machine.
    with Tracer(TraceSettings(timeout_s=60.0)) as patient:
        assert not isinstance(trace(patient, HEAD + body.format(3600), shape=shape), Rejection)
        rejection = rejected(patient, body.format(3700), shape=shape)
    assert (rejection.kind, rejection.line) == ("timeout", 6)
    assert "aten.mm.default" in rejection.detail and f"{MAX_WORK:.0e}" in rejection.detail


def test_three_decompositions_of_a_projection_are_within_the_bound(tracer: Tracer):
    body = "    t = x\n    for _ in range(3):\n        u, s, v = torch.linalg.svd(t + 1, full_matrices=False)\n        t = t + u @ torch.diag(s) @ v\n    return t\n"
    result = trace(tracer, HEAD + body, shape=(4096, 14336))
    assert not isinstance(result, Rejection), result


# ---- rejections that teach


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("    return x.cuda()\n", "runtime", "`device` is an argument"),
        ("    torch.save({'x': 1}, 'm.pt')\n", "violation", "return the merged tensor"),
        ("    import subprocess\n    subprocess.run('ls')\n", "violation", "no processes"),
        ("    import socket\n    socket.socket()\n", "violation", "no network"),
        ("    open('/tmp/x', 'w')\n", "violation", "open '/tmp/x'; no files"),
        ("    import sklearn\n", "import", "only the standard library, numpy and torch"),
        ("    return torch.nomr(x) * x\n", "runtime", "the nearest: norm"),
        ("    return tensor(0.5) * x\n", "runtime", "the nearest: torch.tensor"),
        (
            "    return torch.special.bessel_j1(x)\n",
            "unsupported",
            "aten.special_bessel_j1.default",
        ),
        ("    return torch.bincount(x.long().flatten())\n", "unsupported", "aten.bincount"),
        ("    return x if x > 0 else y\n", "runtime", "torch.where(condition, x, y)"),
        ("    import threading\n    threading.Thread().start()\n", "violation", "no threads"),
    ],
)
def test_a_rejection_says_what_to_write_and_where(tracer: Tracer, body: str, kind: str, words: str):
    rejection = rejected(tracer, body)
    assert (rejection.kind, rejection.line) == (kind, 3 + body.count("\n")), rejection
    assert words in rejection.detail


# ---- slots and processes


UNMAP = """
    import ctypes, sys
    libc = ctypes.CDLL(None)
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    # a page of a library, one of Python's heap, one of the main program's
    places = [ctypes.cast(libc.strlen, ctypes.c_void_p).value, id(torch), id(int)]
    ends = [libc.munmap(place // 4096 * 4096, 4096) for place in places]
    frame = sys._getframe()
    while "attempts" not in frame.f_locals:
        frame = frame.f_back
    # Otherwise the verdict would be that ctypes is forbidden.
    frame.f_locals["attempts"].clear()
    raise RuntimeError(f"unmapped {ends.count(0)} of {len(ends)}")
"""


@pytest.mark.skipif(not guard.seal(0, 0), reason="this kernel has no mseal (Linux 6.10)")
def test_a_child_cannot_free_the_room_of_what_the_zygote_mapped(tracer: Tracer):
    """Unmapped libraries would be address space for 400 MiB of its own beyond its limit."""
    assert "unmapped 0 of 3" in rejected(tracer, UNMAP).detail


def test_a_loop_costs_only_its_own_slot():
    """Ten of a hundred programs loop. The others are right, and no process is left."""
    timeout_s, slots, before = 0.5, 4, len(states_below(os.getpid()))
    loop = "def merge_models(d, device):\n    while True:\n        pass\n"
    with Tracer(TraceSettings(timeout_s=timeout_s, memory_bytes=64 << 20, slots=slots)) as tracer:
        zygote = tracer.sandbox._zygote.process.pid
        jobs = [
            TraceRequest(extract(loop if i % 10 == 0 else QUICK), NAMES, SHAPE, 0, "t", tag=i)
            for i in range(100)
        ]
        began = time.monotonic()
        results = {job.tag: result for job, result in tracer.trace_many(jobs)}
        seconds = time.monotonic() - began
        assert tracer.sandbox._zygote.process.pid == zygote
        assert {i for i, r in results.items() if isinstance(r, Rejection)} == set(range(0, 100, 10))
        assert all(results[i].kind == "timeout" for i in range(0, 100, 10))
        good = sum(results[i].seconds for i in results if i % 10)
        assert seconds < 10 * (timeout_s + 1.0) / slots + good + 5.0
        left = states_below(zygote)
        assert "Z" not in left and len(left) <= 1  # The zygote inside its namespaces may be left.
    left = states_below(os.getpid())
    assert "Z" not in left and len(left) == before


QUICK = "def merge_models(d, device):\n    return next(iter(d.values()))\n"


def states_below(pid: int) -> list[str]:
    """The states of a process's descendants that are zygotes, children of these, or zombies."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text()
            except OSError:
                continue
            state, above = text.rsplit(")", 1)[1].split()[:2]
            if int(above) == parent and "sandbox.zygote" in command_of(path) + state * (
                state == "Z"
            ):
                found.append(state)
                todo.append(int(path.parent.name))
    return found


def command_of(stat: Path) -> str:
    try:
        return stat.with_name("cmdline").read_text()
    except OSError:
        return ""


def test_no_child_pays_for_the_readers_time():
    """The second program asks while the reader of the first one's result is busy."""
    asks = "import time\ndef merge_models(d, device):\n    time.sleep(0.3)\n    return d['x'] * d['x'].norm().item()\n"
    with Tracer(TraceSettings(timeout_s=1.5, memory_bytes=64 << 20)) as tracer:
        jobs = [
            TraceRequest(extract(code), NAMES, SHAPE, 0, "t", lambda graph: [torch.ones(())])
            for code in (QUICK, asks)
        ]
        results = []
        for _, result in tracer.trace_many(jobs):
            results.append(result)
            time.sleep(2.0)
        assert not any(isinstance(result, Rejection) for result in results), results


# ---- several tensors in one child


def in_turn(tracer: Tracer, code: str, shapes=((24, 40), (40, 24), (40,))) -> tuple[list, int]:
    """The results of tracing in turn, and how many children they took."""
    children, launch = [], tracer.sandbox._launch
    tracer.sandbox._launch = lambda job: children.append(job) or launch(job)
    try:
        jobs = [
            TraceRequest(extract(code), NAMES, shape, 0, f"t{i}", lambda graph: [torch.ones(())])
            for i, shape in enumerate(shapes)
        ]
        return tracer.trace_in_turn(jobs), len(children)
    finally:
        del tracer.sandbox._launch


def test_tensors_in_turn_are_traced_as_each_alone(tracer: Tracer):
    """Each call has a fresh module, its own seed and torch's defaults, whatever the last did."""
    code = HEAD.replace("import torch\n", "import torch, random\ncalls = []\n") + (
        "    calls.append(1)\n    assert len(calls) == 1 and torch.is_grad_enabled()\n"
        "    assert torch.get_default_dtype() == torch.float32\n"
        "    torch.set_default_dtype(torch.float64)\n    torch.set_grad_enabled(False)\n"
        "    print(len(d))\n"
        "    return x * torch.rand(()).item() + random.random() * y * y.norm().item()\n"
    )
    found, num_children = in_turn(tracer, code)
    assert num_children == 1
    for i, (shape, one) in enumerate(zip(((24, 40), (40, 24), (40,)), found, strict=True)):
        alone = tracer.trace(
            extract(code),
            NAMES,
            shape,
            seed=0,
            tensor_name=f"t{i}",
            answer=lambda graph: [torch.ones(())],
        )
        assert one.graph.fingerprint == alone.graph.fingerprint
        assert (one.num_asks, one.output) == (alone.num_asks, alone.output) == (1, "2\n")
    assert len({one.graph.fingerprint for one in found}) == 3


def test_a_rejection_ends_the_turn(tracer: Tracer):
    found, num_children = in_turn(tracer, HEAD + "    return 1 / len(x.shape[1:]) * x\n")
    assert num_children == 1
    assert [isinstance(one, Rejection) for one in found] == [False, False, True]
    assert (found[2].kind, found[2].line) == ("runtime", 4)
    body = "    open('/etc/passwd').close() if x.shape[0] == 40 else 0\n    return x\n"
    found, _ = in_turn(tracer, HEAD + body)
    assert [one.kind for one in found if isinstance(one, Rejection)] == ["violation"]
    assert len(found) == 2


def test_each_tensor_has_the_time_of_one():
    """A child that has used half of a job's time is given no other job."""
    code = HEAD + "    import time\n    time.sleep(0.8)\n    return x\n"
    with Tracer(TraceSettings(timeout_s=2.0, memory_bytes=64 << 20)) as tracer:
        found, num_children = in_turn(tracer, code, ((4, 6),) * 5)
        assert not any(isinstance(one, Rejection) for one in found), found
        assert 1 < num_children < 5
        late = HEAD + "    while x.shape[0] == 5:\n        pass\n    return x\n"
        found, _ = in_turn(tracer, late, ((4, 6), (5, 6), (6, 6)))
        assert [getattr(one, "kind", "ok") for one in found] == ["ok", "timeout"]


def test_each_tensor_has_the_bytes_of_one(tracer: Tracer, monkeypatch):
    monkeypatch.setattr(protocol, "TOTAL_BYTES", 20_000)
    body = "    for _ in range(60):\n        x = x + y\n    return x\n"
    found, num_children = in_turn(tracer, HEAD + body, ((4, 6),) * 12)
    assert num_children == 1
    assert len(found) == 12
    assert not any(isinstance(one, Rejection) for one in found), found
    (more, *_), _ = in_turn(tracer, HEAD + body.replace("60", "600"))
    assert "flood" in more.detail


def test_a_child_that_dies_between_two_tensors(tracer: Tracer):
    code = HEAD + "    import os\n    if x.shape[0] == 40:\n        os._exit(3)\n    return x\n"
    found, _ = in_turn(tracer, code)
    assert [isinstance(one, Rejection) for one in found] == [False, True]
    assert not isinstance(trace(tracer, QUICK), Rejection)


def test_who_stops_listening_leaves_no_child(tracer: Tracer):
    loop = "def merge_models(d, device):\n    while True:\n        pass\n"
    jobs = [TraceRequest(extract(code), NAMES, SHAPE, 0, "t") for code in (loop, QUICK)]
    results = tracer.trace_many(jobs)
    assert next(results)[0] is jobs[1]
    results.close()
    assert not tracer.sandbox._children
    assert not isinstance(trace(tracer, QUICK), Rejection)


def test_a_dead_zygote_is_replaced_and_its_programs_tried_again():
    with Tracer(TraceSettings(timeout_s=5.0, memory_bytes=64 << 20)) as tracer:
        assert not isinstance(trace(tracer, QUICK), Rejection)
        before = tracer.sandbox._zygote.process
        before.kill()
        before.wait()
        assert not isinstance(trace(tracer, QUICK), Rejection)
        assert tracer.sandbox._zygote.process.pid != before.pid


def test_what_a_child_said_is_forgotten_when_its_zygote_dies():
    asking = HEAD + "    return x * y.sum().item() + y * x.amax().item()\n"
    killed = []
    with Tracer(TraceSettings(timeout_s=5.0, memory_bytes=64 << 20)) as tracer:

        def answer(graph):
            if not killed:
                killed.append(tracer.sandbox._zygote.process)
                killed[0].kill()
                killed[0].wait()
            return [torch.ones(())]

        jobs = [TraceRequest(extract(asking), NAMES, SHAPE, 0, "t", answer)]
        results = [tracer.trace_in_turn(jobs)[0], *(found for _, found in tracer.trace_many(jobs))]
    assert killed
    assert not any(isinstance(result, Rejection) for result in results), results
    assert results[0].graph == results[1].graph and results[0].num_asks == 2


def test_a_cell_whose_zygote_died_is_no_error_of_torch():
    """The program would be told of it, and may take the branch of a failure that torch never saw."""
    asking = HEAD + (
        "    sizes = [torch.linalg.svdvals(v)[0].item() for v in (x, y)]\n"
        "    return x * sizes[0] / sizes[1]\n"
    )
    killed = []
    with (
        Tracer(TraceSettings(timeout_s=5.0)) as tracer,
        SyntheticAnswers(tracer, NAMES, SHAPE, 0) as answers,
    ):

        def answer(graph):
            found = answers.answer(graph)
            if not killed:
                killed.append(tracer.sandbox._zygote.process)
                killed[0].kill()
                killed[0].wait()
            return found

        jobs = [TraceRequest(extract(asking), NAMES, SHAPE, 0, "t", answer)]
        once, again = (next(tracer.trace_many(jobs))[1] for _ in range(2))
    assert not isinstance(once, Rejection), once
    assert not isinstance(again, Rejection), again
    assert killed and once.graph == again.graph


def test_a_result_is_kept_if_the_zygote_dies_under_the_next_job():
    shapes = ((4, 6), (6, 4), (5, 5))
    with Tracer(TraceSettings(timeout_s=5.0, memory_bytes=64 << 20)) as tracer:
        sandbox = tracer.sandbox
        take_over, lost = sandbox._take_over, []

        def die_once() -> list[Job]:
            if sandbox._over and not lost:
                lost.append(True)
                raise ZygoteLost("in this test")
            return take_over()

        sandbox._take_over = die_once
        found, num_children = in_turn(tracer, QUICK, shapes)
    assert lost and num_children == 2
    assert [one.graph.shape for one in found] == list(shapes)


def test_a_question_that_torch_refuses_is_the_programs_fault(tracer: Tracer):
    body = "    far = (x.abs() * 1e9).long().flatten()\n    return x.flatten().gather(0, far).sum().item() * x\n"
    rejection = rejected(tracer, body)
    assert rejection.kind == "runtime" and "out of bounds" in rejection.detail


ATTACKS = Path(__file__).parents[2] / "attacks"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("file_torch_from_file", {"violation"}),
        ("file_torch_save_plain", {"violation"}),
        ("process_system", {"violation"}),
        ("network_tcp_caught", {"violation"}),
        ("bomb_string", {"memory"}),
        ("loop_c_sum", {"timeout"}),
        ("reply_null", {"violation"}),
        ("reply_flood_of_questions", {"violation"}),
    ],
)
def test_the_eager_tier_is_as_closed(tracer: Tracer, run_in_cell, name: str, kinds: set[str]):
    code = (ATTACKS / f"{name}.py").read_text()
    vectors = {name: torch.full(SHAPE, 0.5) for name in NAMES}
    tensors = TensorSet("t", torch.zeros(SHAPE), vectors)
    result = run_in_cell(tracer, Eager(extract(code), 0, ""), tensors, limit_s=5.0)
    assert isinstance(result, Rejection) and result.kind in kinds, result
    assert not Path("/tmp/selfdev_attack").exists() and not Path("/tmp/selfdev_attack.pt").exists()
    good = run_in_cell(tracer, Eager(extract(QUICK), 0, ""), tensors)
    assert isinstance(good, torch.Tensor) and torch.equal(good, vectors["x"])


# ---- layers


def test_required_layers_hold_here():
    found = {layer["name"]: layer for layer in layers.layers()}
    assert set(layers.REQUIRED) <= set(found)
    assert layers.missing_layers() == []
    for layer in found.values():
        assert layer["ok"] or (layer["fix"] and "lost without it" in layer["detail"])


def test_without_a_required_layer_every_trace_is_refused(selfdev, tmp_path: Path):
    """Where the probe of seccomp fails, the command refuses and says what is missing."""
    (tmp_path / "p.py").write_text(QUICK)
    words = ["trace", str(tmp_path / "p.py"), "--shape", "8x8"]
    for extra, code in (([], 2), (["--unsafe-sandbox"], 0)):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_SECCOMP, *words, *extra, "--json"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        if code:
            assert "seccomp" in done.stderr and "--unsafe-sandbox" in done.stderr


WITHOUT_SECCOMP = """
import sys
from selfdev_engine.engine.sandbox import layers
layers.PROBE = layers.PROBE.replace("def seccomp():", "def seccomp():\\n    raise OSError('forbidden here')\\ndef _():")
from selfdev_engine.selfdev.cli import main
sys.exit(main())
"""


def test_doctor_names_every_layer(selfdev):
    answer = selfdev("doctor", "--json")
    names = {check["name"] for check in answer.json["checks"]}
    assert {f"sandbox: {name}" for name in layers.LAYERS} <= names


def test_the_filter_is_an_allow_list_of_few_calls():
    program, _ = guard.seccomp_filter()
    assert len(guard.ALLOWED_CALLS) <= 30
    # Each call is one instruction, and ten more do the rest.
    assert len(program) // 8 == len(guard.ALLOWED_CALLS) + 10
    forbidden = {"open", "openat", "socket", "execve", "fork", "clone", "kill", "ptrace", "ioctl"}
    assert not forbidden & set(guard.ALLOWED_CALLS)


def test_a_limit_that_is_already_tighter_is_kept():
    code = (
        "import resource; from selfdev_engine.engine.sandbox import guard; "
        "resource.setrlimit(resource.RLIMIT_CPU, (7, 7)); guard.limit_resources(1 << 40, 1 << 40, 60); "
        "print(resource.getrlimit(resource.RLIMIT_CPU), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "(7, 7) (4, 4)"


@pytest.mark.skipif(os.getuid() != 0, reason="an unprivileged user has nothing to give up")
def test_root_is_given_up(monkeypatch):
    """Limits on processes do not bind uid 0, so no child has it, with or without namespaces."""
    everything = layers.usable_layers()
    for granted in (everything, [name for name in everything if name != "namespaces"]):
        monkeypatch.setattr(box, "usable_layers", lambda granted=granted: granted)
        with Tracer(TraceSettings(timeout_s=5.0, memory_bytes=64 << 20)) as tracer:
            assert not isinstance(trace(tracer, QUICK), Rejection)
            pid = innermost(tracer.sandbox._zygote.process.pid)
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            words = {line.split()[0]: line.split()[1:] for line in status if line.split()}
            assert set(words["Uid:"]) == set(words["Gid:"]) == {str(guard.NOBODY)}
            assert words["Groups:"] == [] and int(words["CapEff:"][0], 16) == 0
            assert words["NoNewPrivs:"] == ["1"]


def innermost(pid: int) -> int:
    """The zygote that forks. Inside namespaces it is a child of the process that was started."""
    while below := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(below[0])
    return pid


ENGINE = """
import sys
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.trace.tracer import Tracer, TraceSettings
code = "def merge_models(d, device):\\n    while True:\\n        pass\\n"
with Tracer(TraceSettings(timeout_s=600.0)) as tracer:
    tracer.sandbox._zygote.wait_ready()
    print(tracer.sandbox._zygote.process.pid, flush=True)
    tracer.trace(extract(code), ("x",), (8, 8), seed=0, tensor_name="t", answer=None)
"""


def test_all_end_with_the_engine():
    engine = subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    zygote = int(engine.stdout.readline())
    deadline = time.monotonic() + 10
    while (
        len(family := descendants(zygote)) < len(usable_parents()) and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    engine.kill()
    engine.wait()
    engine.stdout.close()
    while alive := [p for p in (zygote, *family) if runs(p)]:
        assert time.monotonic() < deadline + 10, alive
        time.sleep(0.05)


def usable_parents() -> list[str]:
    """What runs below the zygote: itself inside namespaces, if there are any, and the child."""
    return ["zygote", "child"] if "namespaces" in layers.usable_layers() else ["child"]


def descendants(pid: int) -> list[int]:
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for word in below for p in (int(word), *descendants(int(word)))]


def runs(pid: int) -> bool:
    """Tells whether a process runs. An orphan that has ended may wait for PID 1 to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_zygote_that_cannot_start_is_the_hosts_fault():
    """It is no rejection of the program. The error holds what the zygote said last."""
    missing = "selfdev_engine.engine.no_such_handler"
    with (
        box.Sandbox(missing, timeout_s=5, memory_bytes=1 << 28) as sandbox,
        pytest.raises(UsageError, match="no_such_handler"),
    ):
        list(sandbox.run([Job({}, lambda question: {})]))


def test_a_late_child_that_floods_gets_no_more_time():
    flood = (
        "import os, signal\ndef merge_models(d, device):\n    def flood(*_):\n"
        "        while True: os.write(3, b'x' * 65536)\n"
        "    signal.signal(signal.SIGUSR1, flood)\n    while True: pass\n"
    )
    with Tracer(TraceSettings(timeout_s=1.0, memory_bytes=64 << 20)) as tracer:
        trace(tracer, GOOD)
        began, cpu = time.monotonic(), time.process_time()
        assert trace(tracer, flood).kind == "timeout"
        # A flood that stretches the limit took 44 s of wall clock and 25 s of CPU here.
        assert time.monotonic() - began < 15 and time.process_time() - cpu < 8
