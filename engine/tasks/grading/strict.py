"""Strict grades: the same verdict as lm-evaluation-harness (0.4.13) on every answer.

gsm8k   the first "#### number", compared as text without commas, dollars and a last full stop
math    the text between the first and the last "$" (all of it if there are fewer than two), compared
        as text after the normalisation of Hendrycks et al.

Oddities of the harness are kept, because they are part of the benchmark: "\\boxed{4}" without
dollars is wrong in `math`, and an answer that the normalisation cannot read is compared as it is.
"""

from __future__ import annotations

import re

from .latex import within_braces

MARKED = re.compile(r"#### (-?[0-9.,]+)")
INVALID = "[invalid]"


class Unreadable(Exception):
    """The normalisation cannot read this LaTeX; the texts are then compared as they are."""


def strict_gsm8k(response: str, answer: str) -> bool:
    found = MARKED.search(response)
    return bare(found[1] if found else INVALID) == bare(answer)


def bare(text: str) -> str:
    """A GSM8K answer in the form in which the harness compares it."""
    text = text.replace(",", "").replace("$", "")
    text = text.rpartition("#### ")[2]
    return re.sub(r"\.$", "", text).lower()


def strict_math(response: str, answer: str) -> bool:
    """`answer` is a worked solution with a box, or the box's content."""
    first, last = response.find("$"), response.rfind("$")
    found = response[first + 1 : last] if first < last else response
    return equivalent(found, reference(answer))


def reference(answer: str) -> str:
    """The content of the last box of a worked solution, or the whole answer if there is none."""
    content = boxed(answer)
    return answer if content is None else content


def boxed(text: str) -> str | None:
    """The content of the last box as the harness finds it: "\\boxed 5$" ends at the dollar."""
    if "\\boxed " in text:
        return text.split("\\boxed ")[-1].split("$")[0]
    start = text.rfind("\\boxed")
    start = start if start >= 0 else text.rfind("\\fbox")
    first = text.find("{", start) if start >= 0 else -1
    return None if first < 0 else within_braces(text, first)


def equivalent(x: str, y: str) -> bool:
    try:
        return normal(x) == normal(y)
    except Unreadable:
        return x == y


DROPPED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


def normal(text: str) -> str:
    """A LaTeX answer in one spelling. Raises Unreadable where the harness's own code fails."""
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for word in DROPPED:
        text = text.replace(word, "")
    # The harness does this twice, too.
    text = without_unit(text).replace("\\%", "").replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = "0" + text if text[0] == "." else text
    text = braced_roots(without_name(text)).replace(" ", "")
    text = braced_fractions(text)
    return slash_as_fraction("\\frac{1}{2}" if text == "0.5" else text)


def without_unit(text: str) -> str:
    """The text before a unit, which begins with "\\text{ "."""
    before, *units = text.split("\\text{ ")
    if len(units) > 1:
        raise Unreadable("two units")
    return before


def without_name(text: str) -> str:
    """Drop a name on the left: k = 5 is 5. At most two characters, and only one equals sign."""
    name, *values = text.split("=")
    return values[0] if len(values) == 1 and len(name) <= 2 else text


def braced_roots(text: str) -> str:
    """Write \\sqrt3 as \\sqrt{3}."""
    head, *parts = text.split("\\sqrt")
    if "" in parts:
        raise Unreadable("a root of nothing")
    braced = (p if p[0] == "{" else f"{{{p[0]}}}{p[1:]}" for p in parts)
    return head + "".join("\\sqrt" + p for p in braced)


def braced_fractions(text: str) -> str:
    """Write \\frac12 as \\frac{1}{2} and \\frac1{72} as \\frac{1}{72}.

    If only one character follows a \\frac, the whole text stays as it is.
    """
    head, *parts = text.split("\\frac")
    done = head
    for part in parts:
        if not part:
            raise Unreadable("a fraction of nothing")
        if part[0] != "{":
            if len(part) < 2:
                return text
            top, bottom, rest = part[0], part[1], part[2:]
            part = f"{{{top}}}{bottom if bottom == '{' else f'{{{bottom}}}'}{rest}"
        done += "\\frac" + part
    return done


def slash_as_fraction(text: str) -> str:
    """Write 3/4 as \\frac{3}{4}. Raises Unreadable for one slash between other things."""
    words = text.split("/")
    if len(words) != 2:
        return text
    try:
        top, bottom = map(int, words)
    except ValueError:
        raise Unreadable("a slash between what are no integers") from None
    return f"\\frac{{{top}}}{{{bottom}}}" if text == f"{top}/{bottom}" else text
