"""One part of the tiny zoo, in a process of its own, with one thread:

    python -m selfdev_engine.selfdev.zoo.tiny family|generator FOLDER SETTINGS_JSON
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ...engine.sandbox.guard import die_with_parent
from .family import make_family
from .generator import make_generator
from .training import ZooSettings


def main() -> None:
    part, folder, words = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    die_with_parent()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings = replace(ZooSettings(), **json.loads(words or "{}"))
    made = {"family": make_family, "generator": make_generator}[part](folder, settings)
    (folder / f"{part}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
