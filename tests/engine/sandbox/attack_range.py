"""The range on which tests/attacks run. It is harmless even where the sandbox fails (isolation.py).

    python tests/engine/sandbox/attack_range.py [--without LAYERS] [FILE ...]  ->  one JSON object on stdout

Once isolated it starts the tracer. It fires each attack, looks for what is left of it, and runs a
good program.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isolation import REPO, run_inside

# ---- inside: what an attack would leave behind -------------------------------------------------------

SECRET, SECRET_FILE = "secret-" + os.urandom(8).hex(), Path("/tmp/secret")
TCP_PORT, ABSTRACT, SOCKET_FILE = 47111, "\0selfdev-attack", "/tmp/selfdev.sock"
SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT]


class Evidence:
    """Finds what changed since the start: files, processes, connections, signals and secrets."""

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
        """What an attack left, in words. It is removed, so that the next one starts clean."""
        new = [f"file {path}" for path in sorted(files() ^ self.files)]
        new += [f"signal {n}" for n in self.received]
        new += [f"connection to {one.getsockname()!r}" for one in self.listeners if visited(one)]
        new += [word for word in (SECRET, "BREACH") if word in said]
        if set(processes()) != self.processes:
            time.sleep(0.05)  # One may have been killed a moment ago.
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
    """Our user's files in the folders where files can be left."""
    found = set()
    for root in ("/tmp", "/dev/shm", "/tmp/work"):
        for entry in os.scandir(root):
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                found.add(entry.path)
    return found


def processes() -> dict[int, dict[str, str]]:
    """/proc/PID/status of all processes of our user, by pid."""
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
    """Runs each attack and then a good program in one zygote. The record ends with its state."""
    evidence, at_first = Evidence(), set(processes())
    from selfdev_engine.engine.sandbox import box
    from selfdev_engine.engine.trace.settings import TraceSettings
    from selfdev_engine.engine.trace.tracer import Tracer

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
    """The kinds that the first line allows, such as `# attack: loops  expect: timeout|memory`."""
    return path.read_text().split("\n", 1)[0].split("expect:")[1].split()[0].split("|")


class Gunner:
    """Runs programs in one tracer, and keeps what their children literally said."""

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
        from selfdev_engine.engine.trace.conversation import TraceRequest
        from selfdev_engine.engine.trace.replay import replay

        def answer(graph: Any) -> Any:
            return replay(graph, self.inputs)

        names = tuple(self.inputs)
        return self.tracer._job(TraceRequest(extract(code), names, (24, 40), 0, "t", answer))

    def run(self, jobs: list[Any], slots: int) -> Iterator[tuple[Any, Any]]:
        """Yields (job, verdict) as jobs end. job.result is what the child said."""
        for done in self.tracer.sandbox.run(jobs, slots):
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
        """Runs one attack, then the good program."""
        zygote = self.tracer.sandbox._zygote.process.pid
        ((done, verdict),) = self.run([self.job(path.read_text())], 1)
        right = self.next_is_right()
        return self.record(path, done, verdict, right, zygote)

    def volley(self, paths: list[Path]) -> list[dict[str, Any]]:
        """Runs attacks that only the clock ends, some at a time, with a good program after each."""
        zygote = self.tracer.sandbox._zygote.process.pid
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
            "same_zygote": self.tracer.sandbox._zygote.process.pid == zygote,
            "seconds": done.seconds,
        }


def zygote_state(tracer: Any) -> dict[str, int]:
    """The state of the innermost zygote process, which is the one that forks."""
    everybody, pid = processes(), tracer.sandbox._zygote.process.pid
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
