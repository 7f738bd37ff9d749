"""Files with control characters, halves of surrogate pairs and odd JSON: a line that names the place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.screening.read_programs import read_programs
from selfdev_engine.engine.tasks.load import load_task
from selfdev_engine.selfdev.cli.evaluate import grade_command
from selfdev_engine.selfdev.cli.options import parse_experts
from selfdev_engine.selfdev.cli.screen import screen_command
from selfdev_engine.selfdev.cli.trace import trace_command
from selfdev_engine.selfdev.methods import read_program

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\ud800-\udfff]")
GOOD = "def merge_models(d, device):\n    return sum(d.values())\n"
BAD_IDS = {
    "escape": "a\x1b[2J",
    "newline": "a\nb",
    "null": "a\0",
    "c1": "\x9b2J",
    "half a pair": "a\ud800",
    "empty": "",
    "long": "a" * 300,
}
ODD_LINES = {
    "deep": "[" * 100_000,
    "deep object": '{"id":' * 100_000,
    "a huge number": f'{{"id": {"9" * 5000}, "source": "x"}}',
    "a list": "[1, 2]",
    "a word": '"x"',
    "no source": '{"id": "a"}',
    "half a line": '{"id": "a',
}


def ended(command: Any, *words: object) -> int:
    with pytest.raises(SystemExit) as end:
        command.main([*map(str, words)], standalone_mode=False)
    return int(end.value.code or 0)


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows))
    return path


@pytest.mark.parametrize("name", BAD_IDS)
def test_an_id_is_plain_text(tmp_path, capfd, name: str):
    file = lines(
        tmp_path / "p.jsonl", {"id": "ok", "source": GOOD}, {"id": BAD_IDS[name], "source": GOOD}
    )
    words = ("--base", "x", "--expert", "x=x", "--task", "gsm8k", "--run", tmp_path / "run")
    assert ended(screen_command, file, *words, "--json") == 2
    out, err = capfd.readouterr()
    assert "p.jsonl:2: " in err and not CONTROL.search(out + err)
    assert json.loads(out)["status"] == "error" and not (tmp_path / "run").exists()


def test_a_files_name_is_an_id_too(tmp_path):
    for name in (b"a\xff.py", b"a\x1b.py"):
        folder = tmp_path / str(len(name))
        folder.mkdir(exist_ok=True)
        file = Path(str(folder).encode().decode(), name.decode(errors="surrogateescape"))
        file.write_text(GOOD)
        with pytest.raises(UsageError, match=r"id.*(control character|surrogate)"):
            read_programs([str(folder)])
        file.unlink()


def test_a_program_may_begin_with_a_byte_order_mark(tmp_path):
    """Editors of Windows write one, and Python reads such a file."""
    file = tmp_path / "p.py"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_programs([str(file)]) == [("p", GOOD)]
    assert read_program(str(file), {}).code.strip() == GOOD.strip()


@pytest.mark.parametrize("name", ODD_LINES)
def test_a_line_that_is_no_program_is_named(tmp_path, name: str):
    file = lines(tmp_path / "p.jsonl", {"id": "ok", "source": GOOD}, ODD_LINES[name])
    with pytest.raises(UsageError, match=r"p\.jsonl:2: "):
        read_programs([str(file)])


def test_odd_text_in_a_source_is_the_programs_affair(tmp_path):
    sources = [f"{GOOD}# {text}" for text in ("\ud800", "\0", "\x1b[2J", "\u2028")]
    file = lines(
        tmp_path / "p.jsonl", *({"id": str(i), "source": s} for i, s in enumerate(sources))
    )
    assert [text for _, text in read_programs([str(file)])] == sources


@pytest.mark.parametrize("text", ["\ud800", "\0", "\x1b[2J"])
def test_trace_rejects_or_takes_odd_text(tmp_path, capfd, text: str):
    """In a comment it means nothing; where Python cannot parse it, the rejection is one clean object."""
    program = tmp_path / "p.py"
    program.write_bytes(f"{GOOD}# {text}\nx = '{text}'".encode(errors="surrogatepass"))
    code = ended(trace_command, program, "--shape", "4x6", "--json")
    out, err = capfd.readouterr()
    assert code in (0, 2, 3) and isinstance(json.loads(out), dict)
    assert not CONTROL.search(out + err)


@pytest.mark.parametrize("task", ["gsm8k", "math"])
def test_answers_of_models_may_be_any_text(tmp_path, capfd, task: str):
    rows = [
        {"response": f"{t} #### 3 {t}", "answer": "#### 3"} for t in ("\ud83d", "\0", "\x1b[2J")
    ]
    file = lines(tmp_path / "a.jsonl", *rows)
    assert ended(grade_command, file, "--task", task, "--json") == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["n"] == 3 and not CONTROL.search(out + err)


@pytest.mark.parametrize("key", ["question", "answer", "prompt"])
def test_a_task_is_text(tmp_path, key: str):
    row = {"question": "q", "answer": "1", "prompt": "p"}
    file = lines(tmp_path / "t.jsonl", row, {**row, key: "\ud800"})
    with pytest.raises(UsageError, match=rf"t\.jsonl:2: '{key}' .*surrogate"):
        load_task(f"jsonl:{file}")


@pytest.mark.parametrize("name", ODD_LINES)
def test_a_line_that_is_no_question_is_named(tmp_path, name: str):
    file = lines(tmp_path / "t.jsonl", {"question": "q", "answer": "1"}, ODD_LINES[name])
    with pytest.raises(UsageError, match=r"t\.jsonl:2: "):
        load_task(f"jsonl:{file}")


def test_a_deep_yaml_is_refused(tmp_path):
    (tmp_path / "t.yaml").write_text("[" * 50_000)
    with pytest.raises(UsageError, match="not YAML"):
        load_task(f"jsonl:{tmp_path / 't.yaml'}")


def test_a_name_of_an_expert_is_printable():
    with pytest.raises(UsageError, match="cannot be printed"):
        parse_experts(("a\x1b=dir",))
