"""The zygote: a locked process of one thread, with torch preloaded, that forks for each program.

    python -s -P -m selfdev_engine.engine.sandbox.zygote FD HANDLER LAYERS

FD is a SOCK_SEQPACKET to the driver. A request is one byte with the child's end of a socketpair and
the descriptors of files that the child maps. The zygote forks, sends back the child's pidfd, collects
the child, and reports how it ended. It never sees a program. The driver's first message to a child is
a Setup (protocol.py). HANDLER is a module with `preload()` and `serve(request, maps) -> reply`. It is
imported before the files close.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import socket
import sys
from types import ModuleType

from . import guard, protocol

FORK_LIMIT_DESCRIPTORS = 1 << 12
MAX_DESCRIPTORS = 253  # the kernel's limit for one message


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    handler, layers = sys.argv[2], set(sys.argv[3].split(","))
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
    gc.collect()
    guard.seal_all_maps()
    if "landlock" in layers:
        guard.restrict_files()
    gc.freeze()
    gc.enable()
    control.send(json.dumps({"ready": status}).encode())
    lock = Lock(layers, status["VmSize"], status["VmData"], structure)
    serve(control, module, lock)
    del program


def process_status() -> dict[str, int]:
    """The number of threads, and sizes in bytes."""
    with open("/proc/self/status") as file:
        words = dict(line.split(":", 1) for line in file)
    sizes = {key: int(words[key].split()[0]) << 10 for key in ("VmSize", "VmData", "VmRSS")}
    return {"Threads": int(words["Threads"]), **sizes}


class Lock:
    """Locks a child in, before it reads its program. `space` and `data` are the zygote's own bytes."""

    def __init__(self, layers: set[str], space: int, data: int, structure: bytes) -> None:
        self.layers, self.space, self.data, self.structure = layers, space, data, structure

    def close(self, memory_bytes: int, mapped_bytes: int, cpu_s: int) -> None:
        """Leaves this process `memory_bytes` more of its own, beside files that it has mapped."""
        guard.die_with_parent()
        os.setsid()
        # A Landlock domain of its own keeps its signals from the zygote. Making one takes a
        # descriptor, so it comes before the limits.
        if "landlock" in self.layers:
            guard.restrict_files()
        space_bytes = self.space + mapped_bytes + memory_bytes
        guard.limit_resources(space_bytes, self.data + memory_bytes, cpu_s)
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
            data, descriptors, _, _ = socket.recv_fds(control, 16, MAX_DESCRIPTORS)
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
        setup = protocol.Setup.of(protocol.receive(descriptors[0]))
        maps = [
            guard.map_sealed(descriptors[1 + m.file], m.offset, m.size_bytes, m.shared)
            for m in setup.maps
        ]
        os.dup2(descriptors[0], guard.CHANNEL)
        # 1 and 2 become /dev/null, as 0 is: an open descriptor would pass every file layer.
        for target in (1, 2):
            os.dup2(0, target)
        os.closerange(guard.CHANNEL + 1, FORK_LIMIT_DESCRIPTORS)
        lock.close(setup.memory_bytes, sum(map(len, maps)), setup.cpu_s)
        request: protocol.Json = {"more": True}
        while request.get("more"):
            request = protocol.receive(guard.CHANNEL)
            protocol.send(guard.CHANNEL, {"done": module.serve(request, maps)})
    # The handler turns a program's errors into replies, so this one is ours.
    except BaseException as error:
        fault = {"status": "internal", "detail": repr(error)}
        protocol.send(guard.CHANNEL, {"done": fault})
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
