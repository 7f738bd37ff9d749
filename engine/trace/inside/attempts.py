"""Audit hook: reports what a program tries that is forbidden."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from .hints import with_hint
from .program import FILENAME

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
