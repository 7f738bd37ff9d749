"""Finds the merge program in what a language model wrote. It is parsed here, never run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .errors import Rejected, Rejection
from .given import check_fields, checked

FUNCTION = "merge_models"
MAX_CHARACTERS = 200_000
OPENING = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)")
PYTHON_TAGS = ("", "python", "py", "python3")


@dataclass(frozen=True)
class Program:
    """Source that defines `merge_models(model_dict, device)`, and keyword arguments for it."""

    text: str  # as it was given; rejections name its lines
    code: str  # the Python code in the text
    first_line: int = 1  # line of `text` at which `code` begins
    params: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    def line_of(self, line: int | None) -> int | None:
        """The line of the text that a line of the code is."""
        return None if line is None else line + self.first_line - 1


@checked()
def extract(text: str, params: Mapping[str, float | int | str | bool] | None = None) -> Program:
    """The program in a text: plain Python, or Markdown with fenced blocks.

    The first block that defines merge_models is taken. Raises Rejected: `no_function` if none does,
    `syntax` with its line if the code does not parse.
    """
    if len(text) > MAX_CHARACTERS:
        raise reject("no_function", f"{len(text)} characters: more than {MAX_CHARACTERS}", None)
    found = [block for block in blocks(text) if re.search(rf"\b{FUNCTION}\b", block[0])]
    if not found:
        raise reject("no_function", f"no function {FUNCTION}(model_dict, device) in the text", None)
    for code, first_line in found:
        if defines(parse(code, first_line)):
            return Program(text, code, first_line, params or {})
    raise reject("no_function", f"{FUNCTION} is named but not defined at the top level", None)


def blocks(text: str) -> Iterator[tuple[str, int]]:
    """Pieces of code with their first lines: the fenced blocks, or the whole text without any."""
    found = fenced_blocks(text)
    fenced = [(code, line) for tag, code, line in found if tag.lower() in PYTHON_TAGS]
    yield from fenced
    if not fenced:
        yield text, 1


def fenced_blocks(text: str) -> Iterator[tuple[str, str, int]]:
    """The tag, code and first line of each fenced block. One that stays open runs to the end.

    Each line is looked at once, so the time grows with the text's length only.
    """
    lines = text.split("\n")
    at = 0
    while at < len(lines) - 1:
        if not (opening := OPENING.match(lines[at])):
            at += 1
            continue
        first = at = at + 1
        while at < len(lines) and lines[at].strip(" \t") != opening[1]:
            at += 1
        code = lines[first:at] + ([""] if at < len(lines) else [])
        yield opening[2], "\n".join(code), first + 1
        at += 1


def parse(code: str, first_line: int) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return ast.parse(code)
        except SyntaxError as error:
            line = first_line + (error.lineno or 1) - 1
            raise reject(
                "syntax", f"{error.msg}: {(error.text or '').strip()[:120]}", line
            ) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise reject("syntax", f"Python cannot parse it: {error}", None) from None


def defines(module: ast.Module) -> bool:
    """Tells whether a statement of any kind binds merge_models at the top level."""
    for node in module.body:
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef) and inner.name == FUNCTION:
                return True
            if (
                isinstance(inner, ast.Name)
                and inner.id == FUNCTION
                and isinstance(inner.ctx, ast.Store)
            ):
                return True
    return False


def reject(kind: str, detail: str, line: int | None) -> Rejected:
    return Rejected(Rejection(kind, detail, line))
