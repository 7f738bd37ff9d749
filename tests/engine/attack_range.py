"""The range on which tests/attacks are run: harmless even where the sandbox fails.

    python tests/engine/attack_range.py [--without LAYERS] [FILE ...]  ->  one JSON object on stdout

An outer process makes user, PID, network, mount, IPC and UTS namespaces, a root of its own (the
interpreter read-only, an empty /tmp), drops to an unprivileged uid under rlimits, and only there
starts the tracer. A signal to everybody reaches this range, a file that is written is gone with it.
Where a host grants no namespaces only the uid is dropped, and the record says so.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import importlib.util
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
NOBODY = 65534
TOTAL_S = 240.0
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


# ---- the range ---------------------------------------------------------------------------------------


def run_inside(work: Callable[[str], None]) -> int:
    """Call `work(how isolated)` as an unprivileged user in namespaces; its exit code."""
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
        os.kill(pid, signal.SIGKILL)  # PID 1 of the range goes with it, and all others with that
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
    while True:  # as PID 1 it also collects orphans
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
    """A file view with the system and the interpreter read-only, and an empty /tmp."""
    mount("none", "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", root, "tmpfs", 0, "size=64m,mode=755")
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
    for path in ("/tmp", "/dev/shm"):
        os.makedirs(root + path)
        os.chmod(root + path, 0o1777)
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
    """So that a connection to the driver's listener would succeed, were it allowed."""
    get, put, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = bytearray(struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(one, get, request)
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(one, put, struct.pack("16sH22x", b"lo", flags | up))


# ---- inside: what an attack would leave behind -------------------------------------------------------

SECRET, SECRET_FILE = "secret-" + os.urandom(8).hex(), Path("/tmp/secret")
TCP_PORT, ABSTRACT, SOCKET_FILE = 47111, "\0selfdev-attack", "/tmp/selfdev.sock"
SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT]


class Evidence:
    """Files, processes, connections, signals and secrets: what changed since the start."""

    def __init__(self) -> None:
        os.environ["SELFDEV_SECRET"] = SECRET
        os.makedirs("/tmp/work", exist_ok=True)
        os.chdir("/tmp/work")
        SECRET_FILE.write_text(SECRET)
        self.listeners = [
            listener(socket.AF_INET, ("127.0.0.1", TCP_PORT)),
            listener(socket.AF_UNIX, ABSTRACT),
            listener(socket.AF_UNIX, SOCKET_FILE),
        ]
        self.received: list[int] = []
        for number in SIGNALS:
            signal.signal(number, lambda n, _: self.received.append(n))

    def start(self) -> None:
        self.files, self.processes = files(), set(processes())

    def found(self, said: str) -> list[str]:
        """What an attack left, in words; the next one starts from a clean place again."""
        new = [f"file {path}" for path in sorted(files() ^ self.files)]
        new += [f"signal {n}" for n in self.received]
        new += [f"connection to {one.getsockname()!r}" for one in self.listeners if visited(one)]
        new += [word for word in (SECRET, "BREACH") if word in said]
        if set(processes()) != self.processes:
            time.sleep(0.05)  # one that was killed a moment ago
            new += [f"process {pid}" for pid in sorted(set(processes()) ^ self.processes)]
        if not SECRET_FILE.exists() or SECRET_FILE.read_text() != SECRET:
            new.append("a changed file")
        if new:
            self.tidy()
        return new

    def remove(self) -> None:
        for path in (str(SECRET_FILE), SOCKET_FILE):
            Path(path).unlink()
        os.rmdir("/tmp/work")

    def tidy(self) -> None:
        for path in files() - self.files:
            Path(path).unlink()
        SECRET_FILE.write_text(SECRET)
        self.received.clear()
        self.processes = set(processes())


def listener(family: int, address: Any) -> socket.socket:
    one = socket.socket(family)
    one.bind(address)
    one.listen()
    one.setblocking(False)
    return one


def visited(one: socket.socket) -> bool:
    try:
        one.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def files() -> set[str]:
    """Our user's, where files can be left."""
    found = set()
    for root in ("/tmp", "/dev/shm", "/tmp/work"):
        for entry in os.scandir(root):
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                found.add(entry.path)
    return found


def processes() -> dict[int, dict[str, str]]:
    """What /proc/PID/status says of our user's, wherever they were started from."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            lines = Path(f"/proc/{name}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if int(status["Uid"].split()[0]) == os.getuid():
            found[int(name)] = status
    return found


# ---- inside: the attacks -----------------------------------------------------------------------------

TIMEOUT_S, MEMORY_BYTES, VOLLEY_SLOTS = 2.0, 128 << 20, 6
GOOD = (
    "import torch\ndef merge_models(model_dict, device):\n    ws = list(model_dict.values())\n"
    "    m = torch.stack(ws).median(0).values\n    return 0.25 * ws[0] + m * ws[1].norm() / 3\n"
)


def attack_all(paths: list[Path], how: str, without: set[str]) -> dict[str, Any]:
    """Each attack, then a good program in the same zygote; at the end, the zygote's own state."""
    evidence, at_first = Evidence(), set(processes())
    from selfdev_engine.engine.sandbox import box
    from selfdev_engine.engine.trace.tracer import Tracer, TraceSettings

    granted = [name for name in box.usable_layers() if name not in without]
    box.usable_layers = lambda: granted
    with Tracer(TraceSettings(timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES)) as tracer:
        gunner = Gunner(tracer, evidence)
        assert gunner.next_is_right()
        evidence.start()
        before = zygote_state(tracer)
        endless = [path for path in paths if expected(path) == ["timeout"]]
        results = [gunner.fire(path) for path in paths if path not in endless]
        results += gunner.volley(endless)
        time.sleep(0.05)
        after, left = zygote_state(tracer), processes()
    evidence.remove()
    return {
        "how": how,
        "layers": granted,
        "uid": os.getuid(),
        "attacks": {result["name"]: result for result in results},
        "zygote": {"before": before, "after": after, "rounds": 2 * len(results)},
        "zombies": [pid for pid, status in left.items() if status["State"].startswith("Z")],
        "left_over": sorted(set(left) ^ evidence.processes),
        "after_close": sorted(set(processes()) - at_first),
    }


def expected(path: Path) -> list[str]:
    """The kinds that the first line allows: `# attack: loops  expect: timeout|memory`."""
    return path.read_text().split("\n", 1)[0].split("expect:")[1].split()[0].split("|")


class Gunner:
    """Runs programs in one tracer and keeps what their children literally said."""

    def __init__(self, tracer: Any, evidence: Evidence) -> None:
        import torch

        draw = torch.Generator().manual_seed(0)
        self.tracer, self.evidence = tracer, evidence
        self.inputs = {name: 1e-3 * torch.randn(24, 40, generator=draw) for name in "xyz"}
        scope: dict[str, Any] = {}
        exec(GOOD, scope)
        self.wanted = scope["merge_models"](dict(self.inputs), torch.device("cpu"))

    def job(self, code: str) -> Any:
        from selfdev_engine.engine.program import extract
        from selfdev_engine.engine.trace.replay import replay
        from selfdev_engine.engine.trace.tracer import TraceJob

        def answer(graph: Any) -> Any:
            return replay(graph, self.inputs)

        names = tuple(self.inputs)
        return self.tracer._job(TraceJob(extract(code), names, (24, 40), 0, "t", answer))

    def run(self, jobs: list[Any], slots: int) -> Iterator[tuple[Any, Any]]:
        """(job, verdict) as they end; job.result is what the child said."""
        for done in self.tracer._sandbox.run(jobs, slots):
            yield done, done.tag[1].result(done)

    def next_is_right(self) -> bool:
        ((_, traced),) = self.run([self.job(GOOD)], 1)
        return self.is_right(traced)

    def is_right(self, traced: Any) -> bool:
        import torch
        from selfdev_engine.engine.trace.replay import replay

        if not hasattr(traced, "graph"):
            print(f"the next program: {traced}", file=sys.stderr)
            return False
        return torch.equal(replay(traced.graph, self.inputs)[0], self.wanted)

    def fire(self, path: Path) -> dict[str, Any]:
        """One attack, then the good program."""
        zygote = self.tracer._sandbox._process.pid
        ((done, verdict),) = self.run([self.job(path.read_text())], 1)
        right = self.next_is_right()
        return self.record(path, done, verdict, right, zygote)

    def volley(self, paths: list[Path]) -> list[dict[str, Any]]:
        """Attacks that end only by the clock, some at once, a good program after each."""
        zygote = self.tracer._sandbox._process.pid
        attacks = [self.job(path.read_text()) for path in paths]
        goods = [self.job(GOOD) for _ in paths]
        jobs = [job for pair in zip(attacks, goods, strict=True) for job in pair]
        verdicts = {id(done): verdict for done, verdict in self.run(jobs, VOLLEY_SLOTS)}
        return [
            self.record(
                path, attack, verdicts[id(attack)], self.is_right(verdicts[id(good)]), zygote
            )
            for path, attack, good in zip(paths, attacks, goods, strict=True)
        ]

    def record(
        self, path: Path, done: Any, verdict: Any, right: bool, zygote: int
    ) -> dict[str, Any]:
        return {
            "name": path.stem,
            "kind": getattr(verdict, "kind", "ok"),
            "detail": getattr(verdict, "detail", ""),
            "line": getattr(verdict, "line", None),
            "next_is_right": right,
            "evidence": self.evidence.found(repr(done.result)),
            "same_zygote": self.tracer._sandbox._process.pid == zygote,
            "seconds": done.seconds,
        }


def zygote_state(tracer: Any) -> dict[str, int]:
    """Of the innermost zygote process: it is the one that forks."""
    everybody, pid = processes(), tracer._sandbox._process.pid
    while inner := [p for p, status in everybody.items() if int(status["PPid"]) == pid]:
        pid = inner[0]
    status = everybody[pid]
    return {
        "pid": pid,
        "rss_kib": int(status["VmRSS"].split()[0]),
        "descriptor_slots": int(status["FDSize"]),
        "threads": int(status["Threads"]),
    }


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument(
        "files", nargs="*", type=Path, help="attacks; all of tests/attacks by default"
    )
    words.add_argument("--without", default="", help="sandbox layers to leave out: does it notice?")
    given = words.parse_args()
    paths = [path.resolve() for path in given.files]
    paths = paths or sorted((REPO / "tests" / "attacks").glob("*.py"))
    answer = os.dup(1)
    os.dup2(2, 1)

    def work(how: str) -> None:
        record = attack_all(paths, how, set(filter(None, given.without.split(","))))
        with os.fdopen(answer, "w") as file:
            json.dump(record, file)

    return run_inside(work)


if __name__ == "__main__":
    sys.exit(main())
