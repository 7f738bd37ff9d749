"""The process that makes one part of a zoo, with one thread.

python -m selfdev_engine.selfdev.zoo.part_process PART FOLDER SETTINGS_JSON
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...engine.sandbox.guard import die_with_parent
from . import smollm2
from .family import make_family
from .generator import make_generator
from .training import ZooSettings
from .wording import SKILLS
from .writer import make_writer


def maker(part: str, settings: ZooSettings) -> Callable[[Path], dict[str, Any]]:
    """Function that makes a part in a folder and returns its entries of zoo.json."""
    if part in SKILLS:
        return partial(smollm2.make_expert, s=settings, skill=part)
    makers = {
        "base": smollm2.make_base,
        "family": make_family,
        "generator": make_generator,
        "writer": make_writer,
    }
    return partial(makers[part], s=settings)


def main() -> None:
    part, folder, words = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    die_with_parent()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings = replace(ZooSettings(), **json.loads(words or "{}"))
    made = maker(part, settings)(folder)
    (folder / f"{part}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
