"""Compares prompts and strict grades with lm-evaluation-harness, or with what it recorded.

The harness runs its own task files on questions that are made up here. Hashes of its prompts and
its grades are kept in harness.json, for machines where the harness is not installed. `python
tests/engine/tasks/test_harness_parity.py` writes that file again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import tempfile
from pathlib import Path

import pytest
from selfdev_engine.engine.tasks.grading.strict import strict_gsm8k, strict_math
from selfdev_engine.engine.tasks.load import load_task

RECORD = Path(__file__).with_name("harness.json")
SUBJECTS = {"Algebra": "algebra", "Geometry": "geometry", "Number Theory": "num_theory"}
VALUES = ["4", "\\frac{1}{2}", "0.5", "\\sqrt3", "x=7", "12\\text{ cm}", "50\\%", "(1, 2)", "3/4"]
WRAPPED = "{0}|${0}$|so ${0}$.|\\boxed{{{0}}}|$x$ and then ${0}$| {0}\n\n|${0}$ or $9$"


def gsm8k_rows(kind: str, count: int) -> list[dict[str, str]]:
    return [
        {
            "question": f"{kind} {i}: what is {i} + 1,00{i % 10}?",
            "answer": f"so <<{i}>>\n#### {i:,}",
        }
        for i in range(count)
    ]


def math_rows(kind: str, count: int) -> list[dict[str, str]]:
    """Subjects take turns; questions look like templates, answers like LaTeX."""
    names, rows = list(SUBJECTS), []
    for i in range(count):
        value, subject = VALUES[i % len(VALUES)], names[i % len(names)]
        problem = f"{kind} {i} {{{{ find }}}} $x$ & <y>\nwhere $x = {i}$."
        solution = f"Hence $x = \\boxed{{{value}}}$."
        rows.append({"problem": problem, "solution": solution, "level": "1", "type": subject})
    return rows


def write_data(folder: Path, num_train: int = 40) -> Path:
    for name, rows in (("gsm8k", gsm8k_rows), ("math", math_rows)):
        (folder / name).mkdir()
        for split, count in (("train", num_train), ("test", 150)):
            lines = (json.dumps(row) + "\n" for row in rows(split, count))
            (folder / name / f"{split}.jsonl").write_text("".join(lines))
    return folder


def ours(data: Path, name: str, shots: str) -> list[str]:
    task = load_task(name, data, shots=shots).unsealed()
    return [q.prompt for q in task.questions]


def gsm8k_answers() -> list[tuple[str, str]]:
    """(response, reference) pairs on which the rules differ."""
    forms = "#### {0}|#### ${0}|####{0}|A: {0}|#### {0}.|#### {0}\n#### 7|#### {0}.00|#### -{0}|#### {0} x"
    return [
        (form.format(value), f"so\n#### {wanted}")
        for form in forms.split("|")
        for value, wanted in (("5", "5"), ("1,234", "1,234"), ("1234", "1,234"), ("12,34", "1,234"))
    ]


def math_answers() -> list[tuple[str, str]]:
    draw = random.Random(0)
    pieces = [
        "\\frac",
        "12",
        "{",
        "}",
        "\\sqrt",
        " .5",
        "x=",
        "$",
        "\\%",
        "/",
        "3",
        "\\text{ a}",
        "\\!",
    ]
    noise = ["".join(draw.choices(pieces, k=draw.randrange(5))) for _ in range(300)]
    wanted = {v: f"So $\\boxed{{{v}}}$." for v in VALUES}
    forms = [(f.format(v), wanted[v]) for v in VALUES for f in WRAPPED.split("|")]
    return forms + [(text, wanted[v]) for text in noise for v in ("0.5", "3/4")]


# ---- the harness itself -------------------------------------------------------------------------------


def harness_task(data: Path, name: str, subject: str = "", sampler: str = "default"):
    """A task of the harness, from its own task file, on our questions (of one subject, or all)."""
    import lm_eval.tasks
    import yaml
    from lm_eval.api.task import ConfigurableTask

    inside = "gsm8k/gsm8k" if name == "gsm8k" else "hendrycks_math/hendrycks_math_algebra"
    path = Path(lm_eval.tasks.__file__).parent / f"{inside}.yaml"
    text = path.read_text().replace("!function utils.", "function:")
    config = yaml.safe_load(text)
    for key in ("process_docs", "process_results"):
        if key in config:
            config[key] = getattr(utils_beside(path), config[key].removeprefix("function:"))
    files = {s: str(data / name / f"{s}.jsonl") for s in ("train", "test")}
    if subject:
        files = {s: only(Path(file), subject) for s, file in files.items()}
    config |= {"dataset_path": "json", "dataset_name": None, "num_fewshot": 5}
    config |= {"dataset_kwargs": {"data_files": files}}
    if sampler != "default":
        config["fewshot_config"] = {"sampler": sampler, "split": "train"}
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(1234)
    return task


def utils_beside(path: Path):
    spec = importlib.util.spec_from_file_location("harness_utils", path.with_name("utils.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def only(path: Path, subject: str) -> str:
    """A file of one subject's lines."""
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["type"] == subject]
    part = path.with_name(f"{path.stem}-{SUBJECTS[subject]}.jsonl")
    part.write_text("".join(line + "\n" for line in lines))
    return str(part)


def harness_prompts(data: Path, name: str, subject: str, sampler: str) -> list[str]:
    task = harness_task(data, name, subject, sampler)
    task.build_all_requests()
    return [request.args[0] for request in task.instances]


def harness_grades(data: Path, name: str) -> list[bool]:
    task = harness_task(data, name)
    if name == "math":
        pairs = math_answers()
        return [bool(task.process_results({"solution": a}, [r])["exact_match"]) for r, a in pairs]
    from lm_eval.filters.extraction import RegexFilter

    pattern = task.config.filter_list[0]["filter"][0]["regex_pattern"]
    extract = RegexFilter(regex_pattern=pattern)
    grades = []
    for response, answer in gsm8k_answers():
        ((found,),) = extract.apply([[response]], [{}])
        doc = {"question": "", "answer": answer}
        grades.append(bool(task.process_results(doc, [found])["exact_match"]))
    return grades


# ---- the record ---------------------------------------------------------------------------------------


def digest(prompts: list[str]) -> str:
    return hashlib.sha256("\0".join(prompts).encode()).hexdigest()


def bits(grades: list[bool]) -> str:
    return "".join("01"[g] for g in grades)


def by_subject(data: Path, prompts: list[str]) -> dict[str, list[str]]:
    rows = [json.loads(line) for line in (data / "math/test.jsonl").read_text().splitlines()]
    return {
        s: [p for p, row in zip(prompts, rows, strict=True) if row["type"] == s] for s in SUBJECTS
    }


def record(data: Path, small: Path) -> dict[str, dict[str, object]]:
    """The harness's prompts and grades; in `small`, train lacks questions of some subjects."""
    said: dict[str, dict[str, object]] = {}
    for name in ("gsm8k", "math"):
        subjects = [""] if name == "gsm8k" else list(SUBJECTS)
        config = harness_task(data, name).config
        said[name] = {
            "harness": {s: digest(harness_prompts(data, name, s, "default")) for s in subjects},
            "fixed": digest(harness_prompts(data, name, "", "first_n")),
            "small": digest(harness_prompts(small, name, "", "default")),
            "stop": config.generation_kwargs["until"],
            "version": config.metadata["version"],
            "grades": bits(harness_grades(data, name)),
        }
    return said


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


RECORDED = json.loads(RECORD.read_text()) if RECORD.exists() else {}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("small"), 7)


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_prompts_are_the_harness_s_by_its_record(data, small, name):
    drawn = ours(data, name, "harness")
    parts = {"": drawn} if name == "gsm8k" else by_subject(data, drawn)
    assert {s: digest(p) for s, p in parts.items()} == RECORDED[name]["harness"]
    assert digest(ours(data, name, "fixed")) == RECORDED[name]["fixed"]
    assert digest(ours(small, name, "harness")) == RECORDED[name]["small"]


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_stops_and_strict_grades_are_the_harness_s_by_its_record(data, name):
    task = load_task(name, data)
    assert list(task.stop) == RECORDED[name]["stop"]
    assert f" {RECORDED[name]['version']}, " in task.version
    pairs, rule = (
        (gsm8k_answers(), strict_gsm8k) if name == "gsm8k" else (math_answers(), strict_math)
    )
    assert bits([rule(*pair) for pair in pairs]) == RECORDED[name]["grades"]
    assert {"0", "1"} == set(RECORDED[name]["grades"])


def test_the_record_is_what_the_installed_harness_says(data, small):
    pytest.importorskip("lm_eval", reason="an optional peer: pip install lm-eval")
    assert record(data, small) == RECORDED


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        said = record(write_data(Path(one)), write_data(Path(other), 7))
    RECORD.write_text(json.dumps(said, indent=1) + "\n")
