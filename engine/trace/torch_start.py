"""Loads torch without its compiler, which a locked process cannot start."""

from __future__ import annotations

import contextlib
import sys
import types


def leave_compiler_out() -> None:
    """Puts a stand-in in place of torch's compiler, for a process that compiles nothing.

    torch imports its compiler only to tell it what to leave alone: shape functions, dispatch modes,
    optimisers. That import takes as long as torch's own. A program that does compile gets an error.
    """
    stand_in = types.ModuleType("torch._dynamo")
    passing = ("disable", "allow_in_graph", "disallow_in_graph", "assume_constant_result")
    vars(stand_in).update(
        dict.fromkeys(passing, lambda given=None, *_, **__: given or (lambda later: later)),
        compiled_autograd=types.SimpleNamespace(_disable=contextlib.nullcontext),
        config=types.SimpleNamespace(
            error_on_nested_fx_trace=False
        ),  # torch.utils.checkpoint reads it
        graph_break=lambda *_, **__: None,
    )
    sys.modules[stand_in.__name__] = stand_in
