"""The libraries of the page are those that were published: their sums are as listed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from selfdev_engine.selfdev import report

VENDOR = Path(report.__file__).parent / "vendor"


def test_the_libraries_are_unchanged():
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in VENDOR.iterdir()}
    for name in ("SHA256SUMS", "README.md"):
        del files[name]
    assert files == listed
    scripts = {name for name in listed if name.endswith(".js")}
    assert len(scripts) == 4 and all(f"{name.split('.')[0]}.LICENSE" in listed for name in scripts)


def test_no_library_can_end_its_script():
    for path in VENDOR.glob("*.js"):
        text = path.read_text().lower()
        assert "</script" not in text and "<!--" not in text, path.name
