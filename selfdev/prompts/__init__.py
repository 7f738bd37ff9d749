"""Prompts that ask for a merge program, and how a completion becomes one.

A prompt ends in the middle of a program, and the completion goes on from there: the end of the
prompt plus the completion is the program. A generator may bring its own prompt in prompt.txt beside
its weights, as that of the tiny zoo does. In any prompt {{goal}} and {{models}} stand for what the
merge shall be good at, and for the experts: their names, and a line about each. {{elites}} stands for
the best programs so far, in an arm that shows them, and for nothing in others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...engine.errors import UsageError
from ...engine.program import extract
from ...engine.weights.small_file import read_text
from ..config import Expert, RunConfig

FOLDER = Path(__file__).parent
PROMPT_FILE = "prompt.txt"
START = "def merge_models("
IMPORT = "import torch\n\n"
ELITES = "{{elites}}"
FENCE, FENCE_END = "```python\n", "\n```"
GOALS = {
    "gsm8k": "word problems of grade-school mathematics",
    "math": "competition mathematics",
}


def prompt_of(config: RunConfig, generator: Path, elites: Sequence[str] = ()) -> str:
    """The prompt of a run, its variables filled in. UsageError where it cannot be read.

    `elites` are texts of good programs; a prompt that has no place for them is refused, if an arm
    shows them.
    """
    text = load_prompt(config.generation.prompt, generator)
    shows = [arm.name for arm in config.all_arms if arm.writer == "elites"]
    if shows and ELITES not in text:
        raise UsageError(
            f"arms.{shows[0]}: the prompt has no place for good programs: write {ELITES} where they "
            "shall stand"
        )
    text = text.replace(ELITES, shown(elites))
    text = text.replace("{{goal}}", goal_of(config.generation.goal, config.task))
    return text.replace("{{models}}", lines_about(config.experts))


def shown(elites: Sequence[str]) -> str:
    """A part of the prompt with these programs, the best first; empty without any."""
    codes = [extract(text).code.strip() for text in elites]
    blocks = "".join(f"{FENCE}{code}{FENCE_END}\n\n" for code in codes)
    return f"## The best programs so far, the best first\n\n{blocks}" if elites else ""


def goal_of(goal: str, task: str) -> str:
    """What the merge shall be good at: as told, or as the task is known for."""
    return GOALS.get(task, "the questions of its task") if goal == "auto" else goal


def lines_about(experts: Mapping[str, Expert]) -> str:
    """Lines of a dict in Python: each expert's name, and before it what is said of it."""
    lines = list[str]()
    for name, expert in experts.items():
        lines += [f"    # {expert.about}"] * bool(expert.about)
        lines.append(f"    {name!r}: torch.rand(shape),")
    return "\n".join(lines)


def load_prompt(name: str, generator: Path) -> str:
    """The text of a prompt: `name` is a path, or "default" for the generator's own, else ours."""
    own = generator / PROMPT_FILE
    if name == "default":
        return (
            read_text(own)
            if os.path.lexists(own)
            else (FOLDER / "default.txt").read_text().rstrip("\n")
        )
    try:
        text = read_text(Path(name)).rstrip("\n")
    except UsageError as error:
        raise UsageError(f"generation.prompt: {error}") from None
    if not text.strip():
        raise UsageError(f"generation.prompt: {name}: is empty")
    return text


def in_chat(prompt: str, generator: Path) -> str:
    """The prompt as a turn of a chat, if the generator has a chat template.

    The opening of the program becomes the beginning of the answer. A generator that brings its own
    prompt is asked with that prompt as it is.
    """
    if (generator / PROMPT_FILE).is_file():
        return prompt
    opened = opening(prompt)
    try:
        turn = chat_turn(prompt.removesuffix(opened).rstrip(), generator)
    except Exception as error:  # a template is a program, and may raise anything
        raise UsageError(
            f"{generator}: its tokenizer or chat template fails: {' '.join(str(error).split())[:200]}; "
            "mend it, or set generation.chat_template: none"
        ) from None
    return prompt if turn is None else turn + opened


def chat_turn(question: str, generator: Path) -> str | None:
    """The question as a turn of a chat, up to where the answer begins; None without a template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(generator, trust_remote_code=False)
    if not tokenizer.chat_template:
        return None
    turn = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    adds_bos = tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(tokenizer.bos_token) if adds_bos else text


def opening(prompt: str) -> str:
    """The end of a prompt that belongs to the program: code fence, import, first lines."""
    start = prompt.rfind(START)
    if start < 0:
        return ""
    for head in (FENCE + IMPORT, FENCE, IMPORT):
        if prompt[:start].endswith(head):
            return prompt[start - len(head) :]
    return prompt[start:]


def program_text(prompt: str, completion: str) -> str:
    """The whole program: what the prompt opened, and the completion that goes on from it."""
    opened = opening(prompt)
    head = IMPORT if opened.startswith(START) else ""
    return head + opened + completion


def completion_of(prompt: str, program: str) -> str:
    """What the model wrote after the prompt; the inverse of `program_text`."""
    return program.removeprefix(program_text(prompt, ""))


def stops(prompt: str) -> tuple[str, ...]:
    """Strings that end a completion: the end of the code block, if the prompt opened one."""
    return (FENCE_END,) if opening(prompt).startswith(FENCE) else ()
