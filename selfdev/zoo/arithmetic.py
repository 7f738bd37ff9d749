"""The tiny zoo's questions: two-number arithmetic, split so that no training question is asked.

A pair of numbers is in one split in both orders, so that 3+5 does not give 5+3 away.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NUM_DEV, NUM_TEST = 120, 300  # lines of each task file
SKILLS: dict[str, tuple[str, Callable[[int, int], int], int]] = {
    "add": ("+", lambda a, b: a + b, 100),
    "sub": ("-", lambda a, b: a - b, 100),
    "mul": ("*", lambda a, b: a * b, 10),
}


@dataclass(frozen=True)
class Pool:
    """One skill's questions with their answers."""

    train: tuple[tuple[str, str], ...]
    held_out: tuple[tuple[str, str], ...]


def make_pool(skill: str) -> Pool:
    """All questions of a skill, in a fixed shuffle; the first ones are held out."""
    sign, operate, limit = SKILLS[skill]
    pairs = sorted({(min(x, y), max(x, y)) for x in range(limit) for y in range(100)})
    random.Random(skill).shuffle(pairs)
    rows = [
        (f"{a}{sign}{b}=", str(operate(a, b)))
        for x, y in pairs
        for a, b in sorted({(x, y), (y, x)})
    ]
    count = (NUM_DEV + NUM_TEST) * 4 // 3
    return Pool(tuple(rows[count + 2 :]), tuple(rows[:count]))


def write_tasks(folder: Path, pools: dict[str, Pool]) -> dict[str, Path]:
    """mixed.jsonl and one file a skill; `mixed` shares no question with the others."""
    folder.mkdir(parents=True)
    held = {skill: list(pool.held_out) for skill, pool in pools.items()}
    names = list(pools)
    mixed = [held[names[i % 3]].pop() for i in range(NUM_DEV + NUM_TEST)]
    paths = {}
    for name, rows in {"mixed": mixed, **held}.items():
        paths[name] = folder / f"{name}.jsonl"
        chosen = rows[: NUM_DEV + NUM_TEST]
        lines = [line(row, "dev" if i < NUM_DEV else "test") for i, row in enumerate(chosen)]
        paths[name].write_text("".join(lines))
    return paths


def line(row: tuple[str, str], split: str) -> str:
    question, answer = row
    return json.dumps({"question": question, "answer": answer, "split": split}) + "\n"
