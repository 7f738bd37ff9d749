"""Prompts that ask for a merge program, and how a completion becomes one.

A prompt ends where the program's text goes on, so that prompt tail + completion is a program. The
tiny zoo's generator has its own short one, in prompt.txt beside its weights.
"""

from __future__ import annotations

from pathlib import Path

from ...engine.errors import UsageError

FOLDER = Path(__file__).parent
PROMPT_FILE = "prompt.txt"
START = "def merge_models("


def load_prompt(name: str, generator: Path) -> str:
    """The text of a prompt: "default" is the generator's own, else ours; or a path."""
    own = generator / PROMPT_FILE
    if name == "default":
        return (
            own.read_text() if own.is_file() else (FOLDER / "default.txt").read_text().rstrip("\n")
        )
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"generation.prompt: {name}: no such file")
    return path.read_text().rstrip("\n")


def program_text(prompt: str, completion: str) -> str:
    """What the model wrote, from the function that the prompt left open."""
    start = prompt.rfind(START)
    opened = prompt[start:] if start >= 0 else ""
    head = "import torch\n\n" if opened else ""
    return head + opened + completion
