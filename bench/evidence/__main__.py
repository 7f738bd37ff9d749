"""Makes the evidence of docs/results.md, and goes on where it was cut off: `make evidence`.

python -m selfdev_engine.bench.evidence FOLDER, in the root of the repository. For each zoo seed it makes the zoo,
runs the loop with its control arms, and keeps what `run --json` printed as FOLDER/SEED.json. In the end the
analysis of all runs is written to RESULTS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from .analysis import analyse, in_words, outcomes_of

# No setting was chosen by looking at these zoos, nor at runs on them.
SEEDS = range(11, 19)
RECIPE, RESULTS = Path("configs/demo.yaml"), Path("bench/results/evidence.json")
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


def result_of(folder: Path, seed: int) -> dict[str, Any]:
    """What the run on one zoo said. It is made or gone on with where it is not there yet."""
    kept = folder / f"{seed}.json"
    if not kept.is_file():
        zoo, config, run = folder / f"zoo-{seed}", folder / f"{seed}.yaml", folder / f"run-{seed}"
        command("zoo", zoo, "--seed", seed)
        wanted = config_of(yaml.safe_load(RECIPE.read_text()), zoo, seed)
        config.write_text(yaml.safe_dump(wanted, sort_keys=False))
        resume = ["--resume"] if (run / "run.db").is_file() else []
        fresh = kept.with_suffix(".partial")
        fresh.write_text(command("run", config, "--run", run, *resume))
        fresh.rename(kept)
    return json.loads(kept.read_text())


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
    found = analyse({seed: outcomes_of(result_of(folder, seed)) for seed in SEEDS})
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{in_words(found)}\n{RESULTS}")


if __name__ == "__main__":
    main()
