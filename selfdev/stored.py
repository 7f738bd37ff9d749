"""Reads the result of a loop from run.db, and says what can be said where the run was cut off before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.records.forms import Form
from ..engine.records.store import Store

SCORE: Form = {"score": "number", "low": "number", "high": "number", "n?": "whole"}
MODEL: Form = {"id": "text", "dev?": SCORE, "test?": SCORE}
COMPARED: Form = {
    **dict.fromkeys(("a", "b", "b_is?"), "text"),
    **dict.fromkeys(("difference", "p", "p_holm", "low?", "high?"), "number"),
}
REACHED: Form = dict.fromkeys(
    ("best?", "mean?", "samples?", "all_samples?", "all_scored?"), "number"
)
# What is read of the object that `run --json` printed; an older version may lack some of it.
RESULT: Form = {
    "verdict?": "text",
    "arm_verdict?": "text",
    "base": MODEL,
    "experts": {"*": MODEL},
    "baselines": {"*": MODEL},
    "best?": MODEL,
    "tested?": ({**MODEL, "dev": SCORE},),
    "comparisons?": (COMPARED,),
    "arm_comparisons?": (COMPARED,),
    "budget?": {"scored": "whole", "arms": {"*": REACHED}},
}


def result_of(store: Store) -> dict[str, Any] | None:
    """Return the result of a loop; None before its end. UsageError for one of another form."""
    return store.setting("result", RESULT)


def cut_off(name: str, test: Mapping[str, Any]) -> str:
    """Say what is known of a best program that was tested before its run was cut off."""
    share = f"{test['score']:.3f} [{test['low']:.3f}, {test['high']:.3f}]"
    return (
        f"The final test was begun and not ended: the best program by dev, {name}, has {share} on test, and "
        "is not compared with the known models yet. `run` with --resume ends it."
    )
