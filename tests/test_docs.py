"""The pages: the site builds without a warning, command blocks are tagged and true, references are complete."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from selfdev_engine.engine.records import schema
from selfdev_engine.selfdev.cli import cli

REPO = Path(__file__).parents[1]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (\w+) -->\n\n)?((?:^    .*\n(?:\n(?=    ))?)+)", re.M)
COMMAND = re.compile(
    r"^    (?:\S+=\S+ )?(?:\.venv/bin/)?(?:selfdev-engine|make|python|pip|ray|sqlite3) ", re.M
)
# run: executed by a test. syntax: placeholders stand in it. gpu, hub: what this machine may lack.
TAGS = {"run", "syntax", "gpu", "hub"}
# They take minutes each; README's demo is what `make demo` is tested by.
MAKES = ("make ", "bench")


@dataclass(frozen=True)
class Block:
    page: Path
    tag: str
    text: str

    def commands(self) -> Iterator[str]:
        """Yield the lines of the block without comments, continued ones joined."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if line := re.sub(r"(^|\s)# .*", "", line).strip():
                yield line


def blocks() -> list[Block]:
    return [
        Block(page, found[1] or "", found[2])
        for page in PAGES
        for found in BLOCK.finditer(page.read_text() + "\n")
        if COMMAND.search(found[2])
    ]


def test_every_block_of_commands_is_tagged():
    assert len(blocks()) > 12
    assert [(b.page.name, b.text[:60]) for b in blocks() if b.tag not in TAGS] == []


def ours(block: Block) -> Iterator[list[str]]:
    for line in block.commands():
        words = shlex.split(line.replace("[", "").replace("]", ""))
        if words[0].endswith("selfdev-engine"):
            yield words[1:]


def test_commands_and_options_of_the_pages_exist():
    seen = set[str]()
    for name, *words in (words for block in blocks() for words in ours(block)):
        command = cli.get_command(click.Context(cli), name)
        assert command, name
        known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        wrong = [w for w in words if w.startswith("--") and w.split("=")[0] not in known]
        assert not wrong, (name, wrong)
        seen.add(name)
    assert seen == set(cli.list_commands(click.Context(cli)))


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("furo", reason="pip install '.[docs]'")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*words, "docs", str(tmp_path)], cwd=REPO, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
    assert "--overwrite" in (tmp_path / "cli.html").read_text()


def test_the_picture_of_the_terminal_loads_nothing_and_shows_what_is_there():
    picture = (REPO / "docs" / "terminal.svg").read_text()
    assert "url(http" not in picture and "href" not in picture and "<script" not in picture
    shown = set(re.findall(r"\$&#160;selfdev-engine&#160;(\w+)", picture))
    assert shown and shown <= set(cli.list_commands(click.Context(cli)))


def test_every_table_of_run_db_is_described():
    db = sqlite3.connect(":memory:")
    schema.create(db)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    page = (REPO / "docs" / "run_db.md").read_text()
    rows = {m[1]: m[0] for m in re.finditer(r"^\| `(\w+)` \|.*$", page, re.M)}
    assert rows.keys() == set(tables)
    for table in tables:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        assert [c for c in columns if f"`{c}`" not in rows[table]] == [], table


def fields_on_page(command: str) -> set[str]:
    page = (REPO / "docs" / "json.md").read_text()
    row = next(m[1] for m in re.finditer(r"^\| (`[^|]+) \|", page, re.M) if f"`{command}`" in m[1])
    return set(re.findall(r"`(\w+)`", page.split(f"| {row} |")[1].split("\n")[0]))


@pytest.mark.parametrize(
    "words",
    [
        ("methods",),
        ("doctor",),
        ("trace", "examples/weighted.py", "--shape", "8x8"),
        ("grade", "ANSWERS", "--task", "gsm8k"),
    ],
    ids=lambda words: words[0],
)
def test_the_fields_of_an_object_are_described(words, tmp_path, monkeypatch):
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"response": "#### 4", "answer": "4"}\n')
    monkeypatch.chdir(REPO)
    line = [sys.executable, "-m", "selfdev_engine.selfdev.cli", *words]
    line = [str(answers) if word == "ANSWERS" else word for word in line]
    code = "import sys; from selfdev_engine.selfdev.cli import main; sys.argv[1:] = sys.argv[2:]; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *line[2:], "--json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert json.loads(done.stdout).keys() <= fields_on_page(words[0]), done.stderr


# "`Name` in `folder/file.py`" and "`Name` in [file.py](../folder/file.py)".
PLACED = re.compile(r"`(?:\w+\.)*(\w+)`\s+in\s+(?:`|\[[^]]+\]\(\.\./)([\w/]+\.py)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_places_in_a_file_is_there(page: Path):
    placed = PLACED.findall(page.read_text())
    assert [pair for pair in placed if pair[0] not in (REPO / pair[1]).read_text()] == []


def test_help_names_every_command():
    said = CliRunner().invoke(cli, ["--help"]).output
    assert all(f"  {name} " in said for name in cli.list_commands(click.Context(cli)))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_run_blocks_of_the_pages_run(zoo, tmp_path):
    """README's are run by tests/e2e/test_readme.py."""
    for name in ("zoo", "tests", "examples", "configs"):
        (tmp_path / name).symlink_to(REPO / name)
    (tmp_path / "answers.jsonl").write_text('{"response": "so it is 4", "answer": "4"}\n')
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    for block in blocks():
        if block.tag != "run" or block.page.name == "README.md":
            continue
        for line in block.commands():
            if not any(word in line for word in MAKES):
                command = line.replace(".venv/bin/", "")
                done = subprocess.run(
                    command, cwd=tmp_path, env=env, shell=True, capture_output=True, text=True
                )
                assert done.returncode == 0, (line, done.stderr)
