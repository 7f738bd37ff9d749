"""Experts and known methods as candidates. Grids are those that the paper tunes (section 3.1)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..engine.errors import UsageError
from .methods import load_method

# The paper tries these weights for each expert; zero is not among them.
RATIOS = (0.2, 0.4, 0.6)
# The method that is tuned again for other experts.
TUNED = "task_arithmetic"
GRIDS = (TUNED, "ties")
# A grid has all combinations of weights: with more experts it is not even written down.
MOST_EXPERTS = 10


def check_grid(name: str, num_experts: int) -> None:
    """UsageError where the method's grid has too many settings for so many experts."""
    if name in GRIDS and num_experts > MOST_EXPERTS:
        raise UsageError(
            f"{name} is tuned for {MOST_EXPERTS} experts at most: of {num_experts} its grid has "
            f"{len(RATIOS)}^{num_experts} settings"
        )


def baseline_candidates(name: str, num_experts: int) -> list[dict[str, object]]:
    """Rows for the store, one for each setting of the method. UsageError for a grid that is too large."""
    check_grid(name, num_experts)
    text = load_method(name)
    if name not in GRIDS:
        return [{"id": name, "source": text, "params": {}}]
    grid = itertools.product(RATIOS, repeat=num_experts)
    return [
        {
            "id": f"{name}-{'-'.join(f'{ratio:g}' for ratio in ratios)}",
            "source": text,
            "params": {"weights": ",".join(f"{ratio:g}" for ratio in ratios)},
        }
        for ratios in grid
    ]


def expert_candidates(names: Sequence[str]) -> list[dict[str, object]]:
    """Rows for the store: each expert itself, as the merge of its whole task vector alone."""
    text = "def merge_models(model_dict, device, expert=''):\n    return model_dict[expert].to(device)\n"
    return [{"id": f"expert-{n}", "source": text, "params": {"expert": n}} for n in names]


def known_candidates(experts: Sequence[str], methods: Sequence[str]) -> list[dict[str, object]]:
    """Rows for the store: every expert, then every setting of these methods."""
    rows = expert_candidates(experts)
    for name in methods:
        rows += baseline_candidates(name, len(experts))
    return rows
