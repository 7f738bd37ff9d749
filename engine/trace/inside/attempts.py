"""An audit hook that notes forbidden things which a program tries."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from .hints import with_hint
from .program import FILENAME

# Violations even if they failed silently. The hook is for messages; safety does not need it.
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
# Library files that open what their caller names: the caller counts, not they.
OPENERS = ("pathlib.py", "io.py", "codecs.py", "os.py")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@functools.cache
def watched() -> list[tuple[str, int | None]]:
    """The list of attempts. It grows from the first call on: a hook cannot be taken away."""
    attempts = list[tuple[str, int | None]]()
    sys.addaudithook(lambda event, args: note(event, args, attempts))
    return attempts


def attempted(attempts: list[tuple[str, int | None]]) -> dict[str, Any]:
    """The rejection for these attempts, at the first known line.

    They are rejected even if the program caught their failure.
    """
    words = ", ".join(dict.fromkeys(what for what, _ in attempts))
    detail = with_hint(f"tried what is forbidden: {words}")
    line = next((line for _, line in attempts if line is not None), None)
    return {"status": "rejected", "kind": "violation", "detail": detail, "line": line}


def note(event: str, args: Any, attempts: list[tuple[str, int | None]]) -> None:
    """Keeps an attempt, unless Python's own imports made it."""
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
    # Frames 0 to 2 are this function, note and its lambda.
    frame: types.FrameType | None = sys._getframe(3)
    while frame is not None:
        yield frame
        frame = frame.f_back


def opened_by_program(frames: list[types.FrameType]) -> bool:
    """Tells whether the program opens a file, and not a library that looks for its own files."""
    names = (f.f_code.co_filename for f in frames)
    return next((n for n in names if not n.endswith(OPENERS)), None) == FILENAME


def writes(args: Any) -> bool:
    """Tells whether an open event's arguments (path, mode, flags) ask to write."""
    _, mode, flags = (*args, None, None, None)[:3]
    by_mode = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    return by_mode or (isinstance(flags, int) and bool(flags & WRITING))
