"""The process that runs math-verify: reads lines [found, wanted], writes "true" or "false".

An answer is text of a language model, and parts of sympy evaluate text. So this process locks itself in as
merge programs are, before it reads the first answer. The process that started it limits the time of an
answer. It ends when its input ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import resource
import sys
import warnings

from ...sandbox import guard

MEMORY_BYTES = 2 << 30
CPU_S = 1_000_000
# Parts of sympy that it imports when an answer needs them: afterwards no file opens.
PARTS = """
assumptions calculus combinatorics concrete core discrete functions integrals logic matrices ntheory
polys series sets simplify solvers
""".split()
# Two answers for which sympy imports numpy's parts and math-verify its parser's tables.
WARM = ("\\sum_{n=1}^{\\infty} \\frac{1}{n^2}", "\\{1, 2\\}")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    # Text that libraries print must not look like an answer.
    os.dup2(2, 1)
    import math_verify  # pyright: ignore[reportMissingImports]

    preload(math_verify)
    lock()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        found, wanted = json.loads(line)
        print(json.dumps(same(math_verify, found, wanted)), file=answers, flush=True)


def preload(library: object) -> None:
    """Import what an answer may need."""
    warnings.simplefilter("ignore")
    for part in PARTS:
        package = importlib.import_module(f"sympy.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"sympy.{part}."):
            if ".tests" not in module.name and ".benchmarks" not in module.name:
                importlib.import_module(module.name)
    same(library, *WARM)


def lock() -> None:
    """Take on the layers that this host grants: no files, network or processes from here on."""
    layers = [
        guard.give_up_root,
        guard.no_new_privileges,
        guard.drop_capabilities,
        guard.hide_from_debuggers,
        guard.restrict_files,
        lambda: guard.limit_resources(MEMORY_BYTES, MEMORY_BYTES, CPU_S),
        install_filter,
    ]
    for layer in layers:
        with contextlib.suppress(OSError):
            layer()


def install_filter() -> None:
    # The program must live until the kernel has copied it.
    _program, structure = guard.seccomp_filter()
    guard.install_seccomp(structure)


def same(library: object, found: str, wanted: str) -> bool:
    """Ask math-verify without its own timeouts: they are signals and do not stop everything."""
    parse, verify = library.parse, library.verify  # type: ignore[attr-defined]
    try:
        gold, answer = (
            parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (wanted, found)
        )
        return bool(verify(gold, answer, timeout_seconds=None))
    except (MemoryError, RecursionError, OSError, ImportError):  # the last two: not in the cage
        return False


if __name__ == "__main__":
    main()
