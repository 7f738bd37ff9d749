"""Prompts: what a generator is given, and how its answer becomes a program.

`paper` follows the form that the paper describes (task, reference code, instructions, a worked
example, an open function) in words of ours; `short` is the open function alone, for a generator
that was trained on nothing else. Both end where a function is open and before a line break: the
completion begins with the break, so that the prompt ends on a token boundary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...engine.errors import UsageError

FOLDER = Path(__file__).parent
SIGNATURE = "def merge_models("
IMPORT = "import torch\n\n\n"
PROMPT_FILE = "prompt.txt"  # in a generator's folder: the prompt that it was trained on
NAMED = {"paper": "paper.md", "short": "short.txt"}


@dataclass(frozen=True)
class Prompt:
    """The text to complete, the strings that end a completion, and the way back to a program."""

    text: str
    stop: tuple[str, ...] = ("\n```",)

    @property
    def opening(self) -> str:
        """The unfinished function at the end of the text, with the import that it needs."""
        return IMPORT + self.text[self.text.rindex(SIGNATURE) :]

    def program(self, completion: str) -> str:
        """The program that a completion stands for.

        A completion goes on with the open function; one that defines the function itself, as a
        chat model's answer does, is the program as it is.
        """
        return completion if SIGNATURE in completion else self.opening + completion


def load_prompt(
    spec: str = "default",
    generator: Path | None = None,
    experts: Mapping[str, str] | None = None,
) -> Prompt:
    """The prompt `spec`: default, paper, short or a file's path.

    `default` is the prompt in the generator's own folder if it has one, else the paper's. In a
    text `{models}` stands for a line per expert: `experts` maps names to what is known of them
    (or to nothing). UsageError where the file is missing or opens no function.
    """
    path = prompt_path(spec, generator)
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"prompt {spec}: {path}: {error.strerror}") from None
    if SIGNATURE not in text:
        raise UsageError(f"prompt {spec}: it must end with an open {SIGNATURE}model_dict, device)")
    return Prompt(text.replace("{models}", model_lines(experts or {})))


def prompt_path(spec: str, generator: Path | None) -> Path:
    """Where the prompt's text lies."""
    if spec == "default":
        own = generator / PROMPT_FILE if generator else None
        return own if own and own.is_file() else FOLDER / NAMED["paper"]
    return FOLDER / NAMED[spec] if spec in NAMED else Path(spec)


def model_lines(experts: Mapping[str, str]) -> str:
    """A dictionary entry per expert, under a comment that says what it is good at."""
    lines = []
    for name, known in experts.items():
        lines += [f"    # {' '.join(known.split())}"] if known else []
        lines.append(f"    {name!r}: torch.rand(dim),")
    return "\n".join(lines)
