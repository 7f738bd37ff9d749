"""The process that runs math-verify: reads lines [found, wanted], writes "true" or "false".

It limits its own memory; the process that started it limits its time. It ends when its input ends.
"""

from __future__ import annotations

import json
import os
import resource
import sys

MEMORY_BYTES = 2 << 30


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    # Text that libraries print must not look like an answer.
    os.dup2(2, 1)
    import math_verify  # pyright: ignore[reportMissingImports]

    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        found, wanted = json.loads(line)
        print(json.dumps(same(math_verify, found, wanted)), file=answers, flush=True)


def same(library: object, found: str, wanted: str) -> bool:
    """Ask math-verify without its own timeouts: they are signals and do not stop everything."""
    parse, verify = library.parse, library.verify  # type: ignore[attr-defined]
    try:
        gold, answer = (
            parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (wanted, found)
        )
        return bool(verify(gold, answer, timeout_seconds=None))
    except (MemoryError, RecursionError):
        return False


if __name__ == "__main__":
    main()
