"""What commands print for people: a program's words stay in their line."""

from __future__ import annotations

import pytest
from selfdev_engine.selfdev.cli.screen import line

FORGED = "x\nbase                         1.000 [0.999, 1.000]\x1b[2J\x07\u2028end"


def row(**more):
    empty = dict.fromkeys(("score", "low", "high", "duplicate_of", "n", "line", "kind", "detail"))
    return {"id": "p", "status": "rejected", **empty, **more}


@pytest.mark.parametrize("key", ["detail", "id"])
def test_a_programs_words_forge_no_line(key):
    text = line(row(kind="runtime", line=3, **{"detail": "why", key: FORGED}))
    assert text.isprintable() and "\\n" in text and "rejected (runtime), line 3" in text


def test_a_failure_of_ours_has_no_kind():
    text = line(row(status="failed", detail="KeyError: 'ours'"))
    assert text.split() == ["p", "failed:", "KeyError:", "'ours'"]
