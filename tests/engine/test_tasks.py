"""Tasks: splits, prompts, YAML, and errors that name file and line."""

from __future__ import annotations

import json

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.tasks import load_task


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
    assert [q.question for q in task.split("test")] == ["two\u2028lines"]
    assert (task.metric, task.max_new_tokens) == ("flexible", 64)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "holds no questions"),
        (({"question": "a", "answer": "b"}, "{half"), r"t\.jsonl:2: not JSON"),
        (({"question": "a"},), r"t\.jsonl:1: lacks 'answer'"),
        (({"question": "a", "answer": "b", "split": "train"},), r":1: split is 'train'"),
        (("[1]",), r":1: not a JSON object"),
    ],
)
def test_a_fault_names_file_and_line(tmp_path, rows, message):
    path = lines(tmp_path / "t.jsonl", *rows)
    with pytest.raises(UsageError, match=message):
        load_task(f"jsonl:{path}")


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
    ("name", "rows", "dev", "shots", "form"),
    [("gsm8k", 150, 100, 5, "Question: {q}\nAnswer:"), ("math", 700, 600, 4, "Problem:\n{q}\n\nSolution:")],
)  # fmt: skip
def test_published_tasks_split_as_in_the_paper(tmp_path, name, rows, dev, shots, form):
    (tmp_path / name).mkdir()

    def row(kind: str, i: int) -> dict[str, str]:
        if name == "gsm8k":
            return {"question": f"{kind} {i}?", "answer": f"so\n#### {i}"}
        return {"problem": f"{kind} {i}?", "solution": f"so \\boxed{{{i}}}"}

    for split, kind, count in (("train", "shot", 8), ("test", "asked", rows)):
        lines(tmp_path / name / f"{split}.jsonl", *(row(kind, i) for i in range(count)))
    task = load_task(name, tmp_path)
    assert (len(task.split("dev")), len(task.split("test"))) == (dev, rows - dev)
    assert not {q.index for q in task.split("dev")} & {q.index for q in task.split("test")}
    first = task.split("dev")[0]
    assert first.prompt.endswith(form.format(q=first.question))
    assert [f"shot {i}?" in first.prompt for i in range(8)] == [i < shots for i in range(8)]
    assert {q.prompt.split("asked")[0] for q in task.questions} == {first.prompt.split("asked")[0]}
    assert task.split("dev") == load_task(name, tmp_path).split("dev")
    assert task.metric == "strict"


def test_without_data_the_message_says_what_to_give():
    with pytest.raises(UsageError, match=r"--data DIR with gsm8k/train\.jsonl"):
        load_task("gsm8k")
