"""The tutorial's blocks run in order, in one process, as they stand in the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_has_blocks_and_nothing_else_in_fences():
    assert len(BLOCKS) >= 8 and PAGE.count("```") == 2 * len(BLOCKS)


@pytest.mark.engine
@pytest.mark.slow
def test_the_tutorial_runs(zoo, tmp_path):
    (tmp_path / "zoo").symlink_to(REPO / "zoo")
    marks = "".join(f"\nprint('block {i}')\n{block}" for i, block in enumerate(BLOCKS))
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", marks], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for made in (
        "blend/model.safetensors",
        "ties/config.json",
        "first/run.db",
        "loop/report.html",
        "best/config.json",
    ):
        assert (tmp_path / made).is_file(), made
    assert not (tmp_path / "no").exists()
