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
from .latex import boxed, boxes, formulas
from .math_verify import BUILT_IN, shared_verifier
from .number_words import NEGATIVE, named
from .numeric import SCALED, last_number, number_at, numbers_in, same, value
from .plain import plain
from .sequences import AND
from .strict import reference, strict_gsm8k, strict_math

# The rules of the flexible grades: another number is another grader.
RULES = "rules 4"
MARK = re.compile(r"####[^\w\n.$#-]{0,8}")
# What follows the number of a heading such as "#### 1. So".
HEADING = re.compile(r"[.):]\s+\w")
CALLED = re.compile(
    r"(?i)\banswers?\b[^.:=\n]{0,40}?(?:\bis\b|\bare\b|:|=)[\s:*]*+(?=[^\n])(?!not\b)"
)
# Characters at the end of a response in which an unmarked answer is looked for.
TAIL = 4000
# What is called the answer is looked at so many times, from the end.
MOST_CALLED = 16
# The end of a sentence; "5! = 120" has none in it.
SENTENCE = re.compile(r"(?:[.?]|!(?!\s?=))(?:\s|$)")


# A calculation right after "####", of which the result counts.
CALCULATION = re.compile(r"\s*[-+*/x÷][^=\n]*(=[^\n]*)")
# A calculation after an equals sign: then the number before it is the result, as in 12 = 20 - 8.
UNFINISHED = re.compile(r"[\s$]*[\d.,]+\s*[-+*x÷]\s*\$?\d")
WRAPPED = re.compile(r"\\(?:text|textbf|mathbf|mathrm|mbox)\s?\{([^{}]*)\}")


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
    """Name and version of the library that decides flexible grades here (or BUILT_IN), and RULES."""
    return f"{grader() if grading == 'math' else BUILT_IN}, {RULES}"


def grade_numbers(response: str, answer: str) -> Grade:
    stripped, found = response.strip(), last_number(response[-TAIL:])
    strict = same(stripped, answer)
    flexible = strict or equal_number(found or stripped, answer)
    return Grade(strict, flexible, found or stripped or None)


def check_reference(grading: str, answer: str) -> str:
    """Return why no answer could be right by this reference; "" where one can."""
    if grading == "numbers" and MARK.search(answer):
        return (
            "is a worked solution (####), so no response could be right; its last number is wanted"
        )
    if grading == "gsm8k" and value(answer.rpartition("####")[2]) is None:
        return "has no number after ####, and is none itself, so no response could be right"
    if grading == "math" and not reference(answer).strip(" ${}"):
        return "has an empty box, so no response could be right"
    return ""


def grade_gsm8k(response: str, answer: str) -> Grade:
    strict = strict_gsm8k(response, answer)
    found = answer_number(response)
    flexible = strict or (found is not None and equal_number(found, answer.rpartition("####")[2]))
    return Grade(strict, flexible, found)


def equal_number(found: str, wanted: str) -> bool:
    """Whether both are the same number, one of them perhaps in words, or the same text."""
    number = value(wanted)
    if same(found, wanted) or number is None:
        return same(found, wanted)
    # A question may ask for millions: then the reference of "4 million" is 4.
    return number in (named(found), value(SCALED.sub("", plain(found).strip())))


def answer_number(response: str) -> str | None:
    """The number after "####", in a box, or called the answer; else the last of the response."""
    if marked := marked_number(plain(response)):
        return marked
    tail = response[-TAIL:]
    for part in (boxed(response), *called_answers(tail)):
        if part and (found := result_of(part[:TAIL])):
            return found
    if named(word := unwrapped(response)) is not None:
        return word
    last_line = tail.rstrip().rpartition("\n")[2]
    found = result_of(last_line) if "=" in last_line else None
    return found or last_number(tail)


def marked_number(text: str) -> str | None:
    """The first number right after "####", unless it numbers a heading."""
    for mark in MARK.finditer(text):
        number = number_at(text, mark.end())
        if number and not HEADING.match(text, mark.end() + len(number)):
            steps = CALCULATION.match(text, mark.end() + len(number))
            return (steps and result_of(steps[1])) or number.strip()
    return None


def called_answers(response: str) -> list[str]:
    """The rest of the sentence after each "the answer is", the last first."""
    ends = [called.end() for called in CALLED.finditer(response)][-MOST_CALLED:]
    lines = (response[end:].split("\n", 1)[0] for end in reversed(ends))
    return [SENTENCE.split(line, 1)[0] for line in lines]


def result_of(text: str) -> str | None:
    """The whole text if it is a number, else the first number after the last equals sign.

    That is the 5 in "2 + 3 = 5 eggs a day, 7 days".
    """
    whole = unwrapped(text)
    if value(whole) is not None or named(whole) is not None:
        return whole
    if (sign := NEGATIVE.match(whole)) and value(whole[sign.end() :]) is not None:
        return f"-{whole[sign.end() :]}"
    left, _, right = text.rpartition("=")
    if left and UNFINISHED.match(plain(right)) and (found := last_number(left)):
        return found
    found = numbers_in(right)
    return found[0] if found else None


def unwrapped(text: str) -> str:
    """A text without marks of style around it."""
    return WRAPPED.sub(r"\1", text[:TAIL].strip(" *_`$\n")).strip(" *_`$\n")


def grade_math(response: str, answer: str) -> Grade:
    shared_verifier().begin_answer()
    strict, wanted = strict_math(response, answer), reference(answer)
    found = answer_formula(response)
    # Several boxes may be joined; the last one alone is accepted, too, because references are made so.
    forms = {found or "", *boxes(response)[-1:]} - {""}
    flexible = strict or any(equal_math(form, wanted) for form in forms)
    return Grade(strict, flexible, found)


def answer_formula(response: str) -> str | None:
    """The content of the last box, else the formula called the answer, else the last formula."""
    if (found := boxed(response)) is not None:
        return found
    tail = response[-TAIL:]
    said = called_answers(tail)
    for rest in said:
        if found := formulas(rest):
            return joined(rest, found)
        if any(character.isdigit() for character in rest):
            return rest.strip(" *")
    if said:
        return said[0].strip(" *")
    if found := formulas(tail):
        last = tail.strip().rpartition("\n")[2]
        return joined(last, formulas(last) or found[-1:])
    return last_number(tail) or tail.strip() or None


def joined(text: str, found: list[str]) -> str:
    """The last formula of a sentence, or all of them if only commas and "and" stand between them."""
    between = text
    for formula in found:
        between = between.replace(formula, "", 1)
    words = AND.sub(",", re.sub(r"\\[()\[\]]|\$", "", between))
    return ", ".join(found) if not re.search(r"\w", words) else found[-1]
