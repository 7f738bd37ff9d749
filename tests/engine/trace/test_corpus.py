"""Programs in the many styles in which language models write them, against eager torch.

tests/corpus holds one program in each file. Its first line says `# expect: ok`, `ok random` or
`reject kind...`. A second line `# tier: eager` marks what no trace can say. More programs come from the
grammar that the tiny zoo's generator learns. The shares of the tiers are asserted too, because the
eager tier alone would pass all other tests.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from selfdev_engine.engine.plans.plan import Fused, Hybrid, tensor_plan_of
from selfdev_engine.engine.plans.planner import unified
from selfdev_engine.kernels.ir import Builder, Op
from selfdev_engine.selfdev.zoo import grammar

FOLDER = Path(__file__).parents[2] / "corpus"
CORPUS = sorted(FOLDER.glob("*.py"))
NUM_SAMPLED = 100
LEAST_FUSED, LEAST_ACCEPTED = 0.90, 0.99


def words_of(path: Path) -> list[str]:
    return path.read_text().split("\n", 1)[0].removeprefix("# expect: ").split()


def tier_of(path: Path) -> str:
    """The tier that a file asks for, or "" for the best."""
    second = path.read_text().split("\n", 2)[1]
    return second.removeprefix("# tier: ") if second.startswith("# tier: ") else ""


OK = [p for p in CORPUS if words_of(p) == ["ok"]]
RANDOM = [p for p in CORPUS if words_of(p) == ["ok", "random"]]
REJECT = [p for p in CORPUS if words_of(p)[0] == "reject"]


def stem(path: Path) -> str:
    return path.stem


@cache
def verdict(judge, path: Path):
    """A program's verdict. It is kept, because the shares are computed from all of them."""
    return judge.verdict(path.read_text())


@cache
def drawn(judge, path: Path):
    """The (tier, reason, update) of a program that draws."""
    return judge.update(path.read_text(), judge.tensors((24, 40)))


def test_every_file_says_what_is_expected():
    assert len(OK) + len(RANDOM) + len(REJECT) == len(CORPUS) >= 200
    sources = {p.read_text() for p in CORPUS}
    assert len(sources) == len(CORPUS)


@pytest.mark.parametrize("path", OK, ids=stem)
def test_equal_to_eager(judge, path):
    found = verdict(judge, path)
    assert not found.eager_error, found.eager_error
    assert found.tier != "rejected", found.reason
    assert not found.faults, (found.tier, found.faults)
    assert not found.cheats
    assert tier_of(path) in ("", found.tier), found.reason


@pytest.mark.parametrize("path", RANDOM, ids=stem)
def test_draws_again_and_like_eager(judge, path):
    tensors = judge.tensors((24, 40))
    tier, reason, first = drawn(judge, path)
    assert tier != "rejected", reason
    assert torch.equal(first, judge.update(path.read_text(), tensors)[2])
    sizes = [judge.eager(path.read_text(), tensors, seed).norm() for seed in range(8)]
    spread = torch.stack(sizes)
    assert abs(first.norm() - spread.mean()) <= 6 * spread.std() + 0.02 * spread.mean()


@pytest.mark.parametrize("path", REJECT, ids=stem)
def test_rejected_or_not_finite(judge, path):
    kinds = words_of(path)[1:]
    tier, reason, update = judge.update(path.read_text(), judge.tensors((24, 40)))
    if tier == "rejected":
        assert reason.split(":")[0] in kinds, reason
    else:  # The merge refuses it when it sees the numbers.
        assert "nonfinite" in kinds and not update.isfinite().all()


def test_shares(judge):
    tiers = Counter(verdict(judge, path).tier for path in OK if not tier_of(path))
    tiers.update(drawn(judge, path)[0] for path in RANDOM)
    total = tiers.total()
    assert tiers["fused"] / total >= LEAST_FUSED, tiers
    assert 1 - tiers["rejected"] / total >= LEAST_ACCEPTED, tiers


def sampled() -> list[str]:
    r = random.Random(7)
    return [f"import torch\n\n\n{grammar.HEAD}\n{grammar.program(r)}" for _ in range(NUM_SAMPLED)]


def test_programs_of_the_zoo_s_grammar(judge):
    """Programs that eager refuses are rejected. All others are equal, and nearly all are fused."""
    tiers: Counter[str] = Counter()
    for text in dict.fromkeys(sampled()):
        found = judge.verdict(text)
        if found.eager_error:
            assert found.tier == "rejected", (text, found)
            continue
        assert found.tier != "rejected", (text, found.reason)
        assert not found.faults, (text, found.faults)
        tiers[found.tier] += 1
    assert tiers.total() >= 50
    assert tiers["fused"] / tiers.total() >= LEAST_FUSED, tiers


@pytest.mark.parametrize("shape", [(3, 3), (1, 17), (50,)])
def test_no_shape_is_special(judge, shape):
    """A part of the corpus runs on 3 x 3 tensors of three experts, on a single row, on a vector."""
    for path in OK[::12]:
        found = judge.verdict(path.read_text(), shape)
        if not found.eager_error:
            assert found.tier != "rejected", (path.stem, found.reason)
            assert not found.faults, (path.stem, found.tier, found.faults)


def test_equal_plans_are_one():
    def plan(factor: float) -> Fused:
        b = Builder()
        return Fused(b.graph(b.add(Op.MUL, b.input("a"), b.const(factor))))

    distinct: dict[str, Fused | Hybrid] = {}
    first = unified(plan(0.5), distinct)
    assert unified(plan(0.5), distinct) is first
    assert unified(plan(0.25), distinct) is not first
    assert tensor_plan_of(first.to_json(), {}) == first


def test_answers_are_not_computed_again(judge):
    """A loop that asks in each round costs as much in its last round as in its third."""
    text = (FOLDER / "weiszfeld_asks_each_round.py").read_text().replace("1e-9", "-1.0")
    sizes = []
    for rounds in (3, 12):
        traced = judge.trace(text.replace("=12", f"={rounds}"), judge.tensors((24, 40)))
        assert traced.num_asks == rounds
        sizes.append(len(traced.graph.needed(traced.graph.outputs)))
    assert sizes[0] == sizes[1]
