"""What runs inside the locked child: one program, on lazy or on real tensors, one reply.

The handler of the zygote: `preload()` before the files close, `serve(request, memory)` after the
child is locked in. Nothing here is trusted by the engine; the reply is verified on arrival.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import io
import linecache
import mmap
import random
import signal
import sys
import traceback
import types
from typing import Any

import numpy as np
import torch

from ..sandbox import protocol
from ..sandbox.guard import CHANNEL
from .lazy import LazyMode
from .ops import use_native_shapes
from .recorder import Node, Recorder, Unsupported
from .surface import Surface
from .values import Values

FILENAME = "<program>"
MAX_OUTPUT_CHARACTERS = 4096

# Attempts that are a violation even where they failed silently; for messages, not for safety.
WATCHED = frozenset(
    {
        *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill"),
        *("os.killpg", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink"),
        *("os.chmod", "os.chown", "os.truncate", "os.listdir", "os.scandir", "os.chdir"),
        *("subprocess.Popen", "socket.__new__", "socket.connect", "socket.bind", "pty.spawn"),
        *(
            "shutil.rmtree",
            "shutil.copyfile",
            "shutil.move",
            "tempfile.mkstemp",
            "tempfile.mkdtemp",
        ),
        *("ctypes.dlopen", "urllib.Request", "ftplib.connect", "smtplib.connect"),
    }
)


class Output(io.TextIOBase):
    """Keeps the first characters that a program prints."""

    def __init__(self) -> None:
        self.kept = ""

    def write(self, text: str) -> int:
        self.kept += text[: MAX_OUTPUT_CHARACTERS - len(self.kept)]
        return len(text)


def preload() -> None:
    """Import what programs name, warm up one small op per kind; afterwards no file opens."""
    import collections  # noqa: F401
    import copy  # noqa: F401
    import decimal  # noqa: F401
    import encodings.idna  # noqa: F401
    import fractions  # noqa: F401
    import heapq  # noqa: F401
    import html  # noqa: F401
    import itertools  # noqa: F401
    import statistics  # noqa: F401
    import zoneinfo  # noqa: F401

    import numpy.fft
    import numpy.ma
    import numpy.polynomial  # noqa: F401
    import torch.nn.functional as F
    import torch.utils.serialization

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    use_native_shapes()
    x = torch.randn(8, 8, requires_grad=True)
    torch.einsum("ij,jk->ik", x, x).sum().backward()
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        t = x.detach().to(dtype)
        _ = t @ t, F.softmax(t, -1), t.sort(), t.norm(), repr(t)
    warm_up()


def warm_up() -> None:
    """Trace one program, so that children inherit warm caches."""
    source = (
        "import torch\ndef merge_models(d, device):\n    a, b = d.values()\n"
        "    m = torch.stack([a, b]).median(0).values\n    m += a.norm() * b.clamp(-1, 1)\n"
        "    return torch.where(m > 0, m, 0.5 * b)\n"
    )
    request = {"code": source, "params": {}, "names": ["a", "b"], "shape": [4, 6], "seed": "0"}
    trace_view(request, (4, 6), lambda question: {})


# ---- one request -----------------------------------------------------------------------------------


def serve(request: dict[str, Any], memory: mmap.mmap | None) -> dict[str, Any]:
    """The reply: {"status": "ok", ...} or {"status": "rejected", "kind", "detail", "line"}."""
    output, attempts = Output(), list[str]()
    sys.stdout = sys.stderr = output
    linecache.cache[FILENAME] = (
        len(request["code"]),
        None,
        request["code"].splitlines(True),
        FILENAME,
    )
    faulthandler.register(signal.SIGUSR1, CHANNEL, all_threads=False)
    sys.addaudithook(lambda event, args: note(event, args, attempts))
    try:
        reply = run_eager(request, memory) if memory is not None else trace(request)
    except BaseException as error:
        reply = rejection_of(error)
    if attempts and reply.get("kind") != "violation":
        detail = f"tried what is forbidden: {', '.join(dict.fromkeys(attempts))}"
        reply = {"status": "rejected", "kind": "violation", "detail": detail, "line": None}
    return {**reply, "printed": output.kept}


def note(event: str, args: Any, attempts: list[str]) -> None:
    """Keep an attempt; what Python's own imports look up on the way is none."""
    watched = event in WATCHED or (event == "open" and writes(args))
    if watched and len(attempts) < 8 and not importing():
        attempts.append("open for writing" if event == "open" else event)


def importing() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def writes(args: Any) -> bool:
    mode = args[1] if len(args) > 1 else None
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def load(code: str) -> Any:
    """merge_models of a fresh module; dataclasses and typing look it up by name."""
    module = types.ModuleType("merge_program")
    sys.modules[module.__name__] = module
    exec(compile(code, FILENAME, "exec"), module.__dict__)
    return module.__dict__["merge_models"]


def seed_all(seed: str) -> None:
    """random, numpy and torch, from (run seed, tensor name)."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little") >> 1
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def trace(request: dict[str, Any]) -> dict[str, Any]:
    """The graph; in the tensor's own shape, else, where torch refuses dimensions, as a vector."""
    shape = tuple(request["shape"])
    try:
        return {**trace_view(request, shape, ask), "view": "own"}
    except (RuntimeError, IndexError, ValueError):
        if len(shape) < 2:
            raise
        first = sys.exc_info()[1]
        assert first is not None
    flat = shape[0] * shape[1]
    try:
        return {**trace_view(request, (flat,), ask), "view": "flat"}
    except Exception:
        raise first from None


def ask(question: dict[str, Any]) -> dict[str, Any]:
    protocol.send(CHANNEL, {"ask": question})
    return protocol.receive(CHANNEL)["answer"]


def trace_view(request: dict[str, Any], shape: tuple[int, ...], asker: Any) -> dict[str, Any]:
    asker_with_view = lambda question: asker({**question, "shape": list(shape)})  # noqa: E731
    recorder = Recorder()
    mode = LazyMode(Values(recorder, asker_with_view))
    inputs = {name: mode.input(name, shape) for name in request["names"]}
    seed_all(request["seed"])
    with Surface(mode), mode:
        function = load(request["code"])
        result = function(inputs, torch.device("cpu"), **request["params"])
    node = result_node(mode, result, shape)
    return {
        "status": "ok",
        "shape": list(shape),
        "nodes": recorder.news(),
        "result": node.index,
        "draws": mode.draws,
    }


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


class WrongShape(BaseException):
    """A result that is no update of the tensor."""


def run_eager(request: dict[str, Any], memory: mmap.mmap) -> dict[str, Any]:
    """The last resort: the function on real tensors, in shared memory, the result written back."""
    shape, count = tuple(request["shape"]), int(np.prod(request["shape"]))
    inputs = {}
    for i, name in enumerate(request["names"]):
        view = torch.frombuffer(memory, dtype=torch.float32, count=count, offset=4 * count * i)
        inputs[name] = view.clone().reshape(shape)
    seed_all(request["seed"])
    result = load(request["code"])(inputs, torch.device("cpu"), **request["params"])
    if not isinstance(result, torch.Tensor):
        raise WrongShape(f"merge_models returned {type(result).__name__}, not a tensor")
    if tuple(result.shape) != shape:
        raise WrongShape(f"the result has shape {tuple(result.shape)}, the tensor {shape}")
    offset = 4 * count * len(request["names"])
    out = torch.frombuffer(memory, dtype=torch.float32, count=count, offset=offset)
    with torch.no_grad():
        out.copy_(result.detach().float().reshape(-1))
    return {"status": "ok"}


# ---- what went wrong -------------------------------------------------------------------------------


def rejection_of(error: BaseException) -> dict[str, Any]:
    return {
        "status": "rejected",
        "kind": kind_of(error),
        "detail": detail_of(error),
        "line": line_of(error),
    }


def kind_of(error: BaseException) -> str:
    kinds = (
        (WrongShape, "shape"),
        (Unsupported, "unsupported"),
        (SyntaxError, "syntax"),
        (ImportError, "import"),
        (MemoryError, "memory"),
        (PermissionError, "violation"),
    )
    for errors, kind in kinds:
        if isinstance(error, errors):
            return kind
    text = str(error)
    memory = "can't allocate memory" in text or "not enough memory" in text
    return "memory" if memory else "runtime"


def detail_of(error: BaseException) -> str:
    with contextlib.suppress(BaseException):
        text = str(error).strip().split("\n\n")[0][:1000]
        name = "" if isinstance(error, Unsupported | WrongShape) else f"{type(error).__name__}: "
        return f"{name}{text}" or type(error).__name__
    return type(error).__name__


def line_of(error: BaseException) -> int | None:
    """The program's innermost line on the way to the error."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == FILENAME]
    if frames:
        return frames[-1].lineno
    if isinstance(error, SyntaxError) and error.filename == FILENAME:
        return error.lineno
    return None
