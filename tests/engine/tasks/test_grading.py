"""Tests of grades: numbers as people write them, LaTeX by meaning, answers that hang a grader."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfdev_engine.engine.records.score import judge_all
from selfdev_engine.engine.tasks.grading import grade, grader_of, math_verify
from selfdev_engine.engine.tasks.grading.equal_math import equal_math
from selfdev_engine.engine.tasks.grading.math_verify import (
    BUILT_IN,
    Verifier,
    VerifierPool,
    shared_verifier,
)
from selfdev_engine.engine.tasks.grading.numeric import last_number, value
from selfdev_engine.engine.tasks.grading.plain import plain
from selfdev_engine.engine.tasks.task import Question, Task

HAS_MATH_VERIFY = importlib.util.find_spec("math_verify") is not None
needs_math_verify = pytest.mark.skipif(not HAS_MATH_VERIFY, reason="the extra `eval` is optional")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She pays $1,234.50.", "$1,234.50"),
        ("that is 1, 2, 3", "3"),
        ("so 12,34", "34"),
        ("10-5", "5"),
        ("it is -5", "-5"),
        ("it is \u22125", "-5"),
        ("1{,}000 eggs", "1,000"),
        ("a share of 3/4.", "3/4"),
        ("25 cm^2", "25"),
        ("16 of CO2", "16"),
        ("only x7", "7"),
        ("**42**", "42"),
        ("no number", None),
    ],
)
def test_the_last_number(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$5.00", 5),
        ("1,000", 1000),
        ("42.", 42),
        ("50%", 50),
        ("5\\%", 5),
        ("-3/4", Fraction(-3, 4)),
        ("\\sqrt{16}", 4),
        ("-3√\u202f2.25", Fraction(-9, 2)),
        ("2\\sqrt 9", 6),
        ("\\sqrt{\\frac{1}{4}}", None),
        ("√2", None),
        ("\\sqrt[3]{27}", None),
        (".5", Fraction(1, 2)),
        ("1e3", 1000),
        ("1/0", None),
        ("1,2", None),
        ("five", None),
        ("9" * 10_000, None),
        ("1e999999999", None),
    ],
)
def test_a_whole_text_as_a_number(text, number):
    assert value(text) == number


@given(
    st.integers(-(10**9), 10**9), st.sampled_from(["{}", "${:,}", "{:,}.", "{}.00", "so {} eggs"])
)
def test_a_number_is_itself_however_it_is_written(number, form):
    assert grade("numbers", form.format(number), str(number)).flexible
    assert not grade("numbers", form.format(number), str(number + 1)).flexible


@pytest.mark.parametrize(
    ("response", "answer", "strict", "flexible"),
    [
        ("18", "18", True, True),
        (" $18.00\n", "18", True, True),
        ("it is 18", "18", False, True),
        ("16 - 3 = 13", "3", False, False),
        ("Paris.", "paris", True, True),
        ("3/4", "4", False, False),
        ("It is √16.", "16", False, False),
        ("It is √16.", "4", False, True),
        ("so 2\\sqrt{3}", "3", False, False),
        ("She has 1 042 eggs", "1042", False, False),
        ("She has 1\\,042 eggs", "1042", False, True),
        ("She has 70 000 eggs", "70000", False, True),
        ("", "18", False, False),
        ("x" * 100_000 + " 18", "18", False, True),
    ],
)
def test_numbers(response, answer, strict, flexible):
    found = grade("numbers", response, answer)
    assert (found.strict, found.flexible) == (strict, flexible)


@pytest.mark.parametrize(
    ("response", "strict", "flexible"),
    [
        ("so\n#### 18", True, True),
        ("so\n#### $18", False, True),
        ("so\n#### 18.00", False, True),
        ("so\n####18 eggs, in 7 days", False, True),
        ("The answer is 18. She had 3.", False, True),
        ("The answer is not 3. It is 18.", False, True),
        ("The answer is not 18. It is 3.", False, False),
        ("**Answer:** 2 * 9 = $18 in 7 days", False, True),
        ("so \\boxed{18} of 20", False, True),
        ("#### 1. First\n2 * 9 = 18", False, True),
        ("9 * 2 = 18 dollars", False, True),
        ("so\n#### 18\n#### 20", True, True),
        ("so\n#### 20\n#### 18", False, False),
        ("so\n#### -18", False, False),
        ("", False, False),
    ],
)
def test_gsm8k(response, strict, flexible):
    found = grade("gsm8k", response, "9 * 2 = <<9*2=18>>18\n#### 18")
    assert (found.strict, found.flexible) == (strict, flexible)


PLAIN = r"""
\frac12 | 0.5
-\frac{1}{2} | \frac{-1}{2}
1\frac{3}{4} | \frac{7}{4}
1{,}000 | 1000
10\% | 10
\$18.90 | 18.90
12^\circ | 12
5 \text{ cm}^2 | 5
\text{5 inches} | 5
7 cm | 7
x \in [1,2] | [1,2]
\text{(C)} | C
(3, \frac{\pi}{2}) | \left( 3, \frac{\pi}{2} \right)
\sqrt3 | \sqrt{3}
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
\text{Monday} | monday
"""
BY_MEANING = r"""
2\sqrt{3} | \sqrt{12}
x^2+2x+1 | (x+1)^2
\frac{\sqrt{2}}{2} | \frac{1}{\sqrt{2}}
1, -2 | -2, 1
1 \pm \sqrt{19} | 1+\sqrt{19}, 1-\sqrt{19}
y = 2x+3 | y=3+2x
2^{10} | 1024
(2,3) \cup (4,5) | (4,5)\cup(2,3)
"""
UNLIKE = r"""
\frac12 | \frac21
(1,2) | (2,1)
[1,2] | (1,2)
12 | 1,2
1010_2 | 1010_3
3 | 3, 4
x<5 | x \le 5
6+5i | 6-5i
2\pi | 2
1/3 | 0.33
7 | 7 \text{ and } 8
(C) | (D)
"""


def pairs(text: str) -> list[tuple[str, str]]:
    rows = [tuple(part.strip() for part in line.split(" | ")) for line in text.strip().split("\n")]
    return [(a, b) for a, b in rows] + [(b, a) for a, b in rows]


@pytest.mark.parametrize(("x", "y"), pairs(PLAIN))
def test_latex_that_is_the_same_but_for_its_spelling(x, y):
    assert equal_math(x, y)


@needs_math_verify
@pytest.mark.parametrize(("x", "y"), pairs(BY_MEANING))
def test_latex_that_means_the_same(x, y):
    assert equal_math(x, y)


@pytest.mark.parametrize(("x", "y"), pairs(UNLIKE))
def test_latex_that_differs(x, y):
    assert not equal_math(x, y)


@pytest.mark.parametrize(
    ("response", "strict", "flexible"),
    [
        (" $\\dfrac{1}{2}$", True, True),
        ("so \\boxed{\\frac12}", False, True),
        ("\\[ x = \\boxed{0.5}. \\] Done in 3 steps.", False, True),
        ("The final answer is $1/2$. I hope it is correct.", True, True),
        ("so $x = \\frac{1}{2}$", True, True),
        ("so $x = 2/4$", False, True),
        ("so $x = \\frac{1}{3}$", False, False),
        ("\\boxed{", False, False),
        ("\\boxed{}", False, False),
        ("", False, False),
    ],
)
def test_math(response, strict, flexible):
    found = grade("math", response, "Thus $x = \\boxed{\\frac{1}{2}}$.")
    assert (found.strict, found.flexible) == (strict, flexible)


@needs_math_verify
@pytest.mark.parametrize("answer", ["(10^{10})!", "9^{9^{9^{9}}}"])
def test_an_answer_that_hangs_is_wrong_in_time_and_the_next_one_is_graded(answer):
    verifier = Verifier(answer_s=1.0)
    assert verifier.same("2^3", "8")
    assert not verifier.same(answer, "3")
    assert verifier.num_killed == 1
    assert verifier.same("\\sqrt{12}", "2\\sqrt{3}")
    assert "math-verify" in verifier.version
    verifier.close()


DEAF = "import time; print('ready', flush=True); time.sleep(60)"
DYING = "import os; print('ready', flush=True); input(); os._exit(1)"
# Children that an answer has taken over.
TAKEN = "import os, sys; print('ready', flush=True); input(); "
FLOODING = TAKEN + "b = b'x' * 65536\nwhile True: os.write(1, b)"
DRIPPING = TAKEN + "import time\nwhile True: os.write(1, b'x'); time.sleep(0.05)"
STRANGE = TAKEN + "os.write(1, b'\\xff\\n'); input()"
LYING = TAKEN + "print('maybe', flush=True); input()"


@needs_math_verify
@pytest.mark.parametrize("code", [DEAF, DYING, FLOODING, DRIPPING, STRANGE, LYING])
def test_a_child_that_does_not_answer_is_ended(code):
    verifier = Verifier([sys.executable, "-c", code], answer_s=0.1)
    for turn in (1, 2):
        assert not verifier.same(str(turn), "x")
        assert verifier.num_killed == turn


@needs_math_verify
def test_an_answer_has_one_budget_for_all_of_its_parts():
    pool = VerifierPool([Verifier([sys.executable, "-c", DEAF], answer_s=0.1)])
    pool.begin_answer()
    assert not any(pool.same(str(part), "x") for part in range(12))
    assert pool.num_killed == 1
    pool.begin_answer()
    assert not pool.same("12", "x") and pool.num_killed == 2
    pool.close()


@needs_math_verify
def test_the_child_is_started_again_after_a_kill_from_outside():
    verifier = Verifier()
    assert verifier.same("2^3", "8")
    assert verifier._process is not None
    os.kill(verifier._process.pid, signal.SIGKILL)
    verifier._process.wait()
    assert verifier.same("2^4", "16")
    verifier.close()


# It answers once another one has been asked, too.
MEETING = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
print("ready", flush=True)
question = input()
(folder / str(abs(hash(question)))).touch()
while len(list(folder.iterdir())) < 2:
    time.sleep(0.01)
print("true", flush=True)
input()
"""


@needs_math_verify
def test_a_pool_compares_answers_side_by_side(tmp_path):
    """Each process answers only while another one is asked: one process alone answers in no time."""
    command = [sys.executable, "-c", MEETING, str(tmp_path)]
    pool = VerifierPool([Verifier(command, answer_s=30.0) for _ in range(2)])
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(pool.same, ["1", "2"], ["x", "x"])) == [True, True]
    # Known by now, whoever compared it.
    assert pool.same("1", "x") and pool.same("2", "x") and pool.num_killed == 0
    pool.close()


def test_a_pool_keeps_the_verdicts_of_a_bounded_number_of_pairs(monkeypatch):
    """A run of weeks compares millions of them."""
    monkeypatch.setattr(math_verify, "MOST_KNOWN", 3)
    asked = list[str]()
    verifier = Verifier()
    monkeypatch.setattr(verifier, "same", lambda found, wanted: asked.append(found) or True)
    pool = VerifierPool([verifier])
    assert all(pool.same(found, "x") for found in "aabbabcdef")
    assert asked == list("abcdef") and len(pool._known) <= 3


@needs_math_verify
def test_answers_graded_side_by_side_keep_their_order():
    rows = tuple(Question(i, f"q{i}", f"$\\boxed{{{i}}}$", f"q{i}", "dev") for i in range(12))
    task = Task("roots", rows, grading="math")
    texts = [f"\\boxed{{\\sqrt{{{i * i}}}}}" if i % 3 else "\\boxed{\\pi}" for i in range(12)]
    found = judge_all(task, task.split("dev"), texts)
    assert [sample.correct for sample in found] == [i % 3 > 0 for i in range(12)]
    assert [sample.response for sample in found] == texts


HOSTILE = """
import ctypes, os, socket, subprocess
def by_c():
    if ctypes.CDLL(None).open(b"/etc/passwd", 0) < 0:
        raise OSError
ATTACKS = {
    "none": lambda: None,
    "read": lambda: open("/etc/passwd").read(),
    "write": lambda: open("/tmp/grading-attack", "w"),
    "list": lambda: os.listdir("/"),
    "connect": lambda: socket.socket(),
    "system": lambda: subprocess.run(["true"], check=True),
    "kill": lambda: os.kill(os.getppid(), 0),
    "by C": by_c,
    "environment of the parent": lambda: open(f"/proc/{os.getppid()}/environ").read(),
}
def parse(text, **_):
    return text[7:-1]
def verify(gold, answer, **_):
    if answer in ATTACKS:
        ATTACKS[answer]()
    return True
"""
LOCKED = (
    "import sys, runpy; sys.path.insert(0, {!r}); "
    "runpy.run_module('selfdev_engine.engine.tasks.grading.math_verify_child', run_name='__main__')"
)


@needs_math_verify
def test_whoever_makes_the_parser_run_code_is_in_the_cage(tmp_path):
    """A stand-in for math-verify does what an answer says: the cage refuses it, and goes on."""
    (tmp_path / "math_verify.py").write_text(HOSTILE)
    verifier = Verifier([sys.executable, "-c", LOCKED.format(str(tmp_path))])
    attacks = (
        "read",
        "write",
        "list",
        "connect",
        "system",
        "kill",
        "by C",
        "environment of the parent",
    )
    assert verifier.same("none", "1")
    for attack in attacks:
        assert not verifier.same(attack, "1"), attack
    assert verifier.same("none", "2") and verifier.num_killed == 0
    assert not Path("/tmp/grading-attack").exists()
    verifier.close()


@needs_math_verify
@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("\\sum_{n=1}^{\\infty} \\frac{1}{n^2}", "\\frac{\\pi^2}{6}"),
        ("\\int_0^1 x dx", "\\frac{1}{2}"),
        ("\\{1,2\\} \\cup \\{3\\}", "\\{3,2,1\\}"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("(-\\infty,3)\\cup(5,\\infty)", "(5,\\infty) \\cup (-\\infty,3)"),
    ],
)
def test_the_cage_has_what_answers_need(found: str, wanted: str):
    """Sympy imports parts of itself when an answer needs them: they are there before the door closes."""
    killed = shared_verifier().num_killed
    assert shared_verifier().same(found, wanted)
    assert shared_verifier().num_killed == killed


def test_nothing_is_started_without_math_verify(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    verifier = Verifier()
    assert verifier.version == BUILT_IN
    assert not verifier.same("2^3", "8")
    assert verifier._process is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["\\(", "$a", "$$", "answer ", "#### ", "1,000,", "\\boxed{", "\\frac", "- "]
)
def test_a_long_answer_without_sense_is_graded_in_time(unit):
    for grading in ("numbers", "gsm8k", "math"):
        assert not grade(grading, unit * (100_000 // len(unit)), "18").flexible


# ---- answers as models write them ----------------------------------------------------------------------

ANSWERS = [
    json.loads(line)
    for line in Path(__file__).with_name("answers.jsonl").read_text(encoding="utf-8").splitlines()
]


def test_300_answers_get_the_grades_that_people_give():
    """Half are made of answers of GSM8K and MATH (both MIT), half were written by hand; each row says why."""
    assert len(ANSWERS) == 300
    assert sum(row["from"] == "written" for row in ANSWERS) == 150
    wrong = []
    for row in ANSWERS:
        found = grade(row["grading"], row["response"], row["answer"])
        skipped = row.get("by") == "math-verify" and not HAS_MATH_VERIFY
        if (found.strict, found.flexible) != (row["strict"], row["right"]) and not skipped:
            wrong.append(f"{row['response']!r} for {row['answer']!r}: {row['why']}: {found}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("grading", ["numbers", "gsm8k", "math"])
@given(text=st.text(alphabet="0123456789.,/^{}$%!\\frac boxed-=½²\n#answer is", max_size=60))
def test_no_text_breaks_a_grader(grading, text):
    """What is right by the strict rule is right by the flexible one, whatever the text is."""
    found = grade_without_math_verify(grading, text, "18")
    assert found.flexible or not found.strict


def grade_without_math_verify(grading, response, answer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Verifier, "same", lambda self, found, wanted: False)
        return grade(grading, response, answer)


@given(st.integers(1, 999), st.integers(1, 60), st.integers(2, 99), st.booleans())
def test_a_mixed_number_is_one_however_it_is_written(whole, top, bottom, negative):
    top = top % bottom or 1
    wanted = str(Fraction(whole * bottom + top, bottom))
    for form in (f"{whole} {top}/{bottom}", f"{whole}\\frac{{{top}}}{{{bottom}}}"):
        text = f"-{form}" if negative else form
        right = f"-{wanted}" if negative else wanted
        assert grade_without_math_verify("gsm8k", f"The answer is {text}.", right).flexible
        assert grade_without_math_verify("math", f"\\boxed{{{text}}}", right).flexible
        assert not grade_without_math_verify("gsm8k", f"The answer is {text}.", str(whole)).flexible


def test_plain_text_stays_as_it_is():
    for row in ANSWERS:
        assert plain(plain(row["response"])) == plain(row["response"])


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("five", "5"),
        ("**Twenty-one.**", "21"),
        ("\\boxed{\\text{forty-two}}", "42"),
        ("The answer is minus five.", "-5"),
        ("The answer is negative 5.", "-5"),
        ("She needs 12 more. (12 = 20 - 8)", "12"),
        ("The total is 12 = 3 * 4", "12"),
        ("x = 20 - 8 = 12", "12"),
        ("3 - 8 = -5", "-5"),
        ("#### 6*7=42", "42"),
        ("#### 42 (6*7=42 of 50)", "42"),
        ("4\ufe0f\u20e32\ufe0f\u20e3", "42"),
        ("4\u200b2", "42"),
        ("1.234,50 \u20ac", "1234.5"),
        ("It costs 1.234.567 in all", "1234567"),
        ("10%-42%", "42"),
        ("10%\u201342%", "42"),
    ],
)
def test_answers_that_models_write(response, answer):
    assert grade("gsm8k", response, f"#### {answer}").flexible
    assert not grade("gsm8k", response, "#### 777").flexible


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("1.042", "1042"),
        ("12,5", "12.5"),
        ("none", "0"),
        ("minus minus five", "5"),
        ("version 1.2.3", "123"),
        ("a five-day trip", "5"),
        ("12 = 20 - 8", "20"),
    ],
)
def test_what_is_no_such_answer(response, answer):
    assert not grade("gsm8k", response, f"#### {answer}").flexible


def test_an_empty_set_and_a_ratio_have_several_spellings():
    for found, wanted in (
        ("\\varnothing", "\\emptyset"),
        ("12{:}30", "12:30"),
        ("\\emptyset", "\\varnothing"),
    ):
        assert grade("math", f"$\\boxed{{{found}}}$", f"\\boxed{{{wanted}}}").flexible


def test_the_grader_s_rules_have_a_number():
    assert grader_of("numbers") == grader_of("gsm8k") == "built in, rules 4"
    assert grader_of("math").endswith(", rules 4")
