"""The process that runs math-verify: a line [found, wanted] in, "true" or "false" out.

Memory is limited here, time by who started it. It ends with its input.
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
    os.dup2(2, 1)  # what libraries print is no answer
    import math_verify  # pyright: ignore[reportMissingImports]

    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        found, wanted = json.loads(line)
        print(json.dumps(same(math_verify, found, wanted)), file=answers, flush=True)


def same(library: object, found: str, wanted: str) -> bool:
    """Its own timeouts are off: they are signals, and do not stop everything."""
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
