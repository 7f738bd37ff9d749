"""What runs inside the locked child: one program, on lazy or on real tensors, one reply.

The handler of the zygote: `preload()` before the files close, `serve(request, memory)` after the
child is locked in. Nothing here is trusted by the engine; the reply is verified on arrival.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import io
import itertools
import linecache
import mmap
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..sandbox import protocol
from ..sandbox.guard import CHANNEL
from .draws import drew_otherwise, seed_all
from .hints import with_hint
from .lazy import LazyMode
from .ops import leave_compiler_out, use_native_shapes
from .recorder import Node, Recorder, TooLarge, TooMuchWork, Unsupported
from .surface import Surface
from .values import Values

FILENAME = "<program>"
MAX_OUTPUT_CHARACTERS = 4096

# Attempts that are a violation even where they failed silently; for messages, not for safety.
WATCHED = frozenset(
    """
    os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn os.kill os.killpg os.remove os.rename
    os.mkdir os.rmdir os.link os.symlink os.chmod os.chown os.truncate os.listdir os.scandir os.chdir
    os.utime os.setxattr pty.spawn subprocess.Popen signal.pthread_kill resource.setrlimit
    resource.prlimit syslog.openlog socket.__new__ socket.connect socket.bind socket.getaddrinfo
    socket.gethostbyname socket.gethostbyaddr urllib.Request ftplib.connect smtplib.connect
    shutil.rmtree shutil.copyfile shutil.move tempfile.mkstemp tempfile.mkdtemp
    sys.addaudithook ctypes.dlopen ctypes.dlsym ctypes.dlsym/handle ctypes.call_function ctypes.string_at
    """.split()
)
OPENERS = ("pathlib.py", "io.py", "codecs.py", "os.py")  # open what the program names
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

# What libraries say of an attempt that failed below them, and of memory that was not there.
VIOLATIONS = (
    "Operation not permitted",
    "Parent directory",
    "can't start new thread",
    "raise maximum",
)
NO_MEMORY = (
    *("can't allocate memory", "Cannot allocate memory", "not enough memory"),
    "Storage size calculation overflowed",
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
    given = set(os.environ)
    import collections  # noqa: F401
    import copy  # noqa: F401
    import decimal  # noqa: F401
    import encodings.idna  # noqa: F401
    import fractions  # noqa: F401
    import heapq  # noqa: F401
    import html  # noqa: F401
    import statistics  # noqa: F401
    import zoneinfo  # noqa: F401

    import numpy.fft
    import numpy.ma
    import numpy.polynomial  # noqa: F401
    import torch.nn.functional as F
    import torch.utils._device
    import torch.utils.checkpoint
    import torch.utils.serialization

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    use_native_shapes()
    leave_compiler_out()
    x = torch.randn(8, 8, requires_grad=True)
    torch.einsum("ij,jk->ik", x, x).sum().backward()
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        t = x.detach().to(dtype)
        _ = t @ t, F.softmax(t, -1), t.sort(), t.norm(), repr(t)
    warm_up()
    for name in set(os.environ) - given:  # torch leaves a folder with the user's name in it
        del os.environ[name]


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
    """The reply: {"status": "ok", ...} or {"status": "rejected", "kind", "detail", "line"}.

    A child may serve one program for several tensors, one after the other.
    """
    output, attempts = Output(), watched()
    attempts.clear()
    sys.stdout = sys.stderr = output
    torch.set_default_dtype(torch.float32)  # what the program set when it was called before
    torch.set_grad_enabled(True)
    linecache.cache[FILENAME] = (
        len(request["code"]),
        None,
        request["code"].splitlines(True),
        FILENAME,
    )
    faulthandler.register(signal.SIGUSR1, CHANNEL, all_threads=False)
    try:
        reply = run_eager(request, memory) if memory is not None else trace(request)
    except BaseException as error:
        reply = rejection_of(error)
    if attempts:
        reply = attempted(attempts)
    return {**reply, "printed": output.kept}


@functools.cache
def watched() -> list[tuple[str, int | None]]:
    """What was attempted; noted from the first call on, since a hook cannot be taken away."""
    attempts = list[tuple[str, int | None]]()
    sys.addaudithook(lambda event, args: note(event, args, attempts))
    return attempts


def attempted(attempts: list[tuple[str, int | None]]) -> dict[str, Any]:
    """The rejection for what was tried, be it that the failure was caught, at the first one's line."""
    words = ", ".join(dict.fromkeys(what for what, _ in attempts))
    detail = with_hint(f"tried what is forbidden: {words}")
    line = next((line for _, line in attempts if line is not None), None)
    return {"status": "rejected", "kind": "violation", "detail": detail, "line": line}


def note(event: str, args: Any, attempts: list[tuple[str, int | None]]) -> None:
    """Keep an attempt; what Python's own imports look up on the way is none."""
    if not (event in WATCHED or event == "open") or len(attempts) >= 8:
        return
    frames = list(callers())
    if any(f.f_code.co_filename.startswith("<frozen importlib") for f in frames):
        return
    if event in WATCHED or writes(args) or opened_by_program(frames):
        line = next((f.f_lineno for f in frames if f.f_code.co_filename == FILENAME), None)
        path = f" {args[0]!r:.100}" if event == "open" and isinstance(args[0], str) else ""
        attempts.append((event + path, line))


def callers() -> Iterator[types.FrameType]:
    frame: types.FrameType | None = sys._getframe(3)  # above note and its lambda
    while frame is not None:
        yield frame
        frame = frame.f_back


def opened_by_program(frames: list[types.FrameType]) -> bool:
    """Whether the program itself opens, not a library that looks for its own files."""
    names = (f.f_code.co_filename for f in frames)
    return next((n for n in names if not n.endswith(OPENERS)), None) == FILENAME


def writes(args: Any) -> bool:
    """Of an open event's (path, mode, flags)."""
    _, mode, flags = (*args, None, None, None)[:3]
    by_mode = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    return by_mode or (isinstance(flags, int) and bool(flags & WRITING))


def load(code: str) -> Any:
    """merge_models of a fresh module; dataclasses and typing look it up by name."""
    module = types.ModuleType("merge_program")
    sys.modules[module.__name__] = module
    exec(compile(code, FILENAME, "exec"), module.__dict__)
    return module.__dict__["merge_models"]


def trace(request: dict[str, Any]) -> dict[str, Any]:
    """The graph; in the tensor's own shape, else, where torch refuses dimensions, as a vector."""
    shape, ask = tuple(request["shape"]), asker()
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


def asker() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Asks the engine; the engine counts too, but here the line is known."""
    numbers = itertools.count(1)

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        if next(numbers) > protocol.MAX_ASKS:
            raise Unsupported(
                f"more than {protocol.MAX_ASKS} questions for values of the weights: stack them and "
                "read them at once (.tolist()), or use torch.where"
            )
        protocol.send(CHANNEL, {"ask": question})
        return protocol.receive(CHANNEL)["answer"]

    return ask


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
        "drew_otherwise": drew_otherwise(request["seed"], mode.draws),
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
    line = None
    with contextlib.suppress(BaseException):  # an audit hook of the program's may raise in here
        line = line_of(error)
    return {
        "status": "rejected",
        "kind": kind_of(error),
        "detail": detail_of(error),
        "line": line,
    }


def kind_of(error: BaseException) -> str:
    kinds = (
        (WrongShape, "shape"),
        (TooLarge, "memory"),
        (TooMuchWork, "timeout"),
        (Unsupported, "unsupported"),
        (SyntaxError, "syntax"),
        (ImportError, "import"),
        (MemoryError, "memory"),
        (PermissionError, "violation"),
    )
    for errors, kind in kinds:
        if isinstance(error, errors):
            return kind
    text = text_of(error)
    if isinstance(error, NotImplementedError) and "aten::" in text:  # no shape function
        return "unsupported"
    if any(words in text for words in VIOLATIONS):
        return "violation"
    return "memory" if any(words in text for words in NO_MEMORY) else "runtime"


def detail_of(error: BaseException) -> str:
    text = text_of(error).strip().split("\n\n")[0][:1000]
    if isinstance(error, Unsupported | WrongShape):
        return with_hint(text) if isinstance(error, WrongShape) else text
    name = type(error).__name__
    with contextlib.suppress(BaseException):  # it looks at the program's own objects
        return with_hint(f"{name}: {text}" if text else name, error)
    return f"{name}: {text}"


def text_of(error: BaseException) -> str:
    """An error's own words, if it can be shown at all."""
    with contextlib.suppress(BaseException):
        return str(error)
    return ""


def line_of(error: BaseException) -> int | None:
    """The program's innermost line on the way to the error."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == FILENAME]
    if lines:
        return lines[-1]
    if isinstance(error, SyntaxError) and error.filename == FILENAME:
        return error.lineno
    return None
