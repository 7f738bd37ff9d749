"""The zygote: a locked process of one thread, with torch preloaded, that forks for each program.

    python -s -P -m selfdev_engine.engine.sandbox.zygote FD HANDLER MEMORY_BYTES CPU_S LAYERS

FD is a SOCK_SEQPACKET to the driver. A request is one byte with the child's end of a socketpair
and, optionally, the descriptor of shared memory. The zygote forks, sends back the child's pidfd,
collects the child, and reports how it ended. It never sees a program. HANDLER is a module with
`preload()` and `serve(request, memory) -> reply`. It is imported before the files close.
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import select
import socket
import sys
from types import ModuleType

from . import guard, protocol

FORK_LIMIT_DESCRIPTORS = 1 << 12


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    handler, memory_bytes, cpu_s = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    layers = set(sys.argv[5].split(","))
    guard.die_with_parent()
    if "namespaces" in layers:
        guard.enter_namespaces()
        guard.die_with_parent()
    guard.no_new_privileges()
    # What the imports make stays. To look for garbage in it takes a fifth of the start.
    gc.disable()
    module = importlib.import_module(handler)
    module.preload()
    status = process_status()
    assert status["Threads"] == 1, "a thread before fork: a child's first parallel op would hang"
    program, structure = guard.seccomp_filter()
    guard.give_up_root()
    guard.die_with_parent()  # again, because a change of uid forgets it
    guard.drop_capabilities()
    guard.hide_from_debuggers()
    if "landlock" in layers:
        guard.restrict_files()
    gc.collect()
    gc.freeze()
    gc.enable()
    control.send(json.dumps({"ready": status}).encode())
    lock = Lock(layers, status["VmSize"] + memory_bytes, cpu_s, structure)
    serve(control, module, lock)
    del program


def process_status() -> dict[str, int]:
    """The number of threads, and sizes in bytes."""
    with open("/proc/self/status") as file:
        words = dict(line.split(":", 1) for line in file)
    sizes = {key: int(words[key].split()[0]) << 10 for key in ("VmSize", "VmRSS")}
    return {"Threads": int(words["Threads"]), **sizes}


class Lock:
    """Locks a child in, before it reads its program."""

    def __init__(self, layers: set[str], space_bytes: int, cpu_s: int, structure: bytes) -> None:
        self.layers, self.space_bytes = layers, space_bytes
        self.cpu_s, self.structure = cpu_s, structure

    def close(self, shared_bytes: int) -> None:
        guard.die_with_parent()
        os.setsid()
        # A Landlock domain of its own keeps its signals from the zygote. Making one takes a
        # descriptor, so it comes before the limits.
        if "landlock" in self.layers:
            guard.restrict_files()
        guard.limit_resources(self.space_bytes + shared_bytes, self.cpu_s)
        if "seccomp" in self.layers:
            guard.install_seccomp(self.structure)


def serve(control: socket.socket, module: ModuleType, lock: Lock) -> None:
    """Forks on request and reports ends. Leaves when the driver is gone."""
    poll, children = select.poll(), dict[int, int]()
    poll.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in children:
                poll.unregister(descriptor)
                report_end(control, children.pop(descriptor))
                os.close(descriptor)
                continue
            data, descriptors, _, _ = socket.recv_fds(control, 16, 2)
            if not data:
                os._exit(0)  # The children die with this process.
            if (pid := os.fork()) == 0:
                child(module, lock, descriptors)
            for received in descriptors:
                os.close(received)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid
            poll.register(pidfd, select.POLLIN)
            socket.send_fds(control, [json.dumps({"forked": pid}).encode()], [pidfd])


def report_end(control: socket.socket, pid: int) -> None:
    _, status, usage = os.wait4(pid, 0)
    cpu_s = usage.ru_utime + usage.ru_stime
    control.send(json.dumps({"exited": pid, "status": status, "cpu_s": cpu_s}).encode())


def child(module: ModuleType, lock: Lock, descriptors: list[int]) -> None:
    """Locks itself in, then serves requests as long as the driver has more. Never returns."""
    try:
        memory = map_memory(descriptors[1]) if len(descriptors) > 1 else None
        os.dup2(descriptors[0], guard.CHANNEL)
        # 1 and 2 become /dev/null, as 0 is: an open descriptor would pass every file layer.
        for target in (1, 2):
            os.dup2(0, target)
        os.closerange(guard.CHANNEL + 1, FORK_LIMIT_DESCRIPTORS)
        lock.close(len(memory) if memory else 0)
        request: protocol.Json = {"more": True}
        while request.get("more"):
            request = protocol.receive(guard.CHANNEL)
            protocol.send(guard.CHANNEL, {"done": module.serve(request, memory)})
    # The handler turns a program's errors into replies, so this one is ours.
    except BaseException as error:
        fault = {"status": "internal", "detail": repr(error)}
        protocol.send(guard.CHANNEL, {"done": fault})
    finally:
        os._exit(0)


def map_memory(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size)


if __name__ == "__main__":
    main()
