"""A mistake in what was asked is said at once: in one line, before torch is loaded or anything started."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# A bad command takes about 0.4 s of CPU on the machine of LOG.md; torch alone takes 1.5 s. What it imports
# is tested, not its seconds: those depend on the machine.
RUN = """
import multiprocessing, subprocess, sys
from selfdev_engine.selfdev.cli import main
def refuse(*words, **more):
    raise AssertionError("a process was started")
subprocess.Popen.__init__ = refuse
try:
    main()
except SystemExit as ended:
    assert ended.code == 2, ended.code
heavy = {"torch", "transformers", "trl", "vllm", "ray", "triton", "scipy", "sympy", "pandas", "datasets", "cma"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
EXPERT = ("--expert", "a=nowhere")
TASK = ("--task", "jsonl:nowhere.jsonl")
WRONG = {
    "merge-base": ("merge", "ties", "--base", "nowhere", *EXPERT, "--out", "out"),
    "merge-backend": ("merge", "ties", "--base", ".", *EXPERT, "--out", "out", "--backend", "cup"),
    "screen-base": ("screen", "p.py", "--base", "nowhere", *EXPERT, *TASK, "--run", "run"),
    "screen-programs": ("screen", "nowhere", "--base", ".", *EXPERT, *TASK, "--run", "run"),
    "screen-backend": ("screen", "p.py", "--base", ".", *EXPERT, *TASK, "--run", "run", "--backend", "cup"),
    "trace-shape": ("trace", "p.py", "--shape", "4x"),
    "trace-program": ("trace", "nowhere.py", "--shape", "4x4"),
    "eval-model": ("eval", "nowhere", *TASK),
    "run-config": ("run", "nowhere.yaml"),
    "run-model": ("run", "config.yaml"),
    "report": ("report", "nowhere"),
    "compare": ("compare", "nowhere", "a", "b"),
    "export": ("export", "nowhere", "best", "--out", "out"),
    "trace-huge": ("trace", "p.py", "--shape", "99999999x99999999"),
    "merge-out": ("merge", "p.py", "MODELS", "--out", "taken"),
    "merge-out-nowhere": ("merge", "p.py", "MODELS", "--out", "/proc/nowhere"),
    "merge-memory": ("merge", "p.py", "MODELS", "--out", "out", "--memory", "1KiB"),
    "merge-memory-text": ("merge", "p.py", "MODELS", "--out", "out", "--memory", "lots"),
    "screen-run": ("screen", "p.py", "MODELS", "TASK", "--run", "taken"),
    "screen-run-nowhere": ("screen", "p.py", "MODELS", "TASK", "--run", "/proc/nowhere"),
    "screen-run-here": ("screen", "p.py", "MODELS", "TASK", "--run", "."),
    "screen-memory": ("screen", "p.py", "MODELS", "TASK", "--run", "run", "--memory", "100MiB"),
    "screen-of-a-loop": ("screen", "p.py", "MODELS", "TASK", "--run", "loop"),
    "eval-memory": ("eval", "BASE", "TASK", "--memory", "1KiB"),
    "eval-log": ("eval", "BASE", "TASK", "--log-samples", "nowhere/log.jsonl"),
    "eval-log-nowhere": ("eval", "BASE", "TASK", "--log-samples", "/proc/nowhere.jsonl"),
    "eval-split": ("eval", "BASE", "--task", "jsonl:dev.jsonl", "--split", "test"),
    "run-run": ("run", "good.yaml", "--run", "taken"),
    "run-here": ("run", "good.yaml", "--run", "."),
    "run-plan-here": ("run", "good.yaml", "--run", ".", "--plan"),
    "run-memory": ("run", "good.yaml", "--run", "run", "--memory", "1MiB"),
    "run-memory-of-config": ("run", "memory.yaml", "--run", "run"),
    "run-resume": ("run", "good.yaml", "--run", "run", "--resume"),
    "run-of-a-screening": ("run", "good.yaml", "--run", "screening", "--resume"),
    "bench-out": ("bench", "apply", "--out", "nowhere/out.json"),
}  # fmt: skip
CULPRITS = {
    **dict.fromkeys(("merge-out", "screen-run", "run-run"), "taken"),
    **dict.fromkeys(("run-here", "run-plan-here"), "holds files, but no run"),
    "screen-run-here": "holds an input: the task",
    **dict.fromkeys(("screen-memory", "eval-memory", "run-memory", "merge-memory"), "--memory: "),
    "merge-memory-text": "--memory lots",
    "run-memory-of-config": "engine.memory: ",
    "run-resume": "--resume: run holds no run",
    "run-of-a-screening": "holds a run of `screen`, which `run` cannot go on with",
    "screen-of-a-loop": "holds a run of `run`, which `screen` cannot go on with",
    "eval-split": "has no test questions; it has 1 dev questions",
    "merge-backend": "cup",
    "screen-backend": "cup",
    "trace-shape": "4x",
    "trace-huge": "2^33",
}


def fill(folder, zoo):
    """Make the files that the commands name."""
    (folder / "p.py").write_text("def merge_models(d, device):\n    return d\n")
    (folder / "config.yaml").write_text("base: ./nowhere\nexperts: {a: ./nowhere}\ntask: gsm8k\n")
    (folder / "dev.jsonl").write_text('{"question": "1+1=", "answer": 2}\n')
    experts = {name: str(path) for name, path in zoo.experts.items()}
    config = {"base": str(zoo.base), "experts": experts, "task": "jsonl:dev.jsonl"}
    (folder / "good.yaml").write_text(json.dumps(config))
    (folder / "memory.yaml").write_text(json.dumps({**config, "engine": {"memory": "lots"}}))
    (folder / "taken").mkdir()
    (folder / "taken" / "notes.txt").touch()
    for name, settings in {"loop": {"iterations": 3}, "screening": {"backend": "auto"}}.items():
        (folder / name).mkdir()
        (folder / name / "selfdev-engine.lock").touch()
        (folder / name / "config.yaml").write_text(json.dumps(settings))


@pytest.mark.parametrize("case", WRONG)
def test_it_is_said_at_once(case, zoo, tmp_path):
    fill(tmp_path, zoo)
    known = {"MODELS": zoo.models, "BASE": [str(zoo.base)], "TASK": ["--task", "jsonl:dev.jsonl"]}
    words = [w for word in WRONG[case] for w in known.get(word, [word])]
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-P", "-c", RUN, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert CULPRITS.get(case, "nowhere") in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
