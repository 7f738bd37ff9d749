"""Runs a module in a process that ends with the one that started it, however that one ends.

    python -m selfdev_engine.engine.sandbox.bound PARENT MODULE ARGUMENT...

It is bound before the module's imports, which may take many seconds.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from .guard import die_with_parent


def bound_words(parent: int, module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module` bound to the process `parent`, which has to start it."""
    return [sys.executable, "-P", "-m", __name__, str(parent), module, *arguments]


def main(words: Sequence[str]) -> None:
    """Run words[1] with the arguments that follow, as a child of the process words[0]."""
    die_with_parent()
    if os.getppid() != int(words[0]):
        # It has ended meanwhile, and nobody would tell this process.
        sys.exit("the process that started this one has ended")
    sys.argv[:] = list(words[1:])
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
