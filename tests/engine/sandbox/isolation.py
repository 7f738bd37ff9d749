"""Makes a place where an attack does no harm: `run_inside(work)`.

The place has user, PID, network, mount, IPC and UTS namespaces, an unprivileged uid, rlimits, and a
root in which the interpreter is read-only and /tmp empty. A signal to everybody reaches only this
place, and files vanish with it. On a host that grants no namespaces only the uid is dropped.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
NOBODY = 65534
TOTAL_S = 240.0  # limit of all work inside
LIMITS = {"NPROC": 512, "FSIZE": 64 << 20, "CORE": 0, "AS": 8 << 30, "CPU": 200}
NEW_NAMESPACES = {
    "mount": 0x20000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
NEW_USER = 0x10000000
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
DETACH, PDEATHSIG = 2, 1
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc", "/sys/devices/system/cpu")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: Any) -> None:
    if getattr(libc, name)(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def run_inside(work: Callable[[str], None]) -> int:
    """Calls `work(how isolated)` as an unprivileged user in namespaces. Returns its exit code."""
    root = tempfile.mkdtemp(prefix="attack-range-")
    jailer = os.fork()
    if jailer == 0:
        os._exit(guarded(lambda: isolate(root, work)))
    try:
        return wait_for(jailer)
    finally:
        shutil.rmtree(root)


def wait_for(pid: int) -> int:
    pidfd = os.pidfd_open(pid)
    if not select.select([pidfd], [], [], TOTAL_S)[0]:
        os.kill(pid, signal.SIGKILL)  # PID 1 of the range dies with it, and takes all others along.
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def guarded(step: Callable[[], int]) -> int:
    try:
        return step()
    except BaseException as error:
        print(f"attack range: {type(error).__name__}: {error}", file=sys.stderr)
        return 70


def isolate(root: str, work: Callable[[str], None]) -> int:
    uid, gid = os.getuid(), os.getgid()
    try:
        call("unshare", sum(NEW_NAMESPACES.values()) | (0 if uid == 0 else NEW_USER))
    except OSError as error:
        how = f"only the uid dropped ({error})"
        if uid != 0:
            raise OSError(f"not root, and no namespaces ({error}): not harmless here") from None
        return in_child(lambda: drop_and_work(how, work))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return in_child(lambda: first_process(root, work))


def in_child(step: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        call("prctl", PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os._exit(guarded(step))
    while True:  # As PID 1 it also collects orphans.
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status) & 255


def first_process(root: str, work: Callable[[str], None]) -> int:
    make_root(root)
    raise_loopback()
    return in_child(lambda: drop_and_work("namespaces", work))


def drop_and_work(how: str, work: Callable[[str], None]) -> int:
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    assert os.getuid() != 0
    for name, limit in LIMITS.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    work(how)
    return 0


def make_root(root: str) -> None:
    """Makes a root with the system and the interpreter read-only, and an empty /tmp."""
    mount("none", "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", root, "tmpfs", 0, "size=64m,mode=755")
    for path in ("/tmp", "/dev/shm"):  # before what is shown: this clone may lie below /tmp
        os.makedirs(root + path)
        os.chmod(root + path, 0o1777)
    shown: list[str] = []
    for path in sorted({*map(os.path.realpath, needed_folders())}):
        if not any(path.startswith(f"{other}/") for other in shown):
            shown.append(path)
            show(path, root)
    for path in SYSTEM:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
    for path in DEVICES:
        os.makedirs(f"{root}/dev", exist_ok=True)
        Path(root + path).touch()
        mount(path, root + path, None, BIND)
    os.makedirs(f"{root}/proc")
    os.makedirs(f"{root}/.old")
    mount("proc", f"{root}/proc", "proc", 0)
    call(
        "syscall",
        155 if os.uname().machine == "x86_64" else 41,
        root.encode(),
        f"{root}/.old".encode(),
    )
    os.chdir("/")
    call("umount2", b"/.old", DETACH)


def needed_folders() -> list[str]:
    torch = importlib.util.find_spec("torch")
    assert torch is not None and torch.origin is not None
    packages = os.path.dirname(os.path.dirname(torch.origin))
    folders = [sys.base_prefix, sys.prefix, str(REPO), packages]
    return folders + [path for path in SYSTEM if os.path.isdir(path)]


def show(path: str, root: str) -> None:
    os.makedirs(root + path, exist_ok=True)
    mount(path, root + path, None, BIND | RECURSIVE)
    mount("none", root + path, None, BIND | REMOUNT | READ_ONLY)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = (source.encode(), target.encode(), kind.encode() if kind else None)
    call("mount", *words, ctypes.c_ulong(flags), data.encode())


def raise_loopback() -> None:
    """Raises the loopback, so that a connection to our listener would succeed if allowed."""
    get, put, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = bytearray(struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(one, get, request)
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(one, put, struct.pack("16sH22x", b"lo", flags | up))
