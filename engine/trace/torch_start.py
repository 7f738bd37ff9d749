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


def stand_in_for_settings() -> None:
    """Lets programs switch deterministic algorithms on and call jvp, which only touch the compiler.

    torch sets an option of its compiler for the one, and compiles formulas that few operations need
    for the other.
    """
    compiler, options = types.ModuleType("torch._inductor"), types.ModuleType("config")
    vars(compiler)["config"] = options
    sys.modules |= {
        compiler.__name__: compiler,
        f"{compiler.__name__}.config": options,
        "torch._decomp.decompositions_for_jvp": types.ModuleType("decompositions_for_jvp"),
    }
