"""Makes the evidence with writers that are larger than the tiny zoo's, for docs/results.md.

python -m selfdev_engine.bench.evidence.writers FOLDER [CODER], in the root of the repository. The zoo is SmolLM2's
in both runs, with the first half of its questions. Run `smollm2` has the zoo's tuned writer, run `coder` the
instruct model CODER (a folder or hub id); without CODER it is not run. What is kept is not run again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from .__main__ import RESULTS, command, kept_as

QUESTIONS = 50
EXPERTS = {
    "addsub": "fine-tuned for word problems with plus and minus",
    "muldiv": "fine-tuned for word problems with times and divided by",
    "pick": "fine-tuned to pick one of three numbers",
}


def first_questions(tasks: Path, file: Path) -> None:
    """Write the first QUESTIONS questions of each split of `tasks` to `file`."""
    lines = tasks.read_text().splitlines(keepends=True)
    splits = [[line for line in lines if json.loads(line)["split"] == s] for s in ("dev", "test")]
    file.write_text("".join(line for split in splits for line in split[:QUESTIONS]))


def on_smollm2(recipe: Path, zoo: Path, generator: str) -> dict[str, Any]:
    """The config of a run: that of `recipe`, with the models and questions of `zoo`."""
    places = {
        name: {"model": str(zoo / "experts" / name), "about": about}
        for name, about in EXPERTS.items()
    }
    return {
        **yaml.safe_load(recipe.read_text()),
        "base": str(zoo / "base"),
        "experts": places,
        "generator": generator,
        "task": f"jsonl:{zoo.parent / 'questions.jsonl'}",
        "seed": 0,
    }


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).absolute()
    zoo = folder / "smollm2"
    folder.mkdir(parents=True, exist_ok=True)
    recipes = {"smollm2": (Path("configs/smollm2.yaml"), str(zoo / "generator"))}
    if len(sys.argv) == 3:
        recipes["coder"] = (Path("configs/coder.yaml"), sys.argv[2])
    command("zoo", zoo, "--size", "smollm2", "--writer")
    first_questions(zoo / "tasks" / "mixed.jsonl", folder / "questions.jsonl")
    for name, (recipe, generator) in recipes.items():
        kept_as(name, folder, on_smollm2(recipe, zoo, generator), RESULTS)
        print(RESULTS / f"{name}.json")


if __name__ == "__main__":
    main()
