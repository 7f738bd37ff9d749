"""The arms of a run: its own loop, and controls that share its database, engine and budget.

A control changes one thing about the loop: how it learns, what it learns from, or who writes. Each arm
draws as many samples as the run's own, which is called `main`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..engine.given import MAX_SEED
from ..engine.records.candidate import MAIN
from .baselines import MOST_EXPERTS
from .section import Section, Temperature

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Writers that ask the generator; the others draw programs from a distribution or a search of their own.
MODELS = ("model", "elites")
# The grammar's programs name three experts.
GRAMMAR_EXPERTS = 3


def fixed(value: Any) -> Any:
    """Read a number as a temperature that does not fall."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"initial": value, "decay": 0} if is_number else value


class ArmSettings(Section):
    """How an arm differs from the run's own. What is not set is as in the run."""

    # "auto" is the run's `learn` where the generator writes, and "none" elsewhere.
    learn: Literal["auto", "dpo", "sft", "none"] = "auto"
    # "permuted" learns from the scores, shuffled among the programs that ran.
    scores: Literal[True, "permuted"] = True
    writer: Literal["model", "elites", "grammar", "coefficients", "grid", "cma_es"] = "model"
    temperature: Annotated[Temperature | None, BeforeValidator(fixed)] = None
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)


PRESETS: dict[str, dict[str, Any]] = {
    "no_learning": {"learn": "none"},
    "sft": {"learn": "sft"},
    "permuted": {"scores": "permuted"},
    "random_programs": {"writer": "grammar"},
    "in_context": {"writer": "elites"},
    "linear": {"writer": "coefficients"},
    "cma_es": {"writer": "cma_es"},
    "task_arithmetic_with_zeros": {"writer": "grid"},
}


def preset(name: Any) -> dict[str, Any]:
    """The settings of a preset. ValueError names the one that is most like an unknown name."""
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(str(name), PRESETS, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{name!r} is no preset; {hint}there are {', '.join(PRESETS)}")


def read_arms(value: Any) -> Any:
    """Read a list of presets as a mapping of their names to their settings."""
    if isinstance(value, list):
        if again := next((name for name in value if value.count(name) > 1), None):
            raise ValueError(f"{again!r} is given twice; name the second: {{again: {again}}}")
        return {name: preset(name) for name in value}
    if not isinstance(value, Mapping):
        raise ValueError(f"write a list of presets or a mapping of arms, not {value!r}")
    return value


def read_arm(value: Any) -> Any:
    """Read a preset's name in place of the settings of an arm."""
    return preset(value) if isinstance(value, str) else value


Arms = Annotated[
    dict[str, Annotated[ArmSettings, BeforeValidator(read_arm)]], BeforeValidator(read_arms)
]


@dataclass(frozen=True)
class Arm:
    """An arm with all its settings. The temperature is that of an arm whose generator writes."""

    name: str
    writer: str
    learn: Literal["dpo", "sft", "none"]
    is_permuted: bool
    temperature: Temperature
    seed: int

    @property
    def learns(self) -> bool:
        return self.learn != "none"

    @property
    def in_words(self) -> str:
        """What is said of an arm after a step's name: nothing for the run's own."""
        return "" if self.name == MAIN else f", {self.name}"

    def sample_id(self, iteration: int, number: int) -> str:
        """The id of a sample, which no other arm has."""
        name = f"i{iteration}-{number}"
        return name if self.name == MAIN else f"{name}@{self.name}"


def arm_of(name: str, settings: ArmSettings, main: Arm) -> Arm:
    """The arm that differs from `main` in these settings."""
    own = main.learn if settings.writer == "model" else "none"
    return Arm(
        name=name,
        writer=settings.writer,
        learn=own if settings.learn == "auto" else settings.learn,
        is_permuted=settings.scores == "permuted",
        temperature=settings.temperature or main.temperature,
        seed=main.seed if settings.seed is None else settings.seed,
    )


def check_arm(name: str, settings: ArmSettings, main: Arm, num_experts: int) -> None:
    """ValueError names the setting that makes no sense."""
    arm, writer = arm_of(name, settings, main), settings.writer
    place = f"arms.{name}"
    if name == MAIN:
        raise ValueError(f"{place}: is the run's own arm: set `learn` and the others at the top")
    if not NAME.fullmatch(name):
        raise ValueError(f"{place}: write a name of letters, digits, _, - and dots")
    if settings.learn not in ("auto", "none") and writer != "model":
        raise ValueError(f"{place}.learn: is for `writer: model`, not for `writer: {writer}`")
    if arm.is_permuted and not arm.learns:
        raise ValueError(f"{place}.scores: nobody learns from them: the arm has `learn: none`")
    if settings.temperature and writer not in MODELS:
        raise ValueError(f"{place}.temperature: is for a model, not for `writer: {writer}`")
    if writer == "grammar" and num_experts != GRAMMAR_EXPERTS:
        raise ValueError(f"{place}.writer: the grammar is for three experts, not {num_experts}")
    if writer == "cma_es" and num_experts < 2:
        raise ValueError(f"{place}.writer: cma_es is for two experts or more")
    if writer == "grid" and num_experts > MOST_EXPERTS:
        raise ValueError(f"{place}.writer: grid is for {MOST_EXPERTS} experts at most")
    if arm == Arm(**{**vars(main), "name": name}):
        raise ValueError(f"{place}: differs from the run's own arm in nothing")
