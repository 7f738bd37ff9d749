"""A driver and two readers that share one bank, each a process of its own.

python shared_bank.py BASE EXPERT     prints JSON once both have read all of it, then waits for its end
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from selfdev_engine.engine.sandbox.guard import die_with_parent
from selfdev_engine.engine.weights.selection import Selection
from selfdev_engine.engine.weights.shared import MappedBank, SharedBank


def drive(places: list[str], selection: Selection) -> SharedBank:
    bank = SharedBank(selection, selection.names[1:])
    bank.fill()
    state = os.fstat(bank.descriptor)
    found = {"inode": state.st_ino, "taken": state.st_blocks * 512, "size": bank.size_bytes}
    readers = []
    for _ in range(2):
        reader = subprocess.Popen(
            [sys.executable, "-P", __file__, *places, json.dumps(bank.to_json())],
            pass_fds=[bank.descriptor],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdout is not None
        readers.append({"pid": reader.pid, "sums": json.loads(reader.stdout.readline())})
    print(json.dumps({**found, "readers": readers}), flush=True)
    return bank


def read(selection: Selection, told: str) -> MappedBank:
    """Print the sum of each model's tensors, which takes all pages in; they stay as long as the result."""
    mapped, sums = MappedBank(selection, **json.loads(told), pin=False), dict[str, list[float]]()
    for name in sorted(mapped.names):
        tensors = mapped.tensors(name)
        sums[name] = [float(t.double().sum()) for t in (tensors.base, *tensors.experts.values())]
    print(json.dumps(sums), flush=True)
    return mapped


def main() -> None:
    die_with_parent()
    base, expert, *told = sys.argv[1:]
    selection = Selection.open(base, {"a": expert}, "mlp")
    kept = read(selection, told[0]) if told else drive([base, expert], selection)
    signal.pause()
    del kept


if __name__ == "__main__":
    main()
