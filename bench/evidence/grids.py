"""Asks on the zoos of the evidence what a grid of task arithmetic with zeros finds, for docs/results.md.

python -m selfdev_engine.bench.evidence.grids FOLDER, in the root of the repository, after the evidence itself. The
grid has as many settings as `main` has scored programs on the average; its best by dev is scored on test. It was
added when the runs were made, so it describes and tests nothing. What is kept is not run again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from .__main__ import RECIPE, RESULTS, SEEDS, command, config_of, kept_as

# All settings of three weights in steps of 0.1 up to 0.6.
SETTINGS = 7**3


def grid_config(recipe: dict[str, Any], zoo: Path, seed: int) -> dict[str, Any]:
    """Return the config of one iteration with the grid's arm; `main` writes as many programs and learns nothing."""
    return {
        **config_of(recipe, zoo, seed),
        "iterations": 1,
        "samples": SETTINGS,
        "learn": "none",
        "test": {"top": 1},
        "arms": {"grid": "task_arithmetic_with_zeros"},
    }


def grid_of(folder: Path, seed: int) -> dict[str, Any]:
    """Return what the grid found on one zoo: its best, with dev and test."""
    zoo, recipe = folder / f"zoo-{seed}", yaml.safe_load(RECIPE.read_text())
    name = f"grid-{seed}"
    if not (RESULTS / f"{name}.json").is_file():
        command("zoo", zoo, "--seed", seed)
    kept = kept_as(name, folder, grid_config(recipe, zoo, seed), RESULTS)
    return kept["result"]["arms"]["grid"]["best"]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    best = {seed: grid_of(folder, seed) for seed in SEEDS}
    for seed, one in best.items():
        print(f"zoo {seed}: dev {one['dev']['score']:.3f}, test {one['test']['score']:.3f}")
    print(f"test, mean over zoos: {fmean(one['test']['score'] for one in best.values()):.4f}")


if __name__ == "__main__":
    main()
