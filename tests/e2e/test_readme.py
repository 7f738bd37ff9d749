"""What the README tells people to type works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text()
LOOK = ("ls", "show", "top", "diff", "compare")
LONG = ("run", *LOOK, "report", "export", "bench")  # and what follows them
SMALLER = {"samples": 12, "iterations": 1, "baselines": [], "test": {"top": 0}}


def section(name: str) -> str:
    return re.split(r"^## ", README.split(f"## {name}\n")[1], maxsplit=1, flags=re.M)[0]


def commands() -> list[str]:
    """The indented lines of "Commands", continued ones joined."""
    block = section("Commands").replace("\\\n", " ")
    return [m[1].strip() for m in re.finditer(r"^    (selfdev-engine[^#\n]*)", block, re.M)]


@pytest.fixture(scope="module")
def folder(zoo, tmp_path_factory) -> Path:
    """A folder that looks like a clone in which `make demo` ran; its config asks for little."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("zoo", "tests", "examples"):
        (folder / name).symlink_to(REPO / name)
    config = yaml.safe_load((REPO / "configs" / "demo.yaml").read_text())
    (folder / "configs").mkdir()
    (folder / "configs" / "demo.yaml").write_text(yaml.safe_dump({**config, **SMALLER}))
    (folder / "answers.jsonl").write_text('{"response": "2 + 2 = 4\\n#### 4", "answer": "4"}\n')
    return folder


def call(command: list[str] | str, folder: Path, **options) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    shell = isinstance(command, str)
    done = subprocess.run(
        command, cwd=folder, env=env, shell=shell, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_commands_are_all_there():
    words = [command.split()[1] for command in commands()]
    assert sorted(words) == sorted(
        ["doctor", "zoo", "methods", "trace", "merge", "eval", "screen", "grade", *LONG]
    )
    assert words.index("merge") < words.index("eval")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("doctor", "zoo", "trace", "merge", "eval", "grade"), id="short"),
        pytest.param(
            ("screen", "run", *LOOK, "report", "export"), id="long", marks=pytest.mark.slow
        ),
    ],
)
def test_the_commands_run(folder, words):
    for command in commands():
        if command.split()[1] in words:
            call(command, folder)


def test_the_python_example_runs(folder):
    code = README.split("```python\n")[1].split("```")[0]
    call([sys.executable, "-c", code], folder)
    assert (folder / "merged" / "model.safetensors").exists()
    assert (folder / "merged" / "config.json").exists()
