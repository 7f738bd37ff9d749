"""The files for containers and clusters: their syntax, and that what they name is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
FOLDER = REPO / "configs" / "cluster"
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD", "ENV"}


def test_the_batch_script_is_bash_and_goes_on_with_a_run(tmp_path):
    script = FOLDER / "slurm.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    # Stand-ins say how they were called.
    for name in ("srun", ".venv/bin/selfdev-engine"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> calls\n')
        path.chmod(0o755)
    (tmp_path / "r").mkdir()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path)}
    words = ["bash", script, "c.yaml", "r"]
    assert subprocess.run(words, env=environment, timeout=60).returncode == 0
    (tmp_path / "r" / "run.db").touch()
    assert subprocess.run(words, env=environment, timeout=60).returncode == 0
    run = "selfdev-engine run c.yaml --run r"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{run} --plan",
        f"srun --ntasks=1 .venv/bin/{run}",
        f"{run} --resume --plan",
        f"srun --ntasks=1 .venv/bin/{run} --resume",
    ]
    failed = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
    assert failed.returncode != 0 and "which config" in failed.stderr


def test_the_image_is_built_of_files_that_are_here():
    text = re.sub(r"\\\n", " ", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert {line.split()[0] for line in lines} <= INSTRUCTIONS
    assert lines[0].startswith("FROM ")
    for name in re.findall(r"(?:-r |COPY |python )((?:tests/)?[\w-]+\.(?:lock|py))", text):
        assert (REPO / name).is_file(), name


@pytest.mark.parametrize("name", [".venv", "runs", "zoo"])
def test_what_is_made_here_stays_out_of_the_image(name):
    assert name in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
