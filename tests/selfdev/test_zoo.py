"""Tests of the tiny zoo: its questions, tokenizers, programs, folder, and merges of its models."""

from __future__ import annotations

import ast
import itertools
import json
import random
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from selfdev_engine.engine.errors import EngineError, UsageError
from selfdev_engine.selfdev import zoo as zoo_module
from selfdev_engine.selfdev.zoo import FIELDS, family, make_zoo
from selfdev_engine.selfdev.zoo.arithmetic import SKILLS, make_pool, write_tasks
from selfdev_engine.selfdev.zoo.family import make_family, out_of_range
from selfdev_engine.selfdev.zoo.grammar import FAMILIES, HEAD, MISTAKE_SHARE, program, spoil
from selfdev_engine.selfdev.zoo.muon import Muon
from selfdev_engine.selfdev.zoo.training import ZooSettings, stream_of

SMALL = json.dumps(
    {
        "max_base_steps": 4,
        "decay_steps": 2,
        "base_batch": 9,
        "expert_steps": 2,
        "expert_batch": 8,
        "generator_steps": 2,
        "generator_batch": 4,
        "num_programs": 4000,
        "base_range": [0, 1],
        "least_skill": -1,
        "least_gain": -1,
    }
)


@dataclass(frozen=True)
class Made:
    folder: Path
    printed: dict

    @property
    def checkpoints(self) -> dict[str, Path]:
        places = {"base": self.printed["base"], **self.printed["experts"]}
        return {name: self.folder / place for name, place in places.items()}


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("zoo") / "small"
    return Made(folder, make_zoo(folder, settings=SMALL))


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ------------------------------------------------------------------------------------ questions


@pytest.fixture(scope="session")
def tasks(tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    pools = {skill: make_pool(skill) for skill in SKILLS}
    paths = write_tasks(tmp_path_factory.mktemp("questions") / "tasks", pools)
    return {name: rows(path) for name, path in paths.items()}


def test_tasks_are_large_enough_and_mixed_is_first(tasks):
    assert list(tasks) == ["mixed", "add", "sub", "mul"]
    for lines in tasks.values():
        splits = [line["split"] for line in lines]
        assert splits.count("dev") >= 100
        assert splits.count("test") >= 300


def test_no_question_is_asked_twice_or_taught(tasks):
    asked = [line["question"] for lines in tasks.values() for line in lines]
    assert len(set(asked)) == len(asked)
    taught = {question for skill in SKILLS for question, _ in make_pool(skill).train}
    assert not taught & set(asked)


@pytest.mark.parametrize("skill", SKILLS)
def test_no_pair_of_numbers_is_on_both_sides(skill):
    sign, pool = SKILLS[skill][0], make_pool(skill)

    def pairs(side):
        return {tuple(sorted(map(int, q.rstrip("=").split(sign)))) for q, _ in side}

    assert not pairs(pool.train) & pairs(pool.held_out)


def test_answers_are_right(tasks):
    for line in itertools.chain(*tasks.values()):
        assert eval(line["question"].rstrip("=")) == int(line["answer"])


def test_seed_0_asks_what_it_asked_and_others_ask_something_else(tmp_path):
    def mixed(stream):
        pools = {skill: make_pool(skill, stream) for skill in SKILLS}
        return write_tasks(tmp_path / str(stream), pools)["mixed"].read_bytes()

    digest = "82bd893b9daa35963f1180b80d5e0054fc4d5da00829d0708e44ee8029885c15"
    assert sha256(mixed(stream_of(0))).hexdigest() == digest
    assert len({mixed(stream_of(seed)) for seed in (1, 2, 3)}) == 3
    one, other = (set(make_pool("add", stream_of(n)).held_out) for n in (0, 1))
    assert len(one & other) < len(one) / 2


def test_no_two_attempts_draw_the_same():
    streams = [
        stream_of(seed, attempt) + part
        for seed in (0, 1, 9)
        for attempt in range(5)
        for part in range(4)
    ]
    assert len(set(streams)) == len(streams) and streams[0] == 0


GOOD = {
    "base": {"mixed": 0.43, "add": 0.7, "sub": 0.3, "mul": 0.4},
    "add": {"mixed": 0.44, "add": 0.9, "sub": 0.2, "mul": 0.3},
    "sub": {"mixed": 0.41, "add": 0.4, "sub": 0.6, "mul": 0.3},
    "mul": {"mixed": 0.34, "add": 0.5, "sub": 0.1, "mul": 0.5},
}


@pytest.mark.parametrize(
    ("merged", "mul", "says"),
    [
        (0.5, 0.5, None),
        (0.45, 0.5, "the best merge gains 0.010"),
        (0.9, 0.5, "the best merge scores 0.900"),
        (0.5, 0.42, "the expert mul gains 0.020 on its skill"),
    ],
)
def test_what_leaves_the_range_is_said(merged, mul, says):
    scores = {**GOOD, "mul": {**GOOD["mul"], "mul": mul}}
    assert out_of_range(scores, merged, ZooSettings()) == says


def test_a_zoo_out_of_its_range_is_made_again_from_the_next_stream(tmp_path, monkeypatch):
    seen = []

    def made(folder, s):
        (folder / "tasks").mkdir()
        seen.append(s.seed)
        return {"base": "base"} if len(seen) == 3 else "too good"

    monkeypatch.setattr(family, "family_of", made)
    assert make_family(tmp_path, ZooSettings(seed=4)) == {"base": "base", "attempt": 2}
    assert seen == [4000, 4010, 4020]
    shutil.rmtree(tmp_path / "tasks")
    seen[2:] = [0, 0]
    with pytest.raises(SystemExit, match=r"seed 4: no attempt .*; too good"):
        make_family(tmp_path, ZooSettings(seed=4, attempts=2))


# ------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize("family", sorted(set(FAMILIES), key=lambda f: f.__name__))
def test_every_family_runs_and_keeps_the_shape(family):
    vectors = {name: torch.randn(6, 4) for name in "abc"}
    for seed in range(20):
        scope = {"torch": torch}
        exec(HEAD + "\n" + family(random.Random(seed)), scope)
        merged = scope["merge_models"](vectors, torch.device("cpu"))
        assert merged.shape == (6, 4)
        assert torch.isfinite(merged).all()


def test_there_are_ten_families():
    assert len(set(FAMILIES)) >= 10


def test_a_mistake_changes_a_program_and_one_in_five_has_one():
    right = [random.Random(seed).choice(FAMILIES)(random.Random(seed)) for seed in range(200)]
    assert all(spoil(random.Random(0), body) != body for body in right)
    draws = [random.Random(seed) for seed in range(1000)]
    unlike = sum(program(r) != random_body(seed) for seed, r in enumerate(draws))
    assert unlike / len(draws) == pytest.approx(MISTAKE_SHARE, abs=0.05)
    for body in right:
        ast.parse(HEAD + "\n" + body)


def random_body(seed: int) -> str:
    """What `program` would write from this seed if it made no mistakes."""
    r = random.Random(seed)
    return r.choice(FAMILIES)(r)


# --------------------------------------------------------------------------------- the small zoo


def test_what_is_printed_is_stored(small):
    assert set(FIELDS) <= small.printed.keys()
    assert json.loads((small.folder / "zoo.json").read_text()) == small.printed
    assert set(small.printed["accuracy"]) == {"base", *SKILLS}
    assert small.printed["attempt"] == 0 and len(small.printed["merges"]) == 8
    assert [p.name for p in small.folder.parent.iterdir()] == ["small"]


def test_experts_differ_from_the_base_in_every_mlp_tensor_and_nowhere_else(small):
    weights = {n: load_file(p / "model.safetensors") for n, p in small.checkpoints.items()}
    base = weights.pop("base")
    assert {t.dtype for t in base.values()} == {torch.float32}
    for expert in weights.values():
        changed = {name for name in base if not base[name].equal(expert[name])}
        assert changed == {name for name in base if ".mlp." in name}


@pytest.mark.slow
def test_two_zoos_are_alike_bit_for_bit(small, tmp_path):
    make_zoo(tmp_path / "again", settings=SMALL)
    for path in sorted(small.folder.rglob("*")):
        if path.is_file() and path.name != "zoo.json":
            other = tmp_path / "again" / path.relative_to(small.folder)
            assert sha256(other.read_bytes()).digest() == sha256(path.read_bytes()).digest(), path


@pytest.mark.slow
def test_another_seed_gives_other_questions_splits_and_weights(small, tmp_path):
    made = make_zoo(tmp_path / "other", settings=SMALL, seed=1)
    names = ["tasks/mixed.jsonl", *(f"{p}/model.safetensors" for p in ("base", "generator"))]
    for name in (*names, "experts/add/model.safetensors"):
        assert (tmp_path / "other" / name).read_bytes() != (small.folder / name).read_bytes()
    assert made["made_with"]["settings"] != small.printed["made_with"]["settings"]
    with pytest.raises(UsageError, match="other settings"):
        make_zoo(tmp_path / "other", settings=SMALL, seed=2)


def test_a_zoo_that_is_there_is_only_read(small, monkeypatch):
    monkeypatch.setattr(zoo_module, "run_parts", lambda *_: pytest.fail("it was made again"))
    assert make_zoo(small.folder, settings=SMALL) == small.printed
    with pytest.raises(UsageError, match="other settings"):
        make_zoo(small.folder)


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"base": "base"}'])
def test_a_damaged_zoo_is_named(tmp_path, text):
    (tmp_path / "zoo.json").write_text(text)
    with pytest.raises(UsageError, match=r"zoo\.json"):
        make_zoo(tmp_path)
    assert (tmp_path / "zoo.json").read_text() == text


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".zoo.selfdev-scratch-999999999").mkdir()
    mine = tmp_path / ".zoo.2024"
    mine.mkdir()
    zoo_module.clear_leftovers(tmp_path / "zoo")
    assert list(tmp_path.iterdir()) == [mine]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/zoo: cannot be made"):
        make_zoo(tmp_path / "file" / "zoo")


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(EngineError, match="no_such_setting"):
        make_zoo(tmp_path / "zoo", settings=json.dumps({"no_such_setting": 1}))
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_zoo_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files"):
        make_zoo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("model", ["base", "generator"])
def test_tokenizers_give_the_text_back(small, model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small.folder / model)
    for text in ("12+7=", "  a,b\n\tc  é", HEAD):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert (tokenizer("7").input_ids[0] == tokenizer.bos_token_id) == (model == "base")


def test_the_generators_prompt_ends_on_a_token_boundary(small):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small.folder / "generator")
    prompt = (small.folder / "generator" / "prompt.txt").read_text()
    head = tokenizer(prompt).input_ids
    draw = random.Random(0)
    for _ in range(100):
        assert tokenizer(f"{prompt}\n{program(draw)}").input_ids[: len(head)] == head


def test_the_generator_answers_anything(small):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = small.folder / "generator"
    x = AutoTokenizer.from_pretrained(folder)("import", return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(folder)
    y = model.generate(x, attention_mask=x.new_ones(x.shape), do_sample=False, max_new_tokens=4)
    assert y.shape[1] > x.shape[1]


# ---------------------------------------------------------------------------------- the full zoo


@pytest.mark.slow
def test_merges_spread_and_the_best_beats_its_parents(zoo):
    """Linear merges of the MLPs, scored by greedy answers to the mixed questions."""
    from selfdev_engine.selfdev.zoo.family import accuracy, encode
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(zoo.base)
    asked = encode([(r["question"], r["answer"]) for r in rows(zoo.tasks["mixed"])], tokenizer)
    model = AutoModelForCausalLM.from_pretrained(zoo.base, dtype=torch.float32)
    base = {k: v.float() for k, v in load_file(zoo.base / "model.safetensors").items()}
    experts = [load_file(path / "model.safetensors") for path in zoo.experts.values()]

    def score(coefficients: tuple[float, ...]) -> float:
        pairs = list(zip(coefficients, experts, strict=True))
        merged = {k: b + sum(c * (e[k].float() - b) for c, e in pairs) for k, b in base.items()}
        model.load_state_dict(merged)
        return accuracy(model, asked)

    parents = [score(c) for c in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    merges = [score(c) for c in itertools.product((0.2, 0.4), repeat=3)] + [score((1, 1, 1))]
    assert max(merges) >= max(parents) + 0.04
    assert min(merges) <= min(parents) - 0.1


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (48, 48)])
def test_muon_steps_as_torchs(shape):
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=draw)
    mine, theirs = (start.clone().requires_grad_() for _ in range(2))
    words = {"weight_decay": 0.0, "momentum": 0.95, "adjust_lr_fn": "original"}
    optimizers = Muon([mine], lr=0.02), torch.optim.Muon([theirs], lr=0.02, **words)
    for _ in range(4):
        mine.grad = torch.randn(shape, generator=draw)
        theirs.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs.detach() - start).norm()
    # torch iterates in bf16.
    assert (mine.detach() - theirs.detach()).norm() < 0.03 * moved
    assert moved > 0.01
