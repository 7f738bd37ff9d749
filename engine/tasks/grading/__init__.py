"""Decides whether an answer is right. *strict* wants the form of the task, *flexible* the meaning.

             strict                                  flexible
    numbers  the whole stripped response             the last number, else the stripped text
    gsm8k    strict-match of lm-evaluation-harness   the number marked as answer, else the last one
    math     lm-evaluation-harness's own rule, by    the box, else what is called the answer,
             text                                    by value (with math-verify, if installed)

In gsm8k and math, a response that is right by the strict rule is right by the flexible rule, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .equal_math import equal_math, grader
from .latex import boxed, last_formula
from .math_verify import BUILT_IN
from .numeric import NUMBER, last_number, numbers_in, plain, same
from .strict import reference, strict_gsm8k, strict_math

# "#### 42", but not a heading such as "#### 1. So".
MARKED = re.compile(rf"####[^\w\n.$#-]{{0,8}}({NUMBER.pattern})(?![.):]\s+\w)")
CALLED = re.compile(r"(?i)\banswer\b[^.:=\n]{0,40}?(?:\bis\b|:|=)[\s:*]*([^\n]+)")
# Characters at the end of a response in which an unmarked answer is looked for.
TAIL = 4000
SENTENCE = re.compile(r"[.!?](?:\s|$)")


@dataclass(frozen=True)
class Grade:
    """Both verdicts on one response, and the text that was taken as its answer."""

    strict: bool
    flexible: bool
    extracted: str | None


def grade(grading: str, response: str, answer: str) -> Grade:
    """Grade one response against the reference answer; `grading` is "numbers", "gsm8k" or "math"."""
    return {"numbers": grade_numbers, "gsm8k": grade_gsm8k, "math": grade_math}[grading](
        response, answer
    )


def grader_of(grading: str) -> str:
    """Name and version of the library that decides flexible grades here, or BUILT_IN."""
    return grader() if grading == "math" else BUILT_IN


def grade_numbers(response: str, answer: str) -> Grade:
    stripped, found = response.strip(), last_number(response[-TAIL:])
    strict = same(stripped, answer)
    flexible = strict or (found is not None and same(found, answer))
    return Grade(strict, flexible, found or stripped or None)


def grade_gsm8k(response: str, answer: str) -> Grade:
    strict = strict_gsm8k(response, answer)
    marked = answer.rpartition("####")[2]
    found = answer_number(response)
    flexible = strict or (found is not None and same(found, marked))
    return Grade(strict, flexible, found)


def answer_number(response: str) -> str | None:
    """The number after "####", in a box, or called the answer; else the last of the response."""
    if marked := MARKED.search(plain(response)):
        return marked[1].strip()
    tail = response[-TAIL:]
    for part in (boxed(response), called_answer(tail)):
        if part and (found := result_of(part[:TAIL])):
            return found
    return last_number(tail)


def called_answer(response: str) -> str | None:
    """The rest of the sentence after the last "the answer is"."""
    found = CALLED.findall(response)
    return SENTENCE.split(found[-1])[0] if found else None


def result_of(text: str) -> str | None:
    """The first number after the last equals sign: the 5 in "2 + 3 = 5 eggs a day, 7 days"."""
    found = numbers_in(text.rpartition("=")[2])
    return found[0] if found else None


def grade_math(response: str, answer: str) -> Grade:
    strict, wanted = strict_math(response, answer), reference(answer)
    found = answer_formula(response)
    flexible = strict or (found is not None and equal_math(found, wanted))
    return Grade(strict, flexible, found)


def answer_formula(response: str) -> str | None:
    """The content of the last box, else the formula called the answer, else the last formula."""
    if (found := boxed(response)) is not None:
        return found
    tail = response[-TAIL:]
    if said := called_answer(tail):
        return last_formula(said) or said.strip(" *")
    return last_formula(tail) or last_number(tail) or tail.strip() or None
