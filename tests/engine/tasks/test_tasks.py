"""Tests of tasks: splits, prompts, YAML files, and errors that name file and line."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import datasets
import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.screening.read_programs import read_programs
from selfdev_engine.engine.tasks.load import grading_of, load_task
from selfdev_engine.engine.tasks.task import SealedTest

# Places of the first five of the 100 dev questions among GSM8K's 1319.
DRAWN = [2, 28, 67, 79, 82]


def lines(path, *rows):
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


def test_a_jsonl_task_in_its_own_order(tmp_path):
    path = lines(
        tmp_path / "t.jsonl",
        {"question": "1+1", "answer": 2},
        {"question": "two\u2028lines", "answer": "x", "split": "test"},
        {"question": "2+2", "answer": "4", "prompt": "Q: 2+2="},
    )
    task = load_task(f"jsonl:{path}")
    assert [(q.index, q.prompt, q.answer) for q in task.split("dev")] == [
        (0, "1+1", "2"),
        (2, "Q: 2+2=", "4"),
    ]
    assert [q.question for q in task.unsealed().split("test")] == ["two\u2028lines"]
    assert (task.metric, task.max_new_tokens) == ("flexible", 64)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "holds no questions"),
        (({"question": "a", "answer": "b"}, "{half"), r"t\.jsonl:2: not JSON"),
        (({"question": "a"},), r"t\.jsonl:1: lacks 'answer'"),
        (
            ({"question": "a", "answer": "b", "spilt": "test"},),
            r":1: unknown key 'spilt'; did you mean 'split'\?",
        ),
        (
            ({"Question": "a", "answer": "b"},),
            r":1: unknown key 'Question'; did you mean 'question'",
        ),
        (({"question": "a", "answer": "b", "split": "train"},), r":1: split is 'train'"),
        (("[1]",), r":1: not a JSON object"),
        (("[" * 100_000,), r":1: not JSON"),
        (({"question": "a", "answer": " "},), r":1: 'answer' is empty"),
        (({"question": "", "answer": "b"},), r":1: 'question' is empty"),
        (({"question": "a", "answer": None},), r":1: 'answer' is null"),
        (({"question": "a", "answer": "b", "prompt": 0.5}, {}), r":2: lacks 'question'"),
        (('{"question": "a", "answer": NaN}',), r":1: NaN is no JSON and no answer"),
        (('{"question": "a", "answer": -Infinity}',), r":1: -Infinity is no JSON"),
        (('{"question": "a", "answer": 1e999}',), r":1: 'answer' is a number that is too large"),
        (
            ('{"question": "a", "answer": "b\\ud83d"}',),
            r":1: 'answer' holds a lone surrogate.*U\+D83D",
        ),
        (
            ({"question": "a\0", "answer": "b"},),
            r":1: 'question' holds a control character \(U\+0000",
        ),
        (({"question": "a", "answer": "\x1b[2J"},), r":1: 'answer' holds a control character"),
        (({"question": "a", "answer": "b", "prompt": "\x7f"},), r":1: 'prompt' holds a control"),
        (('{"question": "a", "answer": 1, "answer": 2}',), r":1: has the key 'answer' twice"),
        (
            ({"id": 7, "question": "a", "answer": "b"}, {"id": 7, "question": "c", "answer": "d"}),
            r":2: the id 7 is that of line 1, too",
        ),
    ],
)
def test_a_fault_names_file_and_line(tmp_path, rows, message):
    path = lines(tmp_path / "t.jsonl", *rows)
    with pytest.raises(UsageError, match=message):
        load_task(f"jsonl:{path}")


def test_bytes_that_are_no_utf_8_name_their_line(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"question": "a", "answer": 1}\n{"question": "\xe9", "answer": 1}\n')
    with pytest.raises(UsageError, match=r"t\.jsonl:2: not UTF-8: byte 0xe9"):
        load_task(f"jsonl:{path}")


def test_a_mark_at_the_beginning_and_white_space_are_text(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(
        '\ufeff{"question": "a\\n\\tb\\r", "answer": 1}\n{"question": "a", "answer": 1}\n'
    )
    assert [q.question for q in load_task(f"jsonl:{path}").questions] == ["a\n\tb\r", "a"]


@pytest.mark.parametrize("answer", ["it is four", "####", "#### four", "four\n####4 ####"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_row_of_gsm8k_without_its_answer_is_named(data, split, answer):
    path = data / f"gsm8k/{split}.jsonl"
    rows = path.read_text().splitlines()
    rows[16] = json.dumps({"question": "2 + 2?", "answer": answer})
    path.write_text("\n".join(rows))
    with pytest.raises(UsageError, match=rf"{split}\.jsonl:17: the answer does not end with"):
        load_task("gsm8k", data)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
        (b"\x28\xb5\x2f\xfd\x04", "is compressed with zstd"),
        (b"PAR1\x15\x04", "is a Parquet file: write its rows as JSON lines"),
    ],
)
def test_another_file_under_the_name_of_a_task_is_called_what_it_is(tmp_path, start, says):
    (tmp_path / "t.jsonl").write_bytes(start + b"\xff\xfe" * 20)
    with pytest.raises(UsageError, match=rf"t\.jsonl: {says}"):
        load_task(f"jsonl:{tmp_path / 't.jsonl'}")


def test_a_worked_solution_is_no_answer_of_a_plain_task(tmp_path):
    """GSM8K's own files as jsonl: would score 0, however good a model is."""
    path = lines(tmp_path / "t.jsonl", {"question": "1+2?", "answer": "1 + 2 = 3\n#### 3"})
    with pytest.raises(
        UsageError, match=r"t\.jsonl:1: 'answer' is a worked solution .*extract: gsm8k"
    ):
        load_task(f"jsonl:{path}")
    (tmp_path / "t.yaml").write_text("path: t.jsonl\nextract: gsm8k\n")
    assert load_task(f"jsonl:{tmp_path / 't.yaml'}").questions
    lines(path, {"question": "1+2?", "answer": "three"})
    with pytest.raises(UsageError, match=r"t\.jsonl:1: 'answer' has no number"):
        load_task(f"jsonl:{tmp_path / 't.yaml'}")


def test_a_question_may_be_there_twice(tmp_path):
    """As in the harness, each line is asked and counted, whatever another line says."""
    rows = ({"question": "1+1=", "answer": answer} for answer in ("2", "10"))
    task = load_task(f"jsonl:{lines(tmp_path / 't.jsonl', *rows)}")
    assert [(q.question, q.answer) for q in task.questions] == [("1+1=", "2"), ("1+1=", "10")]


PROGRAM = {"id": "a", "source": "x"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((PROGRAM, {**PROGRAM, "source": "y"}), r"p\.jsonl:2: the id \"a\" is that of line 1"),
        (({**PROGRAM, "id": "base"},), r"p\.jsonl:1: program id 'base' is the base's own id"),
        (({**PROGRAM, "id": None},), r"p\.jsonl:1: 'id' is null"),
        (({**PROGRAM, "id": "a\nb\x1b"},), r"p\.jsonl:1: 'id' holds a control character"),
        (({**PROGRAM, "source": None},), r"p\.jsonl:1: not a line"),
        (({**PROGRAM, "source": None},), r"\"source\" is no text"),
        (("{}",), r"p\.jsonl:1: not a line"),
        ((PROGRAM, "nothing"), r"p\.jsonl:2: not JSON"),
        ((), r"p\.jsonl: holds no programs"),
    ],
)
def test_a_line_of_programs_is_named(tmp_path, rows, message):
    with pytest.raises(UsageError, match=message):
        read_programs([str(lines(tmp_path / "p.jsonl", *rows))])


@pytest.mark.parametrize(
    "name", ["", " ", "a ", "a\n", "a\tb", "a\r", "a\u2028", "\u202ea", "a" * 256]
)
def test_an_id_is_one_line_that_can_be_printed(tmp_path, name):
    lines(tmp_path / "p.jsonl", {**PROGRAM, "id": name})
    with pytest.raises(UsageError, match=r"p\.jsonl:1: "):
        read_programs([str(tmp_path / "p.jsonl")])


def test_an_id_of_two_files_names_both(tmp_path):
    lines(tmp_path / "p.jsonl", PROGRAM)
    lines(tmp_path / "q.jsonl", {**PROGRAM, "id": "b"}, {**PROGRAM, "source": "\ud800"})
    with pytest.raises(UsageError, match=r"q\.jsonl:2: program id 'a' is given twice.*p\.jsonl:1"):
        read_programs([str(tmp_path / "p.jsonl"), str(tmp_path / "q.jsonl")])
    assert read_programs([str(tmp_path / "q.jsonl")])[1] == ("a", "\ud800")  # as models write


def test_a_yaml_task(tmp_path):
    lines(tmp_path / "t.jsonl", {"question": "1+1", "answer": "2"})
    path = tmp_path / "t.yaml"
    path.write_text(
        "path: t.jsonl\ntemplate: 'Q {question} A'\nstop: ';'\nmetric: strict\nmax_new_tokens: 8\n"
    )
    task = load_task(f"jsonl:{path}")
    assert task.questions[0].prompt == "Q 1+1 A"
    assert (task.stop, task.metric, task.max_new_tokens) == ((";",), "strict", 8)
    path.write_text("path: t.jsonl\ntemplat: x\n")
    with pytest.raises(UsageError, match="unknown key 'templat'"):
        load_task(f"jsonl:{path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pth: t.jsonl\n", "extract, metric; did you mean 'path'?"),
        (
            "path: t.jsonl\ntemplat: x\n",
            "unknown key 'templat'; there are path",
        ),
        ("path: t.jsonl\ntemplate: x\n", "template: must contain {question}"),
        ("path: t.jsonl\nmax_new_tokens: 0\n", "max_new_tokens: input should be greater"),
        ("path: t.jsonl\nmax_new_tokens: many\n", "max_new_tokens: input should be a valid int"),
        ("path: t.jsonl\nmetric: best\n", "metric: input should be 'strict' or 'flexible'"),
        ("path: t.jsonl\nstop: ['']\n", "an empty stop string"),
        ("template: '{question}'\n", "path: field required"),
        ("- path\n", "a mapping with `path` is wanted"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_fault_in_a_yaml_names_file_and_key(tmp_path, text, message):
    lines(tmp_path / "t.jsonl", {"question": "1+1", "answer": "2"})
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(f"{path}: ") + ".*" + re.escape(message)):
        load_task(f"jsonl:{path}")


def test_a_yaml_says_how_saved_answers_are_graded(tmp_path):
    (tmp_path / "t.yaml").write_text("path: absent.jsonl\nextract: math\n")
    assert grading_of(f"jsonl:{tmp_path / 't.yaml'}") == "math"
    (tmp_path / "t.jsonl").write_text("")
    assert grading_of(f"jsonl:{tmp_path / 't.jsonl'}") == "numbers"
    with pytest.raises(UsageError, match=r"jsonl:absent\.jsonl: no such file"):
        grading_of("jsonl:absent.jsonl")


def test_a_question_of_100_kb_is_taken_whole(tmp_path):
    path = lines(tmp_path / "t.jsonl", {"question": "x" * 100_000, "answer": 2})
    assert len(load_task(f"jsonl:{path}").questions[0].prompt) == 100_000


# ---- the paper's tasks ---------------------------------------------------------------------------------

KINDS = ["Algebra", "Geometry", "Precalculus", "Prealgebra", "Number Theory", "Statistics", "Logic"]


def row(name: str, kind: str, i: int) -> dict[str, str]:
    if name == "gsm8k":
        return {"question": f"{kind} {i}?", "answer": f"so\n#### {i}"}
    solution = f"so \\boxed{{{i}}}"
    return {"problem": f"{kind} {i}?", "solution": solution, "type": KINDS[i * i % 1000 % 7]}


@pytest.fixture
def data(tmp_path):
    for name, count in (("gsm8k", 150), ("math", 1400)):
        (tmp_path / name).mkdir()
        for split, rows in (("train", 60), ("test", count)):
            path = tmp_path / name / f"{split}.jsonl"
            lines(path, *(row(name, split, i) for i in range(rows)))
    return tmp_path


@pytest.mark.parametrize(("name", "dev", "test"), [("gsm8k", 100, 50), ("math", 600, 800)])
def test_published_tasks_are_split_by_a_fixed_draw(data, name, dev, test):
    task = load_task(name, data).unsealed()
    assert (len(task.split("dev")), len(task.split("test"))) == (dev, test)
    assert not {q.index for q in task.split("dev")} & {q.index for q in task.split("test")}
    assert task.split("dev") == load_task(name, data).split("dev")
    assert (task.metric, task.max_new_tokens) == ("strict", 256)


def test_the_draw_of_gsm8k_is_the_recorded_one(tmp_path):
    (tmp_path / "gsm8k").mkdir()
    lines(tmp_path / "gsm8k/train.jsonl", *(row("gsm8k", "train", i) for i in range(5)))
    lines(tmp_path / "gsm8k/test.jsonl", *(row("gsm8k", "test", i) for i in range(1319)))
    indices = [q.index for q in load_task("gsm8k", tmp_path).split("dev")]
    assert (len(indices), indices[:5]) == (100, DRAWN)


def test_100_of_each_of_the_six_largest_subjects_of_math(data):
    rows = [json.loads(line) for line in (data / "math/test.jsonl").read_text().splitlines()]
    sizes = Counter(row["type"] for row in rows)
    dev = Counter(rows[q.index]["type"] for q in load_task("math", data).split("dev"))
    assert set(dev.values()) == {100}
    assert sizes.keys() - dev.keys() == {min(sizes, key=lambda s: sizes[s])}


def test_a_subject_may_be_called_subject_or_be_nowhere_but_not_be_in_some_rows(data):
    path = data / "math/test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    wanted = [(q.index, q.prompt) for q in load_task("math", data).unsealed().questions]
    lines(path, *({"subject" if k == "type" else k: v for k, v in row.items()} for row in rows))
    assert [(q.index, q.prompt) for q in load_task("math", data).unsealed().questions] == wanted
    silent = [{k: v for k, v in row.items() if k != "type"} for row in rows]
    lines(path, *silent)
    assert len(load_task("math", data).split("dev")) == 600
    lines(path, *rows[:7], *silent[7:])
    with pytest.raises(
        UsageError, match=r"test\.jsonl:8: lacks 'type', the subject, which other rows have"
    ):
        load_task("math", data)


def test_dev_shares_its_beginning_and_test_has_the_harness_s_shots(data):
    for name in ("gsm8k", "math"):
        task = load_task(name, data).unsealed()
        (head,) = {q.prompt.split("test ")[0] for q in task.split("dev")}
        assert [f" {i}?" in head for i in range(7)] == [i < 5 for i in range(7)]
        assert len({q.prompt.split("test ")[0] for q in task.split("test")}) > 40
        drawn = load_task(name, data, "harness").unsealed()
        assert drawn.split("test") == task.split("test")
        assert len({q.prompt.split("test ")[0] for q in drawn.split("dev")}) > 40


def test_the_version_changes_with_what_decides_a_score(data):
    task = load_task("gsm8k", data)
    assert task.version == load_task("gsm8k", data).version != load_task("math", data).version
    assert task.version != replace(task, stop=("x",)).version
    assert task.version != load_task("gsm8k", data, "fixed").version


def test_reading_test_questions_in_a_search_raises(data):
    task = load_task("gsm8k", data)
    assert task.has_test
    with pytest.raises(SealedTest, match="gsm8k"):
        task.split("test")
    assert {q.split for q in task.questions} == {"dev"}
    assert {q.split for q in task.unsealed().questions} == {"dev", "test"}


def test_absent_data_is_named(data, tmp_path, monkeypatch):
    (data / "gsm8k/train.jsonl").unlink()
    with pytest.raises(UsageError, match=r"gsm8k/train\.jsonl is not there"):
        load_task("gsm8k", data)
    lines(data / "gsm8k/train.jsonl", row("gsm8k", "train", 0))
    with pytest.raises(UsageError, match="train has 1 questions, 5 are shown"):
        load_task("gsm8k", data)
    lines(data / "math/test.jsonl", {"problem": "1?", "solution": "just 1"})
    with pytest.raises(UsageError, match=r"test\.jsonl:1: the solution has no \\boxed"):
        load_task("math", data)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"--data DIR with gsm8k/train\.jsonl"):
        load_task("gsm8k")


def test_other_keys_of_a_line_are_not_read(tmp_path):
    row = {"question": "a", "answer": "b", "answers": ["b"], "ID": 3, "level": "hard"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    assert len(load_task(f"jsonl:{tmp_path / 't.jsonl'}").rows) == 1


def test_a_hub_that_fails_in_its_own_way_is_one_line(monkeypatch):
    """`datasets` and what it asks the hub by have errors that are no OSError."""

    class OwnError(Exception):
        pass

    def load_dataset(*_: object, **__: object) -> None:
        raise OwnError("no split\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UsageError, match=r"cannot be had from the hub \(no split\); give --data"):
        load_task("gsm8k")
