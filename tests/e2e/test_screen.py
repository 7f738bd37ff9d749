"""A screening against independent ways to the same numbers: merge to disk, eval, transformers."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

BODY = """import torch

def merge_models(model_dict, device):
    a, b, c = [m.detach().to(device) for m in model_dict.values()]
    return {}
"""
PROGRAMS = {
    "weighted": "0.45 * a + 0.3 * b + 0.2 * c",
    "half-of-sum": "0.5 * (a + b)",
    "sum-of-halves": "0.5 * a + 0.5 * b",
    "loud": "3 * torch.where(a.abs() > b.abs(), a, b) - 2 * c",
    "shares": "sum(w * w.norm() for w in (a, b, c)) / (a.norm() + b.norm() + c.norm())",
    "broken": "a + an_unknown_name",
    "huge": "a / torch.zeros_like(a)",
    "identity": "torch.zeros_like(a)",
}
NUM_QUESTIONS = 40


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line.strip()]


@pytest.fixture(scope="module")
def task(zoo, tmp_path_factory) -> str:
    rows = [r for r in lines(zoo.tasks["mixed"]) if r.get("split", "dev") == "dev"]
    path = tmp_path_factory.mktemp("task") / "task.jsonl"
    chosen = random.Random(0).sample(rows, NUM_QUESTIONS)
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    return f"jsonl:{path}"


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "all.jsonl"
    rows = [{"id": i, "source": BODY.format(body)} for i, body in PROGRAMS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def screened(selfdev, zoo, task, programs, tmp_path_factory):
    run = tmp_path_factory.mktemp("screen") / "run"
    words = ["screen", programs, *zoo.models, "--task", task, "--run", run, "--log-samples"]
    answer = selfdev(*words, "--json")
    assert answer.code == 0, answer.stderr
    return words, run, answer.json


def test_every_candidate_ends_as_it_should(screened):
    _, _, result = screened
    found = {c["id"]: c for c in result["candidates"]}
    assert list(found) == list(PROGRAMS)
    assert found["sum-of-halves"]["duplicate_of"] == "half-of-sum"
    assert found["identity"]["duplicate_of"] == "base"
    assert (found["broken"]["kind"], found["huge"]["kind"]) == ("runtime", "nonfinite")
    for c in found.values():
        if c["status"] in ("scored", "duplicate"):
            assert c["n"] == NUM_QUESTIONS
            assert 0 <= c["low"] <= c["score"] == c["correct"] / c["n"] <= c["high"] <= 1


def test_linear_equivalents_are_found(screened, zoo):
    _, _, result = screened
    found = {c["id"]: c["linear"] for c in result["candidates"]}
    coefficients = [found["weighted"]["coefficients"][name] for name in zoo.experts]
    assert coefficients == pytest.approx([0.45, 0.3, 0.2], abs=1e-4)
    assert found["weighted"]["residual"] < 1e-4
    assert found["loud"]["residual"] > 1e-2


@pytest.mark.parametrize("name", [pytest.param("weighted", marks=pytest.mark.slow), "loud"])
def test_live_weights_are_the_merged_ones(selfdev, zoo, task, screened, tmp_path, name):
    """The same program, merged to disk and loaded by a fresh engine, answers alike."""
    _, run, result = screened
    live = next(c for c in result["candidates"] if c["id"] == name)
    program = tmp_path / "p.py"
    program.write_text(BODY.format(PROGRAMS[name]))
    merged = selfdev("merge", program, *zoo.models, "--out", tmp_path / "out", "--json")
    assert merged.code == 0, merged.stderr
    log = tmp_path / "log.jsonl"
    alone = selfdev("eval", tmp_path / "out", "--task", task, "--log-samples", log, "--json").json
    prints = {live["weights_fingerprint"], alone["weights_fingerprint"]}
    assert prints == {merged.json["weights_fingerprint"]} != {result["base"]["weights_fingerprint"]}
    assert live["correct"] == alone["correct"]
    mine = {
        s["prompt"]: s["response"] for s in lines(run / "samples.jsonl") if s["candidate"] == name
    }
    theirs = {s["prompt"]: s["response"] for s in lines(log)}
    assert mine == theirs


def test_transformers_agrees(zoo, screened):
    """The base's answers, one prompt at a time, by plain transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, run, _ = screened
    mine = [s for s in lines(run / "samples.jsonl") if s["candidate"] == "base"][:20]
    tokenizer = AutoTokenizer.from_pretrained(zoo.base)
    model = AutoModelForCausalLM.from_pretrained(zoo.base, dtype="auto")
    same = 0
    for sample in mine:
        x = tokenizer(sample["prompt"], return_tensors="pt", return_token_type_ids=False)
        y = model.generate(**x, do_sample=False, max_new_tokens=16)
        text = tokenizer.decode(y[0, x["input_ids"].shape[1] :], skip_special_tokens=True)
        same += text.strip() == sample["response"].strip()
    assert same >= 19


def test_a_sure_race_keeps_the_best(selfdev, screened, tmp_path):
    """Fewer questions, the same winners; what a race asked of a candidate, it was asked in full."""
    words, run, full = screened
    words = [tmp_path / "run" if w == run else w for w in words]
    raced = selfdev(*words, "--race", "sure", "--top", "1", "--json")
    assert raced.code == 0, raced.stderr
    mine, theirs = ({c["id"]: c for c in r["candidates"]} for r in (raced.json, full))
    scored = [c for c in full["candidates"] if c["status"] == "scored"]
    best = max(scored, key=lambda c: c["correct"])["id"]  # the first of equals
    assert mine[best]["status"] == "scored"
    assert mine[best]["correct"] == theirs[best]["correct"]
    stopped = [c for c in mine.values() if c["status"] == "stopped"]
    assert stopped and all(c["n"] < NUM_QUESTIONS for c in stopped)
    right = {(s["candidate"], s["index"]): s["correct"] for s in lines(run / "samples.jsonl")}
    samples = lines(tmp_path / "run" / "samples.jsonl")
    for c in stopped:
        answered = [s for s in samples if s["candidate"] == c["id"]]
        assert len(answered) == c["n"]
        agree = [right[c["id"], s["index"]] == s["correct"] for s in answered]
        assert sum(agree) >= 0.95 * len(agree)  # another batch may round a tie otherwise
    again = selfdev(*words, "--race", "sure", "--top", "1", "--json")
    assert outcomes(again.json) == outcomes(raced.json)


def outcomes(result: dict) -> list[tuple]:
    keys = ("id", "status", "kind", "correct", "n")
    return [tuple(c.get(k) for k in keys) for c in result["candidates"]]


def test_the_same_again_pays_nothing(selfdev, screened):
    words, run, result = screened
    again = selfdev(*words, "--json")
    assert again.code == 0, again.stderr
    assert outcomes(again.json) == outcomes(result)
    assert again.json["engine"]["threads"] == result["engine"]["threads"] >= 1
    with sqlite3.connect(run / "run.db") as db:
        rows = db.execute("SELECT candidate FROM scores").fetchall()
    assert len(rows) == len(set(rows))


def test_other_settings_are_refused(selfdev, screened):
    words, run, _ = screened
    other = selfdev(*words, "--include", "all", "--json")
    assert other.code == 2
    assert run.name in other.json["error"]


def test_a_bound_on_memory_changes_no_score(selfdev, screened, tmp_path):
    words, run, result = screened
    words = [tmp_path / "run" if w == run else w for w in words]
    bound = selfdev(*words, "--memory", "200MiB", "--json")
    assert bound.code == 0, bound.stderr
    assert outcomes(bound.json) == outcomes(result)


def test_too_little_memory_is_refused_before_anything_is_made(selfdev, screened, tmp_path):
    words, run, _ = screened
    words = [tmp_path / "run" if w == run else w for w in words]
    little = selfdev(*words, "--memory", "64MiB", "--json")
    assert little.code == 2
    assert "--memory" in little.json["error"]
    assert not (tmp_path / "run").exists()


def test_kill_9_loses_and_leaves_nothing(selfdev, screened, tmp_path):
    words, _, result = screened
    run = tmp_path / "run"
    words = [
        run if str(w).endswith("run") and i == len(words) - 2 else w for i, w in enumerate(words)
    ]
    command = [str(Path(sys.executable).parent / "selfdev-engine"), *map(str, words)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while num_scores(run / "run.db") < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert num_scores(run / "run.db") >= 2
    end = time.monotonic() + 15
    while (left := processes_naming(str(run))) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left
    resumed = selfdev(*words, "--json")
    assert resumed.code == 0, resumed.stderr
    assert outcomes(resumed.json) == outcomes(result)


def num_scores(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM scores").fetchone()[0]
    except sqlite3.OperationalError:  # a store in the making
        return 0


def processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in words:
            found.append(words)
    return found
