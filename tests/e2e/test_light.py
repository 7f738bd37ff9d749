"""A mistake in what was asked is said before torch is loaded, and before anything is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
assert "torch" not in sys.modules
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
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_it_is_said_at_once(case, tmp_path):
    (tmp_path / "p.py").write_text("def merge_models(d, device):\n    return d\n")
    (tmp_path / "config.yaml").write_text("base: ./nowhere\nexperts: {a: ./nowhere}\ntask: gsm8k\n")
    command = [sys.executable, "-P", "-c", RUN, *WRONG[case]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    last = done.stderr.strip().split("\n")[-1]
    assert last.startswith("error: ")
    assert any(word in last for word in ("nowhere", "cup", "4x"))
