"""The layers around a child: system calls, files, network, processes, memory, time. Linux only.

Each function applies one layer to the calling process and raises OSError if the kernel refuses. The
first wall is the seccomp allow-list. The others stand behind it, so that an attack should meet two.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct

libc = ctypes.CDLL(None, use_errno=True)

# The child's whole environment. Hashing is fixed, so that sets iterate alike everywhere. No GPU is
# visible: torch's autograd would start a thread for each before the fork. Tensors of up to 32 MiB are
# made from a heap that is kept and has huge pages: fresh pages for each result took a third of the time.
ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432"
    ":glibc.malloc.trim_threshold=134217728",
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
}
CHANNEL = 3  # the child's only descriptor besides 0, 1 and 2, which are /dev/null
STACK_BYTES = 8 << 20
NOBODY = 65534

# The system calls that a computing child needs, by name, with their numbers on x86_64 and aarch64:
# memory, time, its own signals, the channel, exit. None names a path, a socket or another process.
ALLOWED_CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "mmap": (9, 222),
    "mprotect": (10, 226),  # oneDNN compiles kernels
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# REFUSE makes the call fail with EPERM, so that Python raises an error with a line.
KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
LOAD_WORD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_IF_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
X32_BIT = 0x40000000
# Where the kernel's record of a call has its number, its ABI, and the fourth argument's low half.
NUMBER_AT, ARCHITECTURE_AT, FOURTH_ARGUMENT_AT = 0, 4, 40
MAP_SHARED = 1

USER_NAMESPACE = 0x10000000
NAMESPACES = {
    "net": 0x40000000,
    "ipc": 0x08000000,
    "mount": 0x00020000,
    "uts": 0x04000000,
    "pid": 0x20000000,
}
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SYS_LANDLOCK_CREATE, SYS_LANDLOCK_RESTRICT, SYS_MSEAL = 444, 446, 462
PROT_READ, PROT_WRITE, MAP_PRIVATE = 1, 2, 2
MAP_FAILED = ctypes.c_void_p(-1).value


def call(name: str, *args: object) -> None:
    """Calls a libc function. Raises OSError if it returns a negative number."""
    words = (ctypes.c_ulong(a) if isinstance(a, int) else a for a in args)
    if getattr(libc, name)(*words) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def seccomp_filter() -> tuple[ctypes.Array[ctypes.c_char], bytes]:
    """The filter's program, which the caller must keep alive, and the structure for the kernel.

    A call by another ABI (int 0x80, x32) kills. A call on the list passes. All others get EPERM, and
    so does an mmap of shared memory: the limit on a process's own memory does not count it.
    """
    column, architecture = MACHINES[platform.machine()]
    mmap = ALLOWED_CALLS["mmap"][column]
    numbers = [pair[column] for name, pair in ALLOWED_CALLS.items() if name != "mmap"]
    n = len(numbers)

    def instruction(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, k)

    lines = [instruction(LOAD_WORD, ARCHITECTURE_AT), instruction(JUMP_EQUAL, architecture, 1, 0)]
    lines += [instruction(RETURN, KILL), instruction(LOAD_WORD, NUMBER_AT)]
    lines += [instruction(JUMP_AT_LEAST, X32_BIT, n + 4, 0), instruction(JUMP_EQUAL, mmap, 0, 2)]
    lines += [instruction(LOAD_WORD, FOURTH_ARGUMENT_AT)]
    lines += [instruction(JUMP_IF_BITS, MAP_SHARED, n, n + 2)]
    lines += [instruction(JUMP_EQUAL, number, n + 1 - i, 0) for i, number in enumerate(numbers)]
    lines += [instruction(RETURN, action) for action in (REFUSE, KILL, ALLOW)]
    program = ctypes.create_string_buffer(b"".join(lines))
    return program, struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(program))


def install_seccomp(structure: bytes) -> None:
    call("prctl", PR_SET_SECCOMP, 2, structure)


def no_new_privileges() -> None:
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def landlock_version() -> int:
    """The ABI version of the kernel's Landlock; 0 if it has none."""
    return max(0, libc.syscall(SYS_LANDLOCK_CREATE, None, 0, 1))


def restrict_files() -> None:
    """Landlock: forbids files, TCP ports, and signals and abstract sockets beyond this domain."""
    version = landlock_version()
    rights = 13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16
    rules = struct.pack("QQQ", (1 << rights) - 1, 3, 3)
    rules = rules[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(SYS_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock: not available")
    call("syscall", SYS_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def enter_namespaces() -> None:
    """Makes network, ipc, mount, uts and pid namespaces. The caller goes on in them as PID 1.

    Without the right to make them it makes a user namespace too. The outer process waits for the
    inner one and ends with its code.
    """
    try:
        call("unshare", sum(NAMESPACES.values()))
    except OSError:
        enter_user_namespace()
    if pid := os.fork():
        os.closerange(0, 64)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)


def enter_user_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    call("unshare", sum(NAMESPACES.values()) | USER_NAMESPACE)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {uid} 1"),
        ("gid_map", f"{NOBODY} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def give_up_root() -> None:
    """Gives up uid 0, which limits on processes do not bind. Keeps it if the uid may not change."""
    if os.getuid() == 0:
        with contextlib.suppress(PermissionError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)


def seal(address: int, size_bytes: int) -> bool:
    """Keeps a map as it is for this process and its children. Tells whether the kernel can (6.10)."""
    words = ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), ctypes.c_ulong(0)
    return libc.syscall(SYS_MSEAL, *words) == 0


def seal_all_maps() -> None:
    """Seals what this process has mapped: a child that unmapped torch's libraries would have their room.

    What is freed there later stays mapped, and is used again.
    """
    with open("/proc/self/maps") as file:
        ranges = [line.split(" ", 1)[0].split("-") for line in file]
    for start, end in ranges:
        seal(int(start, 16), int(end, 16) - int(start, 16))


def map_sealed(
    descriptor: int, offset: int, size_bytes: int, shared: bool
) -> ctypes.Array[ctypes.c_char]:
    """Maps a part of a file for the rest of this process: for reading, or shared for writing.

    It is sealed, so that its address space is never free for memory of the process's own. Kernels
    before 6.10 leave it unsealed.
    """
    libc.mmap.restype = ctypes.c_void_p
    kinds = (PROT_READ | PROT_WRITE, MAP_SHARED) if shared else (PROT_READ, MAP_PRIVATE)
    words = (ctypes.c_size_t(size_bytes), *kinds, descriptor, ctypes.c_long(offset))
    address = libc.mmap(None, *words)
    if address in (None, MAP_FAILED):
        code = ctypes.get_errno()
        raise OSError(code, f"mmap: {os.strerror(code)}")
    seal(address, size_bytes)
    return (ctypes.c_char * size_bytes).from_address(address)


def die_with_parent() -> None:
    call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL))


def drop_capabilities() -> None:
    """Drops all capabilities. A user namespace grants a full set."""
    call("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))


def hide_from_debuggers() -> None:
    call("prctl", PR_SET_DUMPABLE, 0)


def limit_resources(address_space_bytes: int, data_bytes: int, cpu_s: int) -> None:
    """Limits this process. `data_bytes` are its own, writable ones; mapped files are not among them."""
    limits = {
        "AS": address_space_bytes,
        "DATA": data_bytes,
        "NOFILE": CHANNEL + 1,
        "NPROC": 0,
        "FSIZE": 0,
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
        "CPU": cpu_s,
        "STACK": STACK_BYTES,
    }
    for name, limit in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(number)
        tightest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (tightest, tightest))
