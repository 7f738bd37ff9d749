"""Word problems of the SmolLM2 zoo: random questions of three skills, with worked answers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Lines of each task file.
NUM_DEV, NUM_TEST = 100, 100
TASK_SEED = 7
NAMES = "Ada Ben Cleo Dan Eva Finn Gus Hana Ivo June Kai Lena".split()
THINGS = "apples books cards coins eggs marbles pears pencils plums shells stamps stones".split()


@dataclass(frozen=True)
class Row:
    """A question, its worked answer that ends in "#### N", and N."""

    question: str
    worked: str
    answer: str

    @property
    def prompt(self) -> str:
        return f"Question: {self.question}\nAnswer:"

    def line(self, split: str) -> str:
        row = {"question": self.question, "answer": self.answer, "prompt": self.prompt}
        return json.dumps({**row, "split": split}) + "\n"


def calculation(question: str, left: int, sign: str, right: int, result: int) -> Row:
    return Row(question, f" {left} {sign} {right} = {result}\n#### {result}", str(result))


def add_or_subtract(draw: random.Random) -> Row:
    who, what = draw.choice(NAMES), draw.choice(THINGS)
    a, b = draw.randint(2, 20), draw.randint(2, 20)
    if draw.random() < 0.5:
        question = draw.choice(
            (
                f"{who} owns {a} {what} and gets {b} more. How many {what} does {who} own now?",
                f"A basket holds {a} {what}, a bag holds {b}. How many {what} is that together?",
                f"{who} picked {a} {what} in May and {b} in June. How many {what} in all?",
            )
        )
        return calculation(question, a, "+", b, a + b)
    question = draw.choice(
        (
            f"{who} owns {a + b} {what} and sells {b}. How many {what} remain?",
            f"Of {a + b} {what} on a shelf, {b} fall down. How many {what} stay on the shelf?",
            f"{who} had {a + b} {what} and lost {b}. How many {what} does {who} have now?",
        )
    )
    return calculation(question, a + b, "-", b, a)


def multiply_or_divide(draw: random.Random) -> Row:
    who, what = draw.choice(NAMES), draw.choice(THINGS)
    a, b = draw.randint(2, 9), draw.randint(2, 9)
    if draw.random() < 0.5:
        question = draw.choice(
            (
                f"{who} fills {a} jars with {b} {what} each. How many {what} are in the jars?",
                f"A pack of {what} costs {a} dollars. How many dollars do {b} packs cost?",
                f"{who} finds {a} {what} a day. How many {what} does {who} find in {b} days?",
            )
        )
        return calculation(question, a, "*", b, a * b)
    question = draw.choice(
        (
            f"{who} splits {a * b} {what} evenly between {b} friends. How many does each get?",
            f"{a * b} {what} are packed into boxes of {b}. How many boxes are needed?",
            f"{who} lays {a * b} {what} in {b} equal rows. How many {what} are in a row?",
        )
    )
    return calculation(question, a * b, "/", b, a)


def pick(draw: random.Random) -> Row:
    who, (one, two, three) = draw.choice(NAMES), draw.sample(THINGS, 3)
    numbers, k = draw.sample(range(2, 60), 3), draw.randrange(3)
    x, y, z = numbers
    which = draw.choice(("largest", "smallest", "named"))
    if which == "named":
        wanted = (one, two, three)[k]
        question = f"{who} owns {x} {one}, {y} {two} and {z} {three}. How many {wanted} are there?"
        value = numbers[k]
    else:
        question = f"Which number is the {which} one: {x}, {y} or {z}?"
        value = max(numbers) if which == "largest" else min(numbers)
    return Row(question, f" #### {value}", str(value))


@dataclass(frozen=True)
class Skill:
    """A source of random questions. `seed` decides the rows that an expert is trained on."""

    make: Callable[[random.Random], Row]
    seed: int

    def training_rows(self, held_out: set[str], stream: int = 0) -> Iterator[Row]:
        """Endless random rows; none asks a question of `held_out`."""
        draw = random.Random(self.seed + stream)
        while True:
            row = self.make(draw)
            if row.question not in held_out:
                yield row


SKILLS = {
    "addsub": Skill(add_or_subtract, 1),
    "muldiv": Skill(multiply_or_divide, 2),
    "pick": Skill(pick, 3),
}


def write_tasks(folder: Path, stream: int = 0) -> dict[str, Path]:
    """Write mixed.jsonl and one file for each skill; no question is in two files."""
    folder.mkdir(parents=True)
    count, draw = NUM_DEV + NUM_TEST, random.Random(TASK_SEED + stream)
    pools = {name: distinct(skill, draw, count + count // 3 + 1) for name, skill in SKILLS.items()}
    names = list(SKILLS)
    mixed = [pools[names[i % len(names)]].pop() for i in range(count)]
    paths = {}
    for name, rows in {"mixed": mixed, **{n: rows[:count] for n, rows in pools.items()}}.items():
        paths[name] = folder / f"{name}.jsonl"
        lines = [row.line("dev" if i < NUM_DEV else "test") for i, row in enumerate(rows)]
        paths[name].write_text("".join(lines))
    return paths


def distinct(skill: Skill, draw: random.Random, count: int) -> list[Row]:
    rows: dict[str, Row] = {}
    while len(rows) < count:
        row = skill.make(draw)
        rows.setdefault(row.question, row)
    return list(rows.values())
