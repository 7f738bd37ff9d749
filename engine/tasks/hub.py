"""Reads GSM8K and MATH from the Hugging Face hub, in the order of lm-evaluation-harness."""

from __future__ import annotations

import importlib.util

from ..errors import MissingExtra, UsageError, first_line
from .rows import Row

# Characters of an error that are shown.
MOST_SAID = 160
SOURCES = {
    "gsm8k": ("openai/gsm8k", ("main",)),
    "math": (
        "EleutherAI/hendrycks_math",
        (
            *("algebra", "counting_and_probability", "geometry", "intermediate_algebra"),
            *("number_theory", "prealgebra", "precalculus"),
        ),
    ),
}


def rows(name: str, split: str) -> list[Row]:
    """All rows of a split. UsageError if they are not cached and cannot be downloaded."""
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtra("datasets", "eval")
    import datasets

    place, configs = SOURCES[name]
    found: list[Row] = []
    for config in configs:
        try:
            part = datasets.load_dataset(place, config, split=split)
        except Exception as error:  # its libraries have errors of their own
            said = first_line(error, MOST_SAID) or type(error).__name__
            raise UsageError(
                f"--task {name}: {place} cannot be had from the hub ({said}); give "
                f"--data DIR with {name}/train.jsonl and {name}/test.jsonl"
            ) from None
        found += [(f"{place}/{config}/{split}:{i + 1}", dict(row)) for i, row in enumerate(part)]
    return found
