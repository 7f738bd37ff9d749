"""Is an answer right? *strict* asks for the task's form, *flexible* for the last number.

    numbers   strict: the whole stripped response
    gsm8k     strict: the number after "####", as lm-evaluation-harness's strict-match
    math      strict: the last \\boxed{...}, after a simple normalisation of the LaTeX

Numbers are compared as numbers: 1,000 is 1000, $5.00 is 5, a full stop at the end is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = re.compile(r"-?\$?\d[\d,]*\.?\d*|-?\.\d+")
GSM8K = re.compile(r"#### *(-?[\d.,$]+)")
GRADINGS = ("numbers", "gsm8k", "math")
DROPPED = (
    r"\left",
    r"\right",
    r"\!",
    r"\,",
    r"\;",
    r"\$",
    "$",
    r"\%",
    "%",
    r"^\circ",
    r"^{\circ}",
    " ",
)


@dataclass(frozen=True)
class Grade:
    """Both verdicts on one response, and what was taken as its answer."""

    strict: bool
    flexible: bool
    extracted: str | None


def grade(grading: str, response: str, answer: str) -> Grade:
    """Grade one response against the reference answer, in the form of the task."""
    assert grading in GRADINGS, grading
    if grading == "math":
        return grade_math(response, answer)
    wanted = final_answer(answer)
    found = last_number(response)
    if found is None:
        found = response.strip()
    strict = strict_answer(grading, response)
    return Grade(strict is not None and same(strict, wanted), same(found, wanted), found or None)


def final_answer(answer: str) -> str:
    """The reference: what follows "####" where a worked solution is given."""
    marked = GSM8K.findall(answer)
    return marked[-1] if marked else answer.strip()


def strict_answer(grading: str, response: str) -> str | None:
    if grading == "numbers":
        return response.strip()
    marked = GSM8K.search(response)
    return marked[1] if marked else None


def last_number(text: str) -> str | None:
    """The last number in a text, as written."""
    found = NUMBER.findall(text)
    return found[-1].rstrip(",.") if found else None


def same(x: str, y: str) -> bool:
    """Equal as numbers where both are numbers, else as text."""
    a, b = value(x), value(y)
    return a == b if a is not None and b is not None else x.strip() == y.strip()


def value(text: str) -> float | None:
    cleaned = text.strip().replace(",", "").replace("$", "").rstrip(".")
    try:
        return float(cleaned)
    except ValueError:
        return None


# ---- MATH ---------------------------------------------------------------------------------------------


def grade_math(response: str, answer: str) -> Grade:
    wanted = normal(boxed(answer) or answer)
    found = boxed(response)
    strict = found is not None and equal_math(normal(found), wanted)
    loose = found if found is not None else last_number(response)
    flexible = loose is not None and equal_math(normal(loose), wanted)
    return Grade(strict, flexible, loose)


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{...}, braces matched."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    depth = 0
    first = text.index("{", start)
    for i in range(first, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[first + 1 : i]
    return None


def normal(text: str) -> str:
    """A LaTeX answer in one spelling: no spacing, units or decorations; fractions in one form."""
    text = text.strip().rstrip(".").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf)\{([^{}]*)\}", r"\1", text)
    for word in DROPPED:
        text = text.replace(word, "")
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"^[a-zA-Z]=", "", text)
    plain = re.fullmatch(r"(-?)\\frac\{(-?\d+)\}\{(-?\d+)\}", text)
    return f"{plain[1]}{plain[2]}/{plain[3]}" if plain else text


def equal_math(x: str, y: str) -> bool:
    a, b = ratio(x), ratio(y)
    return x == y or (a is not None and b is not None and abs(a - b) < 1e-9)


def ratio(text: str) -> float | None:
    top, slash, bottom = text.partition("/")
    a, b = value(top), value(bottom) if slash else 1.0
    return a / b if a is not None and b else None
