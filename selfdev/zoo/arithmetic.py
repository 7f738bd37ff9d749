"""Questions of the tiny zoo: arithmetic with two numbers. No task asks a training question.

Both orders of a pair of numbers are in the same split, so that knowing 3+5 does not answer 5+3.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Lines of each task file.
NUM_DEV, NUM_TEST = 120, 300
SKILLS: dict[str, tuple[str, Callable[[int, int], int], int]] = {
    "add": ("+", lambda a, b: a + b, 100),
    "sub": ("-", lambda a, b: a - b, 100),
    "mul": ("*", lambda a, b: a * b, 10),
}


@dataclass(frozen=True)
class Pool:
    """(question, answer) rows of one skill."""

    train: tuple[tuple[str, str], ...]
    held_out: tuple[tuple[str, str], ...]


def make_pool(skill: str, stream: int = 0) -> Pool:
    """All questions of a skill in a random order that `stream` fixes; the first ones are held out."""
    sign, operate, limit = SKILLS[skill]
    pairs = sorted({(min(x, y), max(x, y)) for x in range(limit) for y in range(100)})
    random.Random(f"{skill} {stream}" if stream else skill).shuffle(pairs)
    rows = [
        (f"{a}{sign}{b}=", str(operate(a, b)))
        for x, y in pairs
        for a, b in sorted({(x, y), (y, x)})
    ]
    count = (NUM_DEV + NUM_TEST) * 4 // 3
    return Pool(tuple(rows[count + 2 :]), tuple(rows[:count]))


def write_tasks(folder: Path, pools: dict[str, Pool]) -> dict[str, Path]:
    """Write mixed.jsonl and one file for each skill; no question is in two files."""
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
