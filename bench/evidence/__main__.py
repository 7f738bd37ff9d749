"""Makes the evidence of docs/results.md, and goes on where it was cut off: `make evidence`.

python -m selfdev_engine.bench.evidence FOLDER, in the root of the repository. For each zoo seed it makes the zoo,
runs the loop with its control arms, and keeps what it said as SEED.json in RESULTS. A zoo that is there is not run
again, also not on another machine. In the end the analysis of all runs is written beside them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ...selfdev.figures import figures
from ..registry import machine
from .analysis import analyse, described, in_words, outcomes_of, over_zoos

# No setting was chosen by looking at these zoos, nor at runs on them.
SEEDS = range(11, 19)
RECIPE, RESULTS = Path("configs/demo.yaml"), Path("bench/results/evidence")
# Added to the run's seed: two arms that learn nothing differ by chance alone.
OTHER_SEED = 1000


def arms_of(seed: int) -> dict[str, Any]:
    """The arms of the protocol; `no_learning_again` is the noise floor."""
    again = {"learn": "none", "seed": seed + OTHER_SEED}
    presets = ("no_learning", "sft", "permuted", "random_programs", "linear")
    return {**{name: name for name in presets}, "no_learning_again": again}


def config_of(recipe: dict[str, Any], zoo: Path, seed: int) -> dict[str, Any]:
    """The config of the run on one zoo: the recipe with 300 samples and the arms."""
    return {
        **recipe,
        "base": str(zoo / "base"),
        "experts": {name: str(zoo / "experts" / name) for name in recipe["experts"]},
        "generator": str(zoo / "generator"),
        "task": f"jsonl:{zoo / 'tasks' / 'mixed.jsonl'}",
        "iterations": 2,
        "samples": 300,
        "test": {"top": 5},
        "arms": arms_of(seed),
        "seed": seed,
    }


def kept_of(folder: Path, seed: int, results: Path = RESULTS) -> dict[str, Any]:
    """What is kept of the run on one zoo. The run is made or gone on with where that is not there yet.

    {seed, machine, result: the object of `run --json`, arms: what `report --json` says of each arm}.
    """
    zoo = folder / f"zoo-{seed}"
    wanted = config_of(yaml.safe_load(RECIPE.read_text()), zoo, seed)
    if not (results / f"{seed}.json").is_file():
        command("zoo", zoo, "--seed", seed)
    return kept_as(str(seed), folder, wanted, results)


def kept_as(name: str, folder: Path, wanted: dict[str, Any], results: Path) -> dict[str, Any]:
    """What is kept as NAME.json of the run with the config `wanted`."""
    kept = results / f"{name}.json"
    if not kept.is_file():
        config, run = folder / f"{name}.yaml", folder / f"run-{name}"
        config.write_text(yaml.safe_dump(wanted, sort_keys=False))
        resume = ["--resume"] if (run / "run.db").is_file() else []
        result = json.loads(command("run", config, "--run", run, *resume))
        # It names a folder of the machine that ran it.
        result.pop("run", None)
        said = {
            "seed": wanted["seed"],
            "machine": machine(),
            "result": result,
            "arms": arms_reached(run),
        }
        fresh = kept.with_suffix(".partial")
        fresh.write_text(json.dumps(said) + "\n")
        fresh.rename(kept)
    return json.loads(kept.read_text())


def arms_reached(run: Path) -> dict[str, Any]:
    return figures(run)["arms"]


def command(*words: object) -> str:
    """The object that a command of ours prints. Its progress is shown; if it fails, so does this."""
    line = [str(Path(sys.executable).parent / "selfdev-engine"), *map(str, words), "--json"]
    print(" ".join(line), file=sys.stderr)
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, env=env, check=False)
    if done.returncode:
        print("not finished; the same command goes on from here", file=sys.stderr)
        sys.exit(done.returncode)
    return done.stdout


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    kept = {seed: kept_of(folder, seed) for seed in SEEDS}
    found = analyse({seed: outcomes_of(one["result"]) for seed, one in kept.items()})
    found["arms"] = over_zoos([described(one) for one in kept.values()])
    (RESULTS / "analysis.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{in_words(found)}\n{RESULTS}")


if __name__ == "__main__":
    main()
