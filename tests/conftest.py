"""Fixtures for all tests: the installed command, and the tiny zoo that `make test` made before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        return json.loads(self.stdout)


@pytest.fixture(scope="session")
def selfdev() -> Callable[..., Answer]:
    """selfdev("merge", ..., cwd=...) -> Answer; the console script, in a process of its own."""

    def call(*words: object, timeout_s: float = 300, **options: Any) -> Answer:
        command = [str(Path(sys.executable).parent / "selfdev-engine"), *map(str, words)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=env, **options
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@dataclass(frozen=True)
class Zoo:
    """The tiny zoo's paths, absolute."""

    folder: Path
    base: Path
    experts: dict[str, Path]
    generator: Path
    tasks: dict[str, Path]

    @property
    def models(self) -> list[str]:
        """--base and --expert words for a command."""
        experts = [w for name, path in self.experts.items() for w in ("--expert", f"{name}={path}")]
        return ["--base", str(self.base), *experts]


@pytest.fixture(scope="session")
def zoo(selfdev: Callable[..., Answer]) -> Zoo:
    """The tiny zoo, made once and kept in zoo/tiny."""
    folder = REPO / "zoo" / "tiny"
    answer = selfdev("zoo", folder, "--json", timeout_s=900)
    assert answer.code == 0, answer.stderr
    made = answer.json
    return Zoo(
        folder,
        folder / made["base"],
        {name: folder / path for name, path in made["experts"].items()},
        folder / made["generator"],
        {name: folder / path for name, path in made["tasks"].items()},
    )
