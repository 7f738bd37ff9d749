"""The commands as a careless user meets them: help, mistakes, exit codes, one JSON object."""

from __future__ import annotations

import json
import re

import pytest

BODY = """import torch

def merge_models(model_dict, device):
    a, b, c = [m.detach().to(device) for m in model_dict.values()]
    return {}
"""
OPTIONS = {
    "doctor": "",
    "zoo": "--size",
    "methods": "",
    "trace": "--shape --experts --show --param",
    "merge": "--base --expert --out --include --backend --param --overwrite --memory --seed --unsafe-sandbox",
    "screen": "--base --expert --task --run --race --log-samples --include --backend --param --memory --seed",
    "eval": "--task --split --log-samples --output --data",
    "grade": "--task",
    "run": "--run --resume --plan --gpus --name --note --log-samples",
    "ls": "",
    "show": "",
    "top": "--n",
    "diff": "",
    "compare": "--split",
    "report": "--out",
    "export": "--out",
    "bench": "--zoo",
}
MISTAKES = [  # words, what the one line must name
    ("trace absent.py --shape 4x4", "absent.py"),
    ("trace GOOD --shape 4by4", "4by4"),
    ("merge GOOD --base absent-model EXPERTS --out OUT", "absent-model"),
    ("merge GOOD MODELS --out OUT --backend abacus", "abacus"),
    ("merge GOOD MODELS --out OUT --include ([", "(["),
    ("merge GOOD MODELS --out OUT --param density", "density"),
    ("merge ties MODELS --out OUT --param densty=0.3", "density"),
    ("merge GOOD MODELS --out OUT --param densty=0.3", "densty"),
    ("screen GOOD MODELS --task TASK --run OUT --param densty=0.3", "densty"),
    ("screen GOOD MODELS --task TASK --run OUT --top 3", "--race"),
    ("grade GOOD --task jsonl:nothing", "jsonl:nothing"),
    ("merge no_such_method MODELS --out OUT", "no_such_method"),
    ("screen GOOD MODELS --task jsonl:absent.jsonl --run OUT", "absent.jsonl"),
    ("screen GOOD MODELS --task no-such-task --run OUT", "no-such-task"),
    ("screen absent.jsonl MODELS --task TASK --run OUT", "absent.jsonl"),
    ("eval absent-model --task TASK", "absent-model"),
    ("grade GOOD --task no-such-task", "no-such-task"),
    ("run absent.yaml", "absent.yaml"),
    ("report absent-run", "absent-run"),
    ("show absent-run", "absent-run"),
    ("top absent-run", "absent-run"),
    ("diff absent-run a b", "absent-run"),
    ("compare absent-run a b", "absent-run"),
    ("compare absent-run absent-too", "absent-run"),
    ("ls absent-dir", "absent-dir"),
    ("export absent-run x --out OUT", "absent-run"),
    ("bench no_such_row", "no_such_row"),
]


@pytest.mark.parametrize("command", OPTIONS)
def test_help_lists_the_options(selfdev, command):
    answer = selfdev(command, "--help")
    assert answer.code == 0
    assert not [o for o in [*OPTIONS[command].split(), "--json"] if o not in answer.stdout]
    wrong = selfdev(command, "--no-such")
    assert wrong.code == 2
    assert "--no-such" in wrong.stderr


@pytest.mark.parametrize(
    "words", ["merge ties --out x --data x", "eval x --task gsm8k --unsafe-sandbox"]
)
def test_an_option_that_would_change_nothing_is_refused(selfdev, words):
    answer = selfdev(*words.split())
    assert answer.code == 2
    assert "No such option" in answer.stderr


@pytest.mark.parametrize(("words", "culprit"), MISTAKES)
def test_a_mistake_is_one_line(selfdev, zoo, tmp_path, words, culprit):
    (tmp_path / "good.py").write_text(BODY.format("0.3 * a"))
    known = {
        "GOOD": [tmp_path / "good.py"],
        "MODELS": zoo.models,
        "EXPERTS": zoo.models[2:],
        "OUT": [tmp_path / "out"],
        "TASK": [f"jsonl:{zoo.tasks['mixed']}"],
    }
    given = [w for word in words.split() for w in known.get(word, [word])]
    answer = selfdev(*given, "--json")
    assert answer.code == 2, answer.stderr
    assert culprit in answer.json["error"]
    assert answer.json["status"] == "error"
    assert answer.json["error"] in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "out").exists()


def test_doctor_says_what_each_lack_costs(selfdev):
    answer = selfdev("doctor", "--json")
    assert answer.code == 0, answer.stderr
    names = {c["name"]: c for c in answer.json["checks"]}
    assert {"torch", "cpu kernels", "vllm", "memory"} <= names.keys()
    assert any("seccomp" in name for name in names)
    assert all(c["fix"] for c in names.values() if not c["ok"])


def test_trace_tells_the_cost(selfdev, tmp_path):
    (tmp_path / "p.py").write_text(BODY.format("0.3 * a + 0.7 * b.clamp(-1, 1) - c"))
    answer = selfdev("trace", tmp_path / "p.py", "--shape", "64x48", "--json")
    assert answer.code == 0, answer.stderr
    report = answer.json
    assert (report["status"], report["tier"], report["passes"]) == ("ok", "fused", 1)
    assert report["bytes"] == 64 * 48 * (4 + 1) * 2  # base and 3 experts read, one write, bf16
    shown = selfdev("trace", tmp_path / "p.py", "--shape", "64x48", "--show", "plan")
    assert re.search(r"0\.3", shown.stdout)


def test_synthetic_numbers_fit_into_memory(selfdev, tmp_path):
    """A program that asks for numbers of a huge tensor is refused, not killed by the kernel."""
    (tmp_path / "p.py").write_text(
        "def merge_models(d, device):\n"
        "    a = next(iter(d.values()))\n"
        "    return a if float(a.norm()) > 1 else 2 * a\n"
    )
    words = ("--shape", "92681x92681", "--experts", "99", "--json")
    answer = selfdev("trace", tmp_path / "p.py", *words)
    assert answer.code == 2, answer.stderr
    assert "synthetic ones of this shape take" in answer.json["error"]


def test_a_rejection_has_kind_line_and_exit_code(selfdev, tmp_path):
    (tmp_path / "p.py").write_text(BODY.format("a + an_unknown_name"))
    answer = selfdev("trace", tmp_path / "p.py", "--shape", "4x4", "--json")
    assert answer.code == 3
    found = answer.json
    assert (found["status"], found["kind"], found["line"]) == ("rejected", "runtime", 5)
    assert "an_unknown_name" in found["detail"]


def test_grade_counts_both_ways(selfdev, tmp_path):
    rows = [("so the sum is 4", "4"), ("4", "4"), ("#### 1,000", "1000"), ("5", "4")]
    lines = [json.dumps({"response": r, "answer": a}) for r, a in rows]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    found = selfdev("grade", tmp_path / "r.jsonl", "--task", "gsm8k", "--json").json
    assert (found["n"], found["strict"], found["flexible"]) == (4, 1, 3)
