"""A model card says what was merged, and nothing in a program or a name leaves its place on the page."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from selfdev_engine.engine.output.card import model_card, span
from selfdev_engine.engine.plans.plan import Plan
from selfdev_engine.engine.program import Program

BODY = "def merge_models(d, device):\n    return sum(d.values())\n"


def card(code: str = BODY, expert: str = "x", include: str = "mlp", **params: Any) -> str:
    base, other = (SimpleNamespace(known_as=name) for name in ("base", expert))
    selection: Any = SimpleNamespace(
        base=base, experts={expert: other}, models=(base, other), include=include
    )
    return model_card(Program(code, code, params=params), selection, Plan({}, "cafe"), "beef")


def fenced(page: str) -> str:
    """The content of the first fenced block, as CommonMark finds its end."""
    lines = page.split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("```"))
    ticks = len(lines[at]) - len(lines[at].lstrip("`"))
    ends = (
        i
        for i, line in enumerate(lines[at + 1 :], at + 1)
        if re.fullmatch(rf" {{0,3}}`{{{ticks},}}[ \t]*", line)
    )
    return "\n".join(lines[at + 1 : next(ends)])


@pytest.mark.parametrize("ticks", [3, 4, 5, 40])
@pytest.mark.parametrize("before", ["", "   ", "x = '''\n"])
def test_a_program_stays_in_its_fence(ticks: int, before: str):
    code = f"{BODY}{before}{'`' * ticks}\n# <script>alert(1)</script>\n# [x](javascript:y)"
    page = card(code)
    assert fenced(page) == code
    assert page.rstrip().endswith("`" * (ticks + 1))


def test_control_characters_are_escaped():
    page = card(BODY + "# \x1b[2J\x07 \u202e \x9b\r\n", expert="a\x1b]0;x\x07")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)
    assert "# \\x1b[2J\\x07 \\u202e \\x9b" in page


HOSTILE = ("a|b", "`", "``x``", "<img src=x>", "x\n# heading", "[a](b)", "", "\\", "*b*", "\ud800")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_stay_in_their_cells(text: str):
    page = card(expert=text or "x", include=text, note=text)
    rows = [line for line in page.split("\n") if line.startswith("|")]
    assert len(rows) == 4
    for row in rows:
        assert row.count("|") == 3
    page.encode()  # It can be written.
    without_code = re.sub(r"(`+) .*? \1(?!`)|`[^`]*`", "", page.split("# A merged model")[1])
    assert "<" not in without_code.split("````")[0] and "[" not in without_code.split("````")[0]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_span_is_one_piece_of_code(text: str):
    """Its delimiter occurs nowhere inside, so it ends where it should."""
    found = span(text)
    ticks = found[: len(found) - len(found.lstrip("`"))]
    inside = found[len(ticks) : -len(ticks)]
    assert inside and "\n" not in inside and ticks not in re.findall("`+", inside)


def test_the_head_is_yaml():
    head = card(expert='x: "\n- evil: [').split("---")[1]
    assert yaml.safe_load(head)["tags"] == ["merge", "selfdev-engine"]
