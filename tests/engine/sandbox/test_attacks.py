"""The attack suite: every file in tests/attacks fails, leaves nothing, and spoils no other program.

They run once, on the range (attack_range.py). Each test looks at one record. A first line such as
`# attack: loops  expect: timeout|memory` names the right verdicts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

RANGE = Path(__file__).with_name("attack_range.py")
ATTACKS = sorted((Path(__file__).parents[2] / "attacks").glob("*.py"))
MOST_RSS_GROWTH_KIB = 4096


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """The record of all attacks, which ran in one zygote."""
    record = run_range()
    if record["how"] != "namespaces":
        warnings.warn(f"the attack range has no namespaces here: {record['how']}", stacklevel=1)
    return record


def run_range(*words: object) -> dict[str, Any]:
    command = [sys.executable, str(RANGE), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def header(path: Path) -> tuple[str, set[str]]:
    """An attack's category and its right verdicts."""
    words = path.read_text().split("\n", 1)[0].split()
    assert words[:2] == ["#", "attack:"] and words[3] == "expect:", path
    return words[2], set(words[4].split("|"))


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path.stem)
def test_it_fails_and_the_next_program_is_right(record: dict[str, Any], path: Path):
    category, allowed = header(path)
    attack = record["attacks"][path.stem]
    assert category == path.stem.split("_")[0]
    assert attack["kind"] in allowed, attack
    assert attack["evidence"] == [], attack
    assert attack["next_is_right"] and attack["same_zygote"], attack
    if attack["kind"] != "ok":
        assert attack["detail"] and attack["detail"].replace("\n", "").isprintable()


def test_the_range_is_harmless(record: dict[str, Any]):
    assert record["uid"] != 0
    assert set(record["attacks"]) == {path.stem for path in ATTACKS}


def test_nothing_is_left(record: dict[str, Any]):
    assert record["zombies"] == [] and record["left_over"] == [] and record["after_close"] == []


def test_the_zygote_is_as_before(record: dict[str, Any]):
    before, after = record["zygote"]["before"], record["zygote"]["after"]
    # With so many rounds a leak would show.
    assert record["zygote"]["rounds"] > 2 * before["descriptor_slots"]
    assert after["descriptor_slots"] == before["descriptor_slots"]
    assert after["pid"] == before["pid"] and after["threads"] == 1
    assert after["rss_kib"] - before["rss_kib"] < MOST_RSS_GROWTH_KIB


def test_the_range_notices_what_gets_through():
    """Without the system call filter some attacks succeed, and the evidence must say so."""
    succeed = {"file_stat", "kernel_shared_memory", "ptrace_traceme"}
    files = [path for path in ATTACKS if path.stem in succeed]
    record = run_range("--without", "seccomp", *files)
    assert "seccomp" not in record["layers"]
    assert {name for name, attack in record["attacks"].items() if attack["evidence"]} == succeed


def test_the_documentation_names_every_kind_of_attack():
    text = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text()
    assert {f"\n| {header(path)[0]}:" in text for path in ATTACKS} == {True}


LOOK = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import isolation
clone = isolation.REPO = Path(sys.argv[2])
def look(how):
    assert (clone / "here").exists()
    if how == "namespaces":
        assert not os.access(clone, os.W_OK)
        Path("/tmp/mine").write_text("writable, and gone with the range")
sys.exit(isolation.run_inside(look))
"""


def test_the_range_shows_a_clone_wherever_it_lies(tmp_path):
    """Also below /tmp, which is otherwise empty there, and with a space in its name."""
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "here").write_text("")
    words = [sys.executable, "-c", LOOK, RANGE.parent, clone]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not Path("/tmp/mine").exists()
