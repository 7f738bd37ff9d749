"""Finds which layers this host grants. Each is tried in a process of its own.

Kernel versions say nothing: containers and security modules may forbid what the kernel can do.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import TypedDict

from ..errors import UsageError

REQUIRED = ("no_new_privs", "seccomp", "limits", "pidfd")
# Name -> (what is lost without it, what to do).
LAYERS: dict[str, tuple[str, str]] = {
    "no_new_privs": ("the certainty that no program gains rights", "use Linux 3.5 or later"),
    "seccomp": ("the wall itself: any system call", "use Linux with seccomp filters"),
    "limits": ("bounds on memory, files and processes", "use Linux with rlimits"),
    "landlock": (
        "the second wall around files",
        "use Linux 5.13 or later with landlock in its lsm= list",
    ),
    "signal_scope": ("the second wall around signals", "use Linux 6.12 or later"),
    "namespaces": (
        "the third wall: an empty network, a process tree that dies as one",
        "allow unprivileged user namespaces (containers often forbid them)",
    ),
    "pidfd": ("kills that cannot hit another process", "use Linux 5.3 or later"),
}

# A fresh interpreter forks a process for each probe. Its exit code 0 means that the layer holds.
PROBE = """
import json, os, sys, signal, resource, socket
from selfdev_engine.engine.sandbox import guard
def fails(action):
    try: action()
    except (OSError, ValueError): return True
    return False
def no_new_privs():
    guard.no_new_privileges(); return True
def seccomp():
    guard.no_new_privileges(); program, structure = guard.seccomp_filter()
    guard.install_seccomp(structure)
    return fails(os.getcwd) and fails(socket.socket)
def limits():
    guard.limit_resources(1 << 40, 1 << 40, 60); return fails(lambda: os.open("/dev/null", os.O_RDONLY) and os.dup(0))
def landlock():
    guard.no_new_privileges(); guard.restrict_files(); return fails(lambda: open("/dev/null"))
def signal_scope():
    guard.no_new_privileges(); guard.restrict_files()
    return guard.landlock_version() >= 6 and fails(lambda: os.kill(os.getppid(), 0))
def namespaces():
    guard.enter_namespaces(); guard.give_up_root(); return os.getpid() == 1 and os.getuid() == guard.NOBODY
def pidfd():
    fd = os.pidfd_open(os.getpid()); signal.pidfd_send_signal(fd, 0); return True
def probe(name, pipe):
    try: held = globals()[name]()
    except OSError as error: os.write(pipe, str(error).encode()); held = False
    os._exit(0 if held else 1)
found = {}
for name in sys.argv[1:]:
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0: probe(name, theirs)
    os.close(theirs); found[name] = pid, ours
ends = {name: (os.waitpid(pid, 0)[1], os.read(pipe, 999).decode()) for name, (pid, pipe) in found.items()}
print(json.dumps(ends))
"""


class Layer(TypedDict):
    """One layer of this host, as `doctor` shows it."""

    name: str
    ok: bool
    required: bool
    detail: str
    fix: str  # "" where the layer is granted


@functools.cache
def layers() -> list[Layer]:
    """Every layer, probed once per process."""
    command = [sys.executable, "-s", "-P", "-c", PROBE, *LAYERS]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    ends = json.loads(done.stdout) if done.returncode == 0 else {}
    return [layer(name, *ends.get(name, (1, done.stderr))) for name in LAYERS]


def layer(name: str, code: int, said: str) -> Layer:
    lost, fix = LAYERS[name]
    why = said.strip().split("\n")[-1]
    granted = "granted" if code == 0 else f"not granted ({why})" if why else "not granted"
    return {
        "name": name,
        "ok": code == 0,
        "required": name in REQUIRED,
        "detail": f"{granted}; lost without it: {lost}",
        "fix": "" if code == 0 else fix,
    }


def missing_layers() -> list[str]:
    """Names of required layers that this host does not grant."""
    return [layer["name"] for layer in layers() if layer["required"] and not layer["ok"]]


def check_layers(unsafe: bool) -> None:
    """Raise UsageError where a required layer is missing and `unsafe` does not accept that."""
    if (missing := missing_layers()) and not unsafe:
        names = ", ".join(missing)
        raise UsageError(
            f"this host lacks required sandbox layers: {names}; see `selfdev-engine doctor`, "
            "or give --unsafe-sandbox to run generated code without them"
        )


def usable_layers() -> list[str]:
    """Names of the layers that this host grants."""
    return [layer["name"] for layer in layers() if layer["ok"]]
