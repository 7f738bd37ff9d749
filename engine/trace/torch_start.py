"""Loads torch without its compiler, which a locked process cannot start."""

from __future__ import annotations

import contextlib
import sys
import types


def leave_compiler_out() -> None:
    """A stand-in for torch's compiler, in a process that compiles nothing.

    torch imports it (as long as torch itself takes) only to tell it what to pass by: shape
    functions, dispatch modes, optimisers. Whoever does compile is told that it is not there.
    """
    stand_in = types.ModuleType("torch._dynamo")
    passing = ("disable", "allow_in_graph", "disallow_in_graph", "assume_constant_result")
    vars(stand_in).update(
        dict.fromkeys(passing, lambda given=None, *_, **__: given or (lambda later: later)),
        compiled_autograd=types.SimpleNamespace(_disable=contextlib.nullcontext),
        config=types.SimpleNamespace(error_on_nested_fx_trace=False),  # read by checkpoint
        graph_break=lambda *_, **__: None,
    )
    sys.modules[stand_in.__name__] = stand_in
