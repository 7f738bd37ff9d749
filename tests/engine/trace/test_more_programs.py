"""Hundreds of short programs, as language models write them, against eager torch.

tests/corpus/more.txt has a program in each part: its name after `====`, then the body of merge_models, in
which a, b and c are the task vectors and vs their list. What stands before `----` comes before the function.
`make test` runs every tenth; the slow test runs all, at five shapes. No program may be wrong, or refused
where eager torch runs it.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

CORPUS = Path(__file__).parents[2] / "corpus"
HEAD = """
import math
import torch
import numpy as np
import torch.nn.functional as F
from torch import nn
from dataclasses import dataclass, field
from functools import reduce, partial, lru_cache
from itertools import combinations, accumulate, chain
from collections import OrderedDict, defaultdict, namedtuple
from typing import Dict, List, Optional
"""
START = "def merge_models(model_dict, device):\n    vs = a, b, c = list(model_dict.values())\n"
SHAPES, SCALE = [(50,), (80, 80), (1, 90), (90, 1)], 500.0


def programs(file: str) -> dict[str, str]:
    """The texts of a file's programs, by name."""
    found = {}
    for part in (CORPUS / file).read_text().split("==== ")[1:]:
        name, text = part.split("\n", 1)
        before, _, body = text.rpartition("----\n")
        found[name] = f"{HEAD}\n\n{before}\n\n{START}{textwrap.indent(body, '    ')}"
    return found


# What dtypes make of numbers, in dtypes.txt, is run whole.
DTYPES = programs("dtypes.txt")
PROGRAMS = programs("more.txt")


def check(judge, name: str, shape: tuple[int, ...], scale: float) -> None:
    found = judge.verdict((PROGRAMS | DTYPES)[name], shape, scale=scale)
    assert not found.faults, (found.tier, found.reason, found.faults)
    # At a shape that torch refuses, the program may be given the vector; and a result of another shape is
    # no fault of torch.
    if not found.eager_error and not found.reason.startswith("shape:"):
        assert found.tier != "rejected", found.reason


def test_there_are_hundreds():
    assert len(PROGRAMS) >= 390


@pytest.mark.parametrize("name", [*list(PROGRAMS)[::10], *DTYPES])
def test_right_or_refused_by_eager_too(judge, name):
    check(judge, name, (24, 40), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS | DTYPES)
def test_right_at_all_shapes(judge, name):
    check(judge, name, (24, 40), 1.0)
    for shape in SHAPES:
        check(judge, name, shape, SCALE)
