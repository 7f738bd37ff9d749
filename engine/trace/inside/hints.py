"""Hints for rejected programs: what to write instead, for people and for training."""

from __future__ import annotations

import difflib
import re
import sys
import types
from typing import Any

import torch

from ...errors import MAX_TEXT

# Names that programs give to modules.
MODULES = {"np": "numpy", "F": "torch.nn.functional", "nn": "torch.nn"}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

HINTS = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        (
            r"torch\.save|pickl|Parent directory|inline_container",
            "return the merged tensor instead of saving it; clone() or copy.deepcopy copies one",
        ),
        (
            r"os\.(system|exec|fork|posix_spawn|spawn|kill)|subprocess|pty\.",
            "no processes: a merge only computes, here, with torch",
        ),
        (
            r"socket|urllib|ftplib|smtplib|getaddrinfo|gethostby",
            "no network: all that a merge needs is in model_dict",
        ),
        (r"ctypes", "no C functions: use torch or numpy"),
        (r"start new thread", "no threads: torch operations work on whole tensors at once"),
        (
            r"compiled with CUDA|no such device|No CUDA|NVIDIA driver|'(cuda|mps|xpu)",
            "leave tensors where they are, or use .to(device): `device` is an argument",
        ),
        (
            r"open|tempfile|shutil|os\.\w+|: '/|PermissionError",
            "no files and no system: work on the tensors in model_dict and return one",
        ),
        (
            r"Boolean value of Tensor with more",
            "choose by element with torch.where(condition, x, y), or reduce: .any(), .all()",
        ),
        (r"a Tensor with \d+ elements cannot be converted", "reduce it first: .mean(), .norm()"),
        (
            r"not a tensor",
            "merge_models is called once for each tensor: return one, of the shape of model_dict's values",
        ),
        (
            r"the result has shape",
            "return a tensor of that shape: keep element-wise what is element-wise, or use keepdim=True",
        ),
        (
            r"unexpected keyword argument|missing \d+ required positional",
            "the function is merge_models(model_dict, device)",
        ),
    )
)


def with_hint(text: str, error: BaseException | None = None) -> str:
    """The text, followed by what to write instead if something near is known."""
    hint = near_name(error) if error is not None else None
    if hint is None:
        hint = next((hint for pattern, hint in HINTS if pattern.search(text)), None)
    if not hint or hint in text:
        return text
    return f"{text[: MAX_TEXT - 2 - len(hint)]}; {hint}"


def near_name(error: BaseException) -> str | None:
    """The nearest name that exists, if the error is about one that does not."""
    if isinstance(error, ModuleNotFoundError):
        return missing_module(str(error.name))
    if isinstance(error, AttributeError) and error.name:
        return near(error.name, dir(error.obj))
    if isinstance(error, NameError) and error.name:
        return missing_name(error, error.name)
    if isinstance(error, IndexError) and "out of range" in str(error):
        return count_of_experts(error)
    if isinstance(error, KeyError) and error.args:
        return "the experts' names are the keys of model_dict: use .values() or .items()"
    return None


def missing_module(name: str) -> str | None:
    if name.split(".")[0] in sys.stdlib_module_names:
        return "this part of the standard library is not loaded here: no merge needs it"
    return near(name, sys.modules, "only the standard library, numpy and torch are here")


def missing_name(error: BaseException, name: str) -> str | None:
    """What to write for a name that nothing has defined: an import, or the nearest name."""
    if module := MODULES.get(name, name if name in sys.modules else None):
        line = f"import {module}" if name == module else f"import {module} as {name}"
        return f"write {line} at the top"
    if name in dir(torch):
        return f"the nearest: torch.{name}"
    return near(name, names_in_sight(error))


def count_of_experts(error: BaseException) -> str | None:
    """How many experts there are, if the program holds a list or a dictionary of so many tensors."""
    frame = innermost(error)
    counts = [
        len(held)
        for held in (frame.f_locals.values() if frame is not None else ())
        if isinstance(held, dict)
        and held
        and all(isinstance(t, torch.Tensor) for t in held.values())
    ]
    if not counts:
        return None
    count = NUMBERS[counts[0]] if counts[0] < len(NUMBERS) else str(counts[0])
    are = "is one expert" if counts[0] == 1 else f"are {count} experts"
    return f"there {are}: the length of model_dict, counted from 0"


def near(name: str | None, names: Any, otherwise: str | None = None) -> str | None:
    found = difflib.get_close_matches(str(name), [n for n in names if isinstance(n, str)], 2, 0.6)
    said = f"the nearest: {', '.join(found)}" if found else None
    return "; ".join(filter(None, (otherwise, said))) or None


def names_in_sight(error: BaseException) -> set[str]:
    """Local and global names at the place where a name was not found."""
    frame = innermost(error)
    return {*frame.f_locals, *frame.f_globals} if frame is not None else set()


def innermost(error: BaseException) -> types.FrameType | None:
    """The frame that raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame if trace is not None else None
