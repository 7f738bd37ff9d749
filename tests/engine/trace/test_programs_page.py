"""The examples of docs/programs.md are in the tier under whose heading they stand, and equal to eager torch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "programs.md").read_text()
EXAMPLES = re.findall(r"## (Fused|Hybrid|Eager|Refused)\n.*?```python\n(.*?)```", PAGE, re.DOTALL)


def test_each_tier_has_an_example():
    assert [tier for tier, _ in EXAMPLES] == ["Fused", "Hybrid", "Eager", "Refused"]


@pytest.mark.parametrize(("tier", "text"), EXAMPLES[:3])
def test_accepted_and_right(judge, tier, text):
    found = judge.verdict(text)
    assert found.tier == tier.lower(), found.reason
    assert not found.faults


def test_refused_in_words(judge):
    tier, reason, _ = judge.update(EXAMPLES[3][1], judge.tensors((24, 40)))
    assert (tier, reason.split(":")[0]) == ("rejected", "violation")
    assert "return the merged tensor instead of saving it" in reason
