"""Runs every allowed op twice, between memory that nobody may touch: its results must be equal.

    GLIBC_TUNABLES=glibc.malloc.tcache_count=0 python tests/engine/trace/poison.py --calls 40

An op that returns memory which nobody has written to gives a child bytes of another's, and gives a program
two results. So new memory is filled with one byte in the first run and with another in the second. An op that
trusts its arguments reads outside its tensors. So the page behind each of them is out of bounds in the first
run, and the page before each in the second. The arguments are those of op_fuzz.py, so most of them are such as Python never passes. glibc
fills small blocks when it hands them out; the call above keeps it from handing out others. One line of JSON
says how many calls of each op were compared, and which differed; --record writes a summary. Linux with glibc only.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import mmap
import os
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.trace.graph import references
from selfdev_engine.engine.trace.ops import use_native_shapes
from selfdev_engine.engine.trace.replay import Replayer
from selfdev_engine.engine.trace.tree import found as tensors_in

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
from fuzzing import MADE_WITH
from op_fuzz import OPS, SHAPES, Generator, inputs_of, reader_of

M_PERTURB = -6
FILLS = (0x11, 0x77)
SPACE_BYTES, PAGE, CHUNK = 8 << 30, mmap.PAGESIZE, 400
LIBC = ctypes.CDLL(None)


def filled(value: int) -> None:
    """Let glibc fill every block that it hands out with the complement of this byte."""
    LIBC.mallopt(M_PERTURB, value)


def bits(x: Any) -> list[Any]:
    """All numbers as bits, NaN as one kind of NaN."""
    if not isinstance(x, torch.Tensor):
        return [part for y in x for part in bits(y)]
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    x = x.contiguous()
    if x.is_floating_point():
        x = torch.where(x.isnan(), torch.full_like(x, float("nan")), x)
    return [(tuple(x.shape), str(x.dtype), x.reshape(-1).view(torch.uint8).numpy().tobytes())]


def guarded(x: Any, before: bool) -> Any:
    """A copy of a tensor beside a page that nobody may touch: before its first byte or behind its last."""
    if not isinstance(x, torch.Tensor):
        return [guarded(y, before) for y in x]
    if not x.numel():
        return x
    size = x.numel() * x.element_size()
    pages = -(-size // PAGE) + 1
    memory = mmap.mmap(-1, pages * PAGE)
    start = PAGE if before else (pages - 1) * PAGE - size
    copy = torch.frombuffer(memory, dtype=x.dtype, count=x.numel(), offset=start)
    copy.copy_(x.reshape(-1))
    edge = copy.data_ptr() - PAGE if before else copy.data_ptr() + size
    assert LIBC.mprotect(ctypes.c_void_p(edge), PAGE, 0) == 0
    return copy.reshape(x.shape)


def values(reader: Any, index: int, seed: int, before: bool) -> list[Any] | str:
    """What torch computes for a node, or the kind of error that it raises."""
    torch.manual_seed(seed)
    graph = reader.graph([0])
    replayer, node = Replayer(graph, inputs_of(reader.shape), False), graph.nodes[index]
    read = references(node)
    try:
        known = dict(zip(read, (guarded(x, before) for x in replayer.values(read)), strict=True))
        return bits(replayer.compute(node, known))
    except Exception as error:
        return type(error).__name__


def compared(op: str, seed: int) -> tuple[str, str]:
    """What became of one call of an op: refused, error, equal, or what differs; and the call."""
    generator = Generator(seed)
    reader = copy.copy(reader_of(generator.shape))
    generator.size = index = len(reader.nodes)
    node = generator.node(op)
    shown = f"{generator.shape} {json.dumps(node, default=str)[:600]}"
    try:
        reader.extend([node])
    except Rejected:
        return "refused", shown
    found = []
    for before, fill in enumerate(FILLS):
        filled(fill)
        found.append(values(reader, index, seed, bool(before)))
    filled(0)
    if isinstance(found[0], str) or isinstance(found[1], str):
        return ("error" if found[0] == found[1] else "other errors"), shown
    claimed = [tuple(m.shape) for m in tensors_in(reader.metas[index], torch.Tensor)]
    real = [shape for shape, _, _ in found[0]]
    plain = not any(d.startswith("torch.complex") for d in claimed_types(reader, index))
    if plain and claimed and claimed != real:
        return f"claimed {claimed}, is {real}", shown
    types = [kind for _, kind, _ in found[0]]
    if plain and claimed and types != claimed_types(reader, index):
        return f"claimed {claimed_types(reader, index)}, is {types}", shown
    return ("equal" if found[0] == found[1] else "other numbers"), shown


def claimed_types(reader: Any, index: int) -> list[str]:
    return [str(m.dtype) for m in tensors_in(reader.metas[index], torch.Tensor)]


Result = tuple[
    Counter[str], dict[str, str]
]  # calls by how they ended; a call of each kind of fault


def compare_all(calls: Sequence[tuple[str, int]]) -> Result:
    """Compares calls (op, seed)."""
    counts, faults = Counter[str](), dict[str, str]()
    for op, seed in calls:
        ended, shown = compared(op, seed)
        sound = ended in ("refused", "error", "equal")
        counts[f"{op} {ended if sound else 'fault'}"] += 1
        if not sound:
            faults.setdefault(f"{op}: {ended}"[:200], f"call {seed}: {shown}")
    return counts, faults


def in_a_child(calls: Sequence[tuple[str, int]]) -> Result:
    """The same in a process of its own. If it dies, its halves are tried, down to the call at fault."""
    readable, writable = os.pipe()
    if (pid := os.fork()) == 0:
        resource.setrlimit(resource.RLIMIT_AS, (SPACE_BYTES, SPACE_BYTES))
        with os.fdopen(writable, "w") as file:
            json.dump(compare_all(calls), file)
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    if status == 0:
        counts, faults = json.loads(text)
        return Counter(counts), faults
    if len(calls) == 1:
        ((op, seed),) = calls
        return Counter({f"{op} fault": 1}), {f"{op}: died of {status & 127}": f"call {seed}"}
    return joined([in_a_child(calls[: len(calls) // 2]), in_a_child(calls[len(calls) // 2 :])])


def joined(results: Sequence[Result]) -> Result:
    faults = {kind: call for _, found in results for kind, call in found.items()}
    return sum((counts for counts, _ in results), Counter[str]()), faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=20, help="of each op")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--op", help="only this one")
    parser.add_argument(
        "--native",
        action="store_true",
        help="torch's C++ shape functions, as in a child and in merge",
    )
    parser.add_argument("--record", type=Path, help="write a summary to this file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.native:
        use_native_shapes()
    for shape in SHAPES:
        reader_of(shape)
    seeds = range(chosen.first, chosen.first + chosen.calls)
    calls = [(op, seed) for op in ([chosen.op] if chosen.op else OPS) for seed in seeds]
    parts = [in_a_child(calls[i : i + CHUNK]) for i in range(0, len(calls), CHUNK)]
    counts, faults = joined(parts)
    by_op: dict[str, dict[str, int]] = {}
    for word, count in counts.items():
        op, ended = word.split()
        by_op.setdefault(op, {})[ended] = count
    print(json.dumps({"counts": by_op, "faults": faults}))
    if chosen.record:
        chosen.record.write_text(json.dumps(summary(by_op, faults), indent=1) + "\n")
    return 1 if faults else 0


def summary(by_op: dict[str, dict[str, int]], faults: dict[str, str]) -> dict[str, Any]:
    """What a run has shown: which overloads were compared, and which are no function of their arguments."""
    ended = sum((Counter(counts) for counts in by_op.values()), Counter[str]())
    equal = {op: counts.get("equal", 0) for op, counts in by_op.items()}
    return {
        "what": "allowed overloads between forbidden pages, with new memory filled in two ways",
        **MADE_WITH,
        "overloads": len(by_op),
        "calls": sum(ended.values()),
        "ended": dict(ended),
        "fewest equal pairs of one overload": min(equal.items(), key=lambda one: one[1]),
        "never compared": [op for op, count in equal.items() if not count],
        "no function of graph and inputs": sorted({kind.split(":")[0] for kind in faults}),
        "faults": faults,
    }


if __name__ == "__main__":
    sys.exit(main())
