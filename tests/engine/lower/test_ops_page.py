"""Checks that docs/ops.md says what the code does now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[3]


def test_the_page_is_current():
    words = [sys.executable, str(REPO / "docs" / "make_ops.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=REPO)
    assert done.returncode == 0, done.stdout + done.stderr
