"""The tasks GSM8K and MATH, read from a folder or from the hub.

Numbers of dev and test questions are those of the paper (arXiv 2410.15639); prompts are those of
lm-evaluation-harness. Shots are the examples before a question. "fixed" shots are the first five of
train for all questions, so that prompts share their beginning. "harness" shots are those that
lm-evaluation-harness draws. "auto" is fixed for dev and harness for test.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from . import harness, hub
from .grading.numeric import value
from .grading.strict import bare, reference
from .harness import NUM_SHOTS
from .rows import Row, rows_of, text_of
from .task import Question, Task

SPLIT_SEED = 0
GSM8K_DEV = 100
MATH_SUBJECTS, MATH_SUBJECT_DEV = 6, 100
MATH_DEV = MATH_SUBJECTS * MATH_SUBJECT_DEV
SHOTS = ("auto", "fixed", "harness")


@dataclass(frozen=True)
class Item:
    """A question, the worked `answer` that a shot shows, and the `wanted` final answer.

    `subject` is "" in GSM8K.
    """

    question: str
    answer: str
    wanted: str
    subject: str


def load_published(name: str, data: Path | None, shots: str) -> Task:
    """Load `gsm8k` or `math`. UsageError for absent or bad data."""
    if shots not in SHOTS:
        raise UsageError(f"--shots {shots}: there are {', '.join(SHOTS)}")
    form = harness.GSM8K if name == "gsm8k" else harness.MATH
    train, test = (items_of(name, rows(name, split, data)) for split in ("train", "test"))
    if len(train) < NUM_SHOTS:
        raise UsageError(f"--task {name}: train has {len(train)} questions, {NUM_SHOTS} are shown")
    drawn = draw(train, test)
    kinds = {"dev": "fixed", "test": "harness"} if shots == "auto" else {}
    questions = []
    for i, (item, split) in enumerate(zip(test, split_names(name, test), strict=True)):
        fixed = kinds.get(split, shots) == "fixed"
        prompt = form.prompt(item.question, shown(train[:NUM_SHOTS] if fixed else drawn[i]))
        questions.append(Question(i, item.question, item.wanted, prompt, split))
    limit, version = harness.MAX_NEW_TOKENS, f"{form.version}, shots {shots}"
    return Task(name, tuple(questions), form.stop, limit, "strict", name, version)


def rows(name: str, split: str, data: Path | None) -> list[Row]:
    """Rows of `data`/name/split.jsonl, or those of the hub if `data` is None."""
    if data is None:
        return hub.rows(name, split)
    path = data / name / f"{split}.jsonl"
    if not path.is_file():
        raise UsageError(f"--data {data}: {name}/{split}.jsonl is not there; {name} needs it")
    return list(rows_of(path))


def items_of(name: str, rows: Sequence[Row]) -> list[Item]:
    """Read the items. UsageError for a bad row, and where only some rows of MATH say their subject."""
    items = [(gsm8k_item if name == "gsm8k" else math_item)(place, row) for place, row in rows]
    silent = [place for (place, _), item in zip(rows, items, strict=True) if not item.subject]
    if silent and len(silent) < len(items):
        raise UsageError(
            f"{silent[0]}: lacks 'type', the subject, which other rows have: dev and shots are drawn by subject"
        )
    return items


def gsm8k_item(place: str, row: dict[str, object]) -> Item:
    answer = text_of(place, row, "answer")
    _, mark, number = answer.rpartition("#### ")
    if not mark or value(number) is None:
        raise UsageError(f"{place}: the answer does not end with '#### number'")
    return Item(text_of(place, row, "question"), answer, bare(answer), "")


def math_item(place: str, row: dict[str, object]) -> Item:
    solution = text_of(place, row, "solution")
    answer = reference(solution)
    if not answer or answer == solution:
        raise UsageError(f"{place}: the solution has no \\boxed{{answer}}")
    # MATH-500 calls it `subject`.
    key = next((key for key in ("type", "subject") if key in row), None)
    subject = text_of(place, row, key) if key else ""
    return Item(text_of(place, row, "problem"), answer, answer, subject)


def shown(items: Sequence[Item]) -> list[tuple[str, str]]:
    """(question, worked answer) of each item."""
    return [(item.question, item.answer) for item in items]


def draw(train: Sequence[Item], test: Sequence[Item]) -> dict[int, list[Item]]:
    """The shots that lm-evaluation-harness draws for each question, by its place in `test`.

    They are drawn from the question's subject. If train has too few questions of some subject, all
    of train is one pool, as in the harness for a task with one file.
    """
    counts = Counter(item.subject for item in train)
    whole = any(counts[item.subject] < NUM_SHOTS for item in test)
    found = {}
    for subject in {None} if whole else {item.subject for item in test}:
        pool = [item for item in train if subject in (None, item.subject)]
        asked = [i for i, item in enumerate(test) if subject in (None, item.subject)]
        for i, drawn in zip(asked, harness.draw_shots(len(pool), len(asked)), strict=True):
            found[i] = [pool[j] for j in drawn]
    return found


def split_names(name: str, test: Sequence[Item]) -> list[str]:
    """Draw for each question whether it is "dev" or "test"; always the same draw.

    GSM8K gets 100 dev questions. MATH gets 100 from each of the six subjects with the most
    questions; the seventh (Counting & Probability) is all test. The paper does not say which six it
    took.
    """
    counts = Counter(item.subject for item in test)
    if len(counts) > 1:
        kept = sorted(counts, key=lambda s: (-counts[s], s))[:MATH_SUBJECTS]
        sizes = dict.fromkeys(kept, MATH_SUBJECT_DEV)
    else:
        sizes = dict.fromkeys(counts, GSM8K_DEV if name == "gsm8k" else MATH_DEV)
    dev: set[int] = set()
    for subject, size in sizes.items():
        places = [i for i, item in enumerate(test) if item.subject == subject]
        dev |= set(random.Random(SPLIT_SEED).sample(places, min(size, len(places))))
    return ["dev" if i in dev else "test" for i in range(len(test))]
