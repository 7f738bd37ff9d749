"""Files with control characters, halves of surrogate pairs and odd JSON: a line that names the place."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident.runnable import check_runnable
from selfdev_engine.engine.screening.folder import read_config
from selfdev_engine.engine.screening.read_programs import read_programs
from selfdev_engine.engine.tasks.load import grading_of, load_task
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.machine import parse_machine
from selfdev_engine.engine.weights.small_file import read_bytes
from selfdev_engine.selfdev.cli.evaluate import grade_command, read_responses
from selfdev_engine.selfdev.cli.options import parse_experts, parse_params
from selfdev_engine.selfdev.cli.screen import screen_command
from selfdev_engine.selfdev.cli.trace import trace_command
from selfdev_engine.selfdev.config import load_config
from selfdev_engine.selfdev.mergekit_yaml import read_configuration
from selfdev_engine.selfdev.methods import read_program
from selfdev_engine.selfdev.prompts import load_prompt

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
    says = {b"a\xff.py": "no UTF-8: rename it", b"a\x1b.py": "'id' holds a control character"}
    for name, what in says.items():
        folder = tmp_path / str(len(name))
        folder.mkdir(exist_ok=True)
        file = Path(str(folder).encode().decode(), name.decode(errors="surrogateescape"))
        file.write_text(GOOD)
        with pytest.raises(UsageError, match=what):
            read_programs([str(folder)])
        file.unlink()


def test_a_configuration_of_mergekit_is_no_program(tmp_path):
    (tmp_path / "linear.yml").write_text("merge_method: linear")
    with pytest.raises(UsageError, match=r"linear\.yml: a configuration, not a program: .*merge"):
        read_programs([str(tmp_path / "linear.yml")])


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


def test_a_value_of_a_file_is_cut_where_it_is_shown(tmp_path):
    split = json.loads("[" * 900 + '"x"' + "]" * 900)
    for odd in (split, "x" * 100_000, ["y" * 100_000]):
        file = lines(tmp_path / "t.jsonl", {"question": "q", "answer": "1", "split": odd})
        with pytest.raises(UsageError, match="not dev or test") as found:
            load_task(f"jsonl:{file}")
        assert len(str(found.value)) < 500


def test_a_line_is_bounded_before_it_is_parsed(tmp_path):
    file = lines(tmp_path / "t.jsonl", '{"question": "q", "z": [' + "[]," * (6 << 20) + "0]}")
    for read in (
        lambda p: load_task(f"jsonl:{p}"),
        read_responses,
        lambda p: read_programs([str(p)]),
    ):
        with pytest.raises(UsageError, match=r"t\.jsonl:1: \d+ characters, at most"):
            read(file)


def test_no_file_makes_a_long_error(tmp_path, capfd):
    (tmp_path / "t.yaml").write_text(f"path: t.jsonl\n? {'k' * 300_000}\n: 1\n")
    words = ("--base", tmp_path, "--expert", f"a={tmp_path}", "--run", tmp_path / "run")
    assert ended(screen_command, tmp_path, *words, "--task", f"jsonl:{tmp_path / 't.yaml'}") == 2
    assert len(capfd.readouterr().err) < 12_000


# ---- what is no regular file, and texts that are no UTF-8


@contextmanager
def in_place_of(path: Path, kind: str) -> Iterator[None]:
    """Put something of this kind there."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        with socket.socket(socket.AF_UNIX) as one, chdir(path.parent):
            one.bind(path.name)
    yield
    path.rmdir() if kind == "folder" else path.unlink()


KINDS = {
    "pipe": "is a pipe",
    "folder": "is a folder",
    "device": "is a device",
    "socket": "is a socket",
    "link": r"a link that leads to no file \(nowhere\)",
}
READERS: dict[str, Callable[[Path], object]] = {
    "config.json": lambda p: Checkpoint.open(str(p.parent)).config,
    "model.safetensors.index.json": lambda p: Checkpoint.open(str(p.parent)),
    "tokenizer.json": lambda p: check_runnable(Checkpoint.open(str(p.parent)), "transformers"),
    "tokenizer_config.json": lambda p: check_runnable(
        Checkpoint.open(str(p.parent)), "transformers"
    ),
    "generation_config.json": lambda p: check_runnable(
        Checkpoint.open(str(p.parent)), "transformers"
    ),
    "task.jsonl": lambda p: load_task(f"jsonl:{p}"),
    "task.yaml": lambda p: load_task(f"jsonl:{p}"),
    "graded.jsonl": lambda p: grading_of(f"jsonl:{p}"),
    "answers.jsonl": read_responses,
    "programs.jsonl": lambda p: read_programs([str(p)]),
    "program.md": lambda p: read_programs([str(p)]),
    "merge.py": lambda p: read_program(str(p), {}),
    "run.yaml": load_config,
    "cards.yaml": lambda p: parse_machine(str(p)),
    "prompt.txt": lambda p: load_prompt("default", p.parent),
    "own.txt": lambda p: load_prompt(str(p), p.parent),
}


@pytest.fixture(scope="module")
def model(small_models, tmp_path_factory) -> Path:
    return shutil.copytree(small_models / "base", tmp_path_factory.mktemp("odd") / "base")


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_named_and_not_waited_for(model, name):
    path = model / name
    kept = path.read_bytes() if path.exists() else None
    for kind, says in KINDS.items():
        if kind == "folder" and name in ("programs.jsonl", "program.md", "merge.py"):
            continue  # a folder of programs
        with in_place_of(path, kind), pytest.raises(UsageError, match=says) as found:
            READERS[name](path)
        assert name in str(found.value)
    if kept is not None:
        path.write_bytes(kept)


TEXTS = {
    "run.yaml": "base: x",
    "task.yaml": "path: task.jsonl",
    "answers.jsonl": '{"response": "1", "answer": "1"}',
    "programs.jsonl": json.dumps({"id": "a", "source": GOOD}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_other_encodings_say_so(tmp_path, name):
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
        (tmp_path / name).write_bytes((mark + TEXTS[name]).encode(encoding))
        with pytest.raises(UsageError, match=rf"{name}: is UTF-16; save the file as UTF-8"):
            READERS[name](tmp_path / name)
    (tmp_path / name).write_bytes(TEXTS[name].encode() + b"\n\xe9")
    with pytest.raises(UsageError, match=rf"{name}:2: not UTF-8: byte 0xe9"):
        READERS[name](tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    for name in ("answers.jsonl", "programs.jsonl"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + TEXTS[name].encode() + b"\r\n")
        assert READERS[name](tmp_path / name)
    config = tmp_path / "run.yaml"
    config.write_bytes("\ufeffbase: x\r\nexperts: {a: y}\r\ntask: gsm8k\r\n".encode())
    assert load_config(config).task == "gsm8k"


@pytest.mark.parametrize("name", ["run.yaml", "task.yaml", "cards.yaml"])
@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tb: 1", "a: *x", "{{x}}: 1", "a: \x07"])
def test_a_fault_of_yaml_names_the_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as found:
        READERS[name](tmp_path / name)
    assert name in str(found.value) and "<unicode string>" not in str(found.value)


def repeated(kind: str) -> str:
    """YAML of 15 lines that stands for 9**14 values: lists of lists, or mappings taken over by `<<`."""
    line = {"lists": "[ALL]", "mappings": "{a: [ALL]}", "merged": "{<<: [ALL]}"}[kind]
    rows = ["path: t.jsonl", "a0: &a0 {k: v}"]
    for n in range(1, 15):
        rows.append(f"a{n}: &a{n} {line.replace('ALL', ', '.join([f'*a{n - 1}'] * 9))}")
    return "\n".join(rows)


YAML_READERS = {
    **{name: READERS[name] for name in ("run.yaml", "task.yaml", "cards.yaml")},
    "merge.yml": read_configuration,
    "config.yaml": lambda file: read_config(file.parent),
}


@pytest.mark.parametrize("name", YAML_READERS)
def test_aliases_of_yaml_do_not_multiply_without_bound(tmp_path, name):
    for kind in ("lists", "mappings", "merged"):
        (tmp_path / name).write_text(repeated(kind))
        with pytest.raises(UsageError, match=r"aliases \(\*name\) make more than"):
            YAML_READERS[name](tmp_path / name)
    (tmp_path / name).write_text("a: &a [1, *a]\n")
    with pytest.raises(UsageError, match="stands inside of what it names"):
        YAML_READERS[name](tmp_path / name)
    (tmp_path / name).write_text("#" * (2 << 20))
    with pytest.raises(UsageError, match="characters, at most"):
        YAML_READERS[name](tmp_path / name)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n", "[]", "7"])
def test_an_empty_yaml_is_no_config(tmp_path, text):
    for name in ("run.yaml", "task.yaml", "cards.yaml"):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            READERS[name](tmp_path / name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no object with a weight_map"),
        ("null", "no object with a weight_map"),
        ("7", "no object with a weight_map"),
        ("{}", "no object with a weight_map"),
        ('{"weight_map": {}}', "its weight_map is empty"),
        ('{"weight_map": null}', "its weight_map is no mapping"),
        ('{"weight_map": {"a": ["b"]}}', "is no safetensors file"),
        ("", "empty"),
        ("{", "Expecting"),
    ],
)
def test_an_index_that_is_none_says_why(model, text, says):
    index = model / "model.safetensors.index.json"
    index.write_text(text)
    try:
        with pytest.raises(UsageError, match=f"not an index of weights: .*{says}"):
            Checkpoint.open(str(model))
    finally:
        index.unlink()


@pytest.mark.parametrize("text", ["[]", "null", '"x"', ""])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
def test_a_companion_is_an_object(model, name, text):
    kept = (model / name).read_text()
    (model / name).write_text(text)
    try:
        with pytest.raises(UsageError, match=rf"{name}: (not a JSON object|is empty)"):
            check_runnable(Checkpoint.open(str(model)), "transformers")
    finally:
        (model / name).write_text(kept)


# ---- lines that could not be graded, or that are there twice


@pytest.mark.parametrize(
    ("task", "answer", "says"),
    [
        ("gsm8k", "she has eggs", "has no number after ####"),
        ("gsm8k", "3 + 4 = 7 eggs\n####", "has no number"),
        ("gsm8k", "#### seven", "has no number"),
        ("gsm8k", "5\n#### ", "has no number"),
        ("math", "$\\boxed{}$", "has an empty box"),
        ("math", "\\boxed{ }", "has an empty box"),
        ("math", "$$", "has an empty box"),
    ],
)
def test_a_reference_that_no_answer_meets_is_named(tmp_path, task, answer, says):
    file = lines(
        tmp_path / "a.jsonl",
        {"response": "1", "answer": "#### 1"},
        {"response": "1", "answer": answer},
    )
    with pytest.raises(UsageError, match=rf"a\.jsonl:2: 'answer' {says}"):
        read_responses(file, task)


@pytest.mark.parametrize("answer", ["7", 7, "#### 7", "3+4=7\n#### 7", "#### -1,200.50", "#### $7"])
def test_a_reference_with_a_number_is_taken(tmp_path, answer):
    assert read_responses(lines(tmp_path / "a.jsonl", {"response": "", "answer": answer}), "gsm8k")


def test_an_empty_prompt_asks_nothing(tmp_path):
    row = {"question": "q", "answer": "1"}
    assert (
        load_task(f"jsonl:{lines(tmp_path / 't.jsonl', {**row, 'prompt': None})}").rows[0].prompt
        == "q"
    )
    for prompt in ("", "  "):
        with pytest.raises(UsageError, match=r"t\.jsonl:1: 'prompt' is empty"):
            load_task(f"jsonl:{lines(tmp_path / 't.jsonl', {**row, 'prompt': prompt})}")


@pytest.mark.parametrize(("one", "other"), [(1, "1"), ("a", "a"), (1.5, "1.5"), (True, "true")])
def test_an_id_is_the_same_as_a_text_and_as_a_number(tmp_path, one, other):
    rows = ({"id": name, "question": "q", "answer": "1"} for name in (one, other))
    with pytest.raises(UsageError, match=r"t\.jsonl:2: the id .* is that of line 1, too"):
        load_task(f"jsonl:{lines(tmp_path / 't.jsonl', *rows)}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{memory: 80GB, count: yes}]", "count and rates are numbers above 0"),
        ("[{memory: 80GB, teraflops: .inf}]", "count and rates are numbers above 0"),
        ("[{memory: 80GB, count: -1}]", "count and rates are numbers above 0"),
        ("[{memry: 80GB}]", r"unknown key 'memry'; there are name, .*; did you mean 'memory'\?"),
        (
            "{gpus: [{memory: 80GB}], hst: 1TB}",
            r"unknown key 'hst'; there are gpus, host, disk; did you mean 'host'\?",
        ),
        ("[]", "names no card"),
    ],
)
def test_cards_that_are_none(tmp_path, text, says):
    (tmp_path / "cards.yaml").write_text(text)
    with pytest.raises(UsageError, match=rf"cards\.yaml: {says}"):
        parse_machine(str(tmp_path / "cards.yaml"))


def test_a_task_that_is_a_file_wants_its_prefix(tmp_path):
    file = lines(tmp_path / "t.jsonl", {"question": "q", "answer": "1"})
    with pytest.raises(UsageError, match=rf"no such task; write jsonl:{file} \(there are"):
        load_task(str(file))


# ---- files that are too large, or elsewhere, and values that no program can be told


def test_a_link_out_of_a_folder_of_programs_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("word\n")
    folder = tmp_path / "programs"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "good.py").write_text(GOOD)
    (folder / "a.py").symlink_to("inner/good.py")
    assert read_programs([str(folder)]) == [("a", GOOD)]
    (folder / "leak.py").symlink_to(secret)
    with pytest.raises(UsageError, match=r"leak\.py: the link leads out of the folder"):
        read_programs([str(folder)])
    assert read_programs([str(folder / "leak.py")]) == [("leak", "word\n")]


@pytest.mark.parametrize("path", ["../t.jsonl", "link.jsonl", "/proc/self/environ"])
def test_a_task_reads_its_own_folder_only(tmp_path, path):
    folder = tmp_path / "task"
    folder.mkdir()
    lines(tmp_path / "t.jsonl", {"question": "q", "answer": "1"})
    (folder / "link.jsonl").symlink_to("../t.jsonl")
    (folder / "t.yaml").write_text(f"path: {path}\n")
    with pytest.raises(UsageError, match="`path` leads out of the folder"):
        load_task(f"jsonl:{folder / 't.yaml'}")


def test_a_file_that_is_too_large_is_named(tmp_path):
    for name, size in (("p.py", 1 << 20), ("t.jsonl", 1 << 30)):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(size + 1)
        with pytest.raises(UsageError, match=rf"{name}: has {size + 1} bytes, .*{size} at most"):
            read_programs([str(tmp_path / name)])
    with pytest.raises(UsageError, match=r"p\.py: has 1048577 bytes"):
        read_program(str(tmp_path / "p.py"), {})


def test_a_file_that_grows_is_not_read_for_ever(tmp_path):
    with pytest.raises(UsageError, match="grows while it is read"):
        read_bytes(Path("/proc/self/maps"), 10)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "9" * 400, "9" * 5000, "NaN"])
def test_a_parameter_is_finite(value):
    with pytest.raises(
        UsageError, match=r"--param x=.*: the program wants a number that is finite"
    ):
        parse_params((f"x={value}",))
    assert parse_params(("x=1e-6", "y=info")) == {"x": 1e-6, "y": "info"}


def test_a_line_with_many_keys_is_read_at_once(tmp_path):
    row = {f"k{i}": 0 for i in range(100_000)}
    text = json.dumps({**row, "question": "q", "answer": "1"})
    (tmp_path / "t.jsonl").write_text(text[:-1] + ', "k99999": 1}')
    with pytest.raises(UsageError, match=r"t\.jsonl:1: has the key 'k99999' twice"):
        load_task(f"jsonl:{tmp_path / 't.jsonl'}")
