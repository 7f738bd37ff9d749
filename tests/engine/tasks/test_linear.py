"""A text of a model costs time in proportion to its length: no pattern and no reader looks at it again and again."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
import time
from collections.abc import Callable
from functools import partial

import pytest
from selfdev_engine.engine import program
from selfdev_engine.engine.errors import Rejected
from selfdev_engine.engine.tasks import grading, rows
from selfdev_engine.engine.tasks.grading import latex, numeric, sequences, strict
from selfdev_engine.engine.tasks.grading.equal_math import without_unit
from selfdev_engine.engine.tasks.grading.plain import plain

# A short and a long text, and how much more the long one may take: in proportion it would be ten times.
SHORT, LONG, MOST = 2_000, 20_000, 30
# Less than so many seconds for a long text are not looked at: quadratic work takes more.
UNSEEN_S = 0.05
UNITS = r"""1|1,|1,1|12,34,|123,|100,100,|1.|.|-|\!|{|}|$|$$|\(|\[|\boxed|\boxed{|\boxed{1}, |answer is |**Answer:** |\text{|\text{ |and |,and|(A) |~|a|A |_|2^{|\frac{|\frac1|.1\bar{|#### |####...|#### 1. a|#### 1x|½|1 000 |000 |`|```|x = |1/|1e1|1!|\sqrt{|2\sqrt{3}|√|€ |merge_models """.split(
    "|"
)
UNITS += [" ", "\n", "\t", "\xa0", "\n- ", "\n```\n", "a\u0301\u0316", "\u0316\u0301"]
# Patterns that are only asked about the whole of a text, or about one place in it.
AT_ONE_PLACE = """
BASED CALCULATION CHOICE HALF HEADING JOINT LABEL NAME NAMED NEGATIVE OPENING UNFINISHED WHOLE
""".split()


def spent_s(work: Callable[[str], object], text: str) -> float:
    start = time.thread_time()
    work(text)
    return time.thread_time() - start


def check_linear(work: Callable[[str], object], unit: str) -> None:
    """The time for a long text is at most MOST times that for a short one, in the best of three tries."""
    short, long = ("The answer is 1" + unit * (size // len(unit)) + "y" for size in (SHORT, LONG))
    for _ in range(3):
        if (long_s := spent_s(work, long)) < UNSEEN_S:
            return
        if (ratio := long_s / max(spent_s(work, short) for _ in range(3))) <= MOST:
            return
    pytest.fail(f"{unit!r} ten times as often takes {ratio:.0f} times as long")


def patterns() -> dict[str, re.Pattern[str]]:
    """All patterns of the modules that read what models write."""
    inside = pkgutil.iter_modules(grading.__path__, f"{grading.__name__}.")
    modules = [grading, rows, program, *(importlib.import_module(m.name) for m in inside)]
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": value
        for module in modules
        for name, value in {**vars(module), **getattr(module, "CLOSING", {})}.items()
        if isinstance(value, re.Pattern)
    }


def test_patterns_are_found():
    assert {"plain.TIGHT", "numeric.NUMBER", "grading.CALLED", "program.OPENING"} <= set(patterns())


@pytest.mark.parametrize("name", patterns())
def test_a_pattern_takes_linear_time(name):
    pattern = patterns()[name]

    def work(text: str) -> None:
        if name.rpartition(".")[2] in AT_ONE_PLACE:
            pattern.fullmatch(text)
            pattern.match(text)
        else:
            for _ in pattern.finditer(text):
                pass

    for unit in UNITS:
        check_linear(work, unit)


def extracted(text: str) -> None:
    with contextlib.suppress(Rejected):
        program.extract(text)


READERS: dict[str, Callable[[str], object]] = {
    "plain": plain,
    "numbers_in": numeric.numbers_in,
    "formulas": latex.formulas,
    "boxes": latex.boxes,
    "sequence_of": sequences.sequence_of,
    "without_unit": without_unit,
    "reference": partial(strict.strict_gsm8k, "#### 5"),
    "strict_math": lambda text: strict.strict_math(text, text),
    "extract": extracted,
    "gsm8k": lambda text: grading.grade("gsm8k", text, "#### 5"),
    "math": lambda text: grading.grade("math", text, "\\boxed{5}"),
    "numbers": lambda text: grading.grade("numbers", text, "5"),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_takes_linear_time(reader, monkeypatch):
    # math-verify has limits of its own.
    module = importlib.import_module(f"{grading.__name__}.equal_math")
    monkeypatch.setattr(module, "verified", lambda found, wanted: False)
    for unit in UNITS:
        check_linear(READERS[reader], unit)
