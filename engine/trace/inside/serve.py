"""Runs one program in the locked child, on lazy or on real tensors, and replies once.

This is the zygote's handler. It calls `preload()` before the files close, and `serve(request, maps)`
in a child that is locked in. The driver trusts nothing of this and verifies the reply.
"""

from __future__ import annotations

import faulthandler
import importlib
import io
import json
import linecache
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from ...sandbox import protocol
from ...sandbox.guard import CHANNEL
from ..draws import drew_otherwise, seed_all
from ..ops import use_native_shapes
from ..torch_start import leave_compiler_out, stand_in_for_settings
from .attempts import attempted, watched
from .faults import WrongShape, rejection_of
from .lazy import LazyMode
from .on_tensors import Memory, serve_tensor
from .program import FILENAME, load
from .recorder import Node, Recorder, Unsupported, end_if_spoilt, spoilt
from .rules import RULES
from .surface import Surface
from .types import tensor_type_line
from .values import Values

MAX_OUTPUT_CHARACTERS = 4096
# What programs import, by need or by habit.
IMPORTED = """
cProfile collections configparser copy decimal encodings.idna fractions functorch getopt getpass
graphlib heapq html logging.handlers multiprocessing.pool numpy.fft numpy.ma numpy.polynomial
numpy.typing optparse pstats sched shelve statistics tomllib torch.utils._device
torch.utils.checkpoint torch.utils.serialization tqdm.auto tracemalloc zoneinfo
""".split()


class Output(io.TextIOBase):
    """Keeps the first characters that a program prints."""

    def __init__(self) -> None:
        self.kept = ""

    def write(self, text: str) -> int:
        self.kept += text[: MAX_OUTPUT_CHARACTERS - len(self.kept)]
        return len(text)


def preload() -> None:
    """Imports what programs import, and warms up an op of each kind. Afterwards no file opens."""
    given = set(os.environ)
    for name in IMPORTED:
        # tqdm is not part of every installation.
        with suppress(ImportError):
            importlib.import_module(name)
    import torch.nn.functional as F

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    use_native_shapes()
    leave_compiler_out()
    stand_in_for_settings()
    x = torch.randn(8, 8, requires_grad=True)
    torch.einsum("ij,jk->ik", x, x).sum().backward()
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        t = x.detach().to(dtype)
        _ = t @ t, F.softmax(t, -1), t.sort(), t.norm(), repr(t)
    warm_up()
    # torch leaves the path of a folder with the user's name in it.
    for name in set(os.environ) - given:
        del os.environ[name]


def warm_up() -> None:
    """Traces one program, so that children inherit warm caches."""
    source = (
        "import torch\ndef merge_models(d, device):\n    a, b = d.values()\n"
        "    m = torch.stack([a, b]).median(0).values\n    m += a.norm() * b.clamp(-1, 1)\n"
        "    return torch.where(m > 0, m, 0.5 * b)\n"
    )
    request = {"code": source, "params": {}, "names": ["a", "b"], "shape": [4, 6], "seed": "0"}
    trace_view(request, (4, 6), lambda question: {})


def serve(request: dict[str, Any], maps: Sequence[Memory]) -> dict[str, Any]:
    """The reply: {"status": "ok", ...} or {"status": "rejected", "kind", "detail", "line"}.

    One child may serve a program for several tensors, one call after another. A request with "do" is
    about a tensor that is mapped (on_tensors.py); any other is to trace a program.
    """
    output, attempts = Output(), watched()
    attempts.clear()
    sys.stdout = sys.stderr = output
    # An earlier call in this child may have changed these two.
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    code = request.get("code", "")
    linecache.cache[FILENAME] = (len(code), None, code.splitlines(True), FILENAME)
    faulthandler.register(signal.SIGUSR1, CHANNEL, all_threads=False)
    try:
        reply = serve_tensor(request, maps) if "do" in request else trace(request)
    except BaseException as error:
        reply = rejection_of(error)
    if attempts:
        reply = attempted(attempts)
    return {**reply, "printed": output.kept}


def trace(request: dict[str, Any]) -> dict[str, Any]:
    """The graph in the tensor's own shape or, if torch refuses that, of a vector."""
    if line := tensor_type_line(request["code"]):
        why = "a test of type(x) against torch.Tensor, or a class of it: use isinstance"
        return {"status": "rejected", "kind": "unsupported", "detail": why, "line": line}
    shape, ask = tuple(request["shape"]), Questioner(request.get("foretold", ()))
    try:
        return {**trace_view(request, shape, ask), "view": "own", "used": ask.num_used}
    except (RuntimeError, IndexError, ValueError):
        if len(shape) < 2:
            raise
        first = sys.exc_info()[1]
        assert first is not None
    flat = math.prod(shape)
    try:
        return {**trace_view(request, (flat,), ask), "view": "flat", "used": ask.num_used}
    except Exception:
        raise first from None


class Questioner:
    """Asks the driver, but for what it foretold. It counts, as the driver does: here the line is known."""

    def __init__(self, foretold: Sequence[Any]) -> None:
        self._foretold = foretold
        self._num_asked = self.num_used = 0

    def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        self._num_asked += 1
        if self._num_asked > protocol.MAX_ASKS:
            raise Unsupported(
                f"more than {protocol.MAX_ASKS} questions for values of the weights: stack them and "
                "read them at once (.tolist()), or use torch.where"
            )
        # Those that were not foretold in this order are asked, and so are all after them.
        if self._num_asked == self.num_used + 1 <= len(self._foretold):
            expected, answer = self._foretold[self.num_used]
            # As text, because 1 and True are equal.
            if json.dumps(question, sort_keys=True) == json.dumps(expected, sort_keys=True):
                self.num_used += 1
                return answer
        protocol.send(CHANNEL, {"ask": {**question, "used": self.num_used}})
        found: Any = protocol.receive(CHANNEL)["answer"]
        return found


def trace_view(request: dict[str, Any], shape: tuple[int, ...], asker: Any) -> dict[str, Any]:
    asker_with_view = lambda question: asker({**question, "shape": list(shape)})  # noqa: E731
    recorder = Recorder()
    mode = LazyMode(Values(recorder, asker_with_view), RULES)
    inputs = {name: mode.input(name, shape) for name in request["names"]}
    seed_all(request["seed"])
    with unless_spoilt(), Surface(mode), mode:
        function = load(request["code"])
        result = function(inputs, torch.device("cpu"), **request["params"])
    node = result_node(mode, result, shape)
    return {
        "status": "ok",
        "shape": list(shape),
        "nodes": recorder.news(),
        "result": node.index,
        "draws": mode.draws,
        "drew_otherwise": drew_otherwise(request["seed"], mode.draws),
    }


@contextmanager
def unless_spoilt() -> Iterator[None]:
    """Raises what spoilt the trace, if anything did, whatever the program made of it."""
    spoilt.clear()
    try:
        yield
    finally:
        end_if_spoilt()


def result_node(mode: LazyMode, result: Any, shape: tuple[int, ...]) -> Node:
    if not isinstance(result, torch.Tensor):
        raise WrongShape(f"merge_models returned {type(result).__name__}, not a tensor")
    if tuple(result.shape) != shape:
        raise WrongShape(f"the result has shape {tuple(result.shape)}, the tensor {shape}")
    if not result.dtype.is_floating_point:
        with mode:
            result = result.to(torch.float32)
    value = mode.read(result)
    return value if isinstance(value, Node) else mode.recorder.const(value)
