"""The config of a run: YAML that pydantic checks before any model is loaded.

Defaults are those of the paper (arXiv 2410.15639); where it says nothing, the default is our
choice. Paths are relative to the folder of the config file; a text that is not a path is a hub id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..engine.errors import UsageError, did_you_mean
from ..engine.given import MAX_SEED, at_home, checked
from ..engine.weights.small_file import read_text
from ..engine.weights.strict_yaml import in_yaml, load_yaml
from .arms import MAIN, Arm, Arms, arm_of, check_arm
from .baselines import check_grid
from .methods import load_method
from .parameters import signature_of
from .section import Section, Temperature
from .sizes import parse_bytes


@contextmanager
def as_value_error(prefix: str = "") -> Iterator[None]:
    """Turn a UsageError into a ValueError, so that pydantic says which setting is wrong."""
    try:
        yield
    except UsageError as error:
        raise ValueError(f"{prefix}{error}") from None


# What `compare` and `export` call the base model and the best program; the ids of sampled programs.
TAKEN = ("", "base", "best")
SAMPLE_ID = re.compile(r"i\d+-\d+(@.*)?")
# A text that says something.
Place = Annotated[str, Field(pattern=r"\S")]
MOST = 10**9
# How pydantic ends the place of a value that may be "auto" or a number.
UNION = ".literal['auto']"
# What a value should be, by the type of pydantic's error.
WANTED = {
    "model_type": "a mapping of settings",
    "dict_type": "a mapping of settings",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "string_type": "a text",
    "bool_type": "true or false",
}

# Keys of earlier versions, and what became of them.
RENAMED = {"preferences.validation": "now preferences.holdout, a share of the programs"}


class Expert(Section):
    """A model that is merged. `about` is what the prompt says of it, in one line."""

    model: Place
    about: str = ""

    @field_validator("about")
    @classmethod
    def check_about(cls, value: str) -> str:
        """Refuse what is not one line of text: it becomes a comment in the prompt."""
        if not value.isprintable():
            raise ValueError("is no single line of text; write one short line about the model")
        return value.strip()


def expert_of(value: Any) -> Any:
    """Read the short form of an expert, its place alone."""
    return {"model": value} if isinstance(value, str) else value


class Generation(Section):
    max_new_tokens: int = Field(default=1024, ge=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    # "auto" uses the chat template of the generator, if it has one.
    chat_template: Literal["auto", "none"] = "auto"
    prompt: str = "default"
    # What the merge shall be good at, in the prompt's words; "auto" knows those of gsm8k and math.
    goal: str = Field(default="auto", min_length=1)
    wave: int = Field(default=256, ge=1)  # samples per transaction


class Trace(Section):
    timeout_s: float = Field(default=10.0, gt=0)
    eager_tier: bool = True
    replay_limit_s: float = Field(default=120.0, gt=0)


class Engine(Section):
    dtype: Literal["base"] = "base"
    max_model_len: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    memory: str = "auto"
    gpu_memory: str = "auto"

    @field_validator("memory", "gpu_memory", mode="before")
    @classmethod
    def check_memory(cls, value: Any) -> Any:
        """Take a number of bytes as text, and refuse what is no size."""
        text = str(value) if type(value) is int else value
        if isinstance(text, str):
            with as_value_error():
                parse_bytes(text, "no size is")
        return text


class Preferences(Section):
    """How preference pairs are made; paper, section 2.3.

    `holdout` is the share of the distinct programs that ran which no training ever sees; the paper
    holds out a share of the pairs. `invalid_share` is the share of rejected programs that do not run.
    The paper has none.
    """

    chosen_percent: float = Field(default=3, gt=0, le=100)
    rejected_percent: float = Field(default=10, gt=0, le=100)
    rejected_per_chosen: int = Field(default=8, ge=1)
    elites: int = Field(default=3, ge=0)
    holdout: float = Field(default=0.2, ge=0, lt=1)
    invalid_share: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def check_apart(self) -> Preferences:
        """Refuse shares of the ranking that overlap: a program would be better than itself."""
        if (both := self.chosen_percent + self.rejected_percent) > 100:
            raise ValueError(
                f"chosen_percent and rejected_percent overlap: together they are {both:g}"
            )
        return self


class Dpo(Section):
    """Training by DPO. It ends after `max_steps` or `max_epochs`, whichever comes first, or earlier.

    `sft_weight` is the weight of a likelihood term on the chosen programs. The paper has none.
    """

    beta: float = Field(default=0.01, gt=0)
    forward_kl: bool = False  # TRL's f-divergence of that name, in place of the reverse one
    learning_rate: float = Field(default=1.0e-6, gt=0)
    lora_rank: int = Field(default=256, ge=1)
    lora_alpha: int = Field(default=256, ge=1)
    batch_size: int = Field(default=8, ge=1)
    accumulation: int = Field(default=1, ge=1)  # batches to a step
    max_steps: int = Field(default=5000, ge=1)
    max_epochs: float = Field(default=10, gt=0)
    # Validation on the holdout, and after how many of them without a better loss training ends.
    eval_steps: int = Field(default=10, ge=1)
    patience: int = Field(default=3, ge=1)
    warmup_steps: int = Field(default=0, ge=0)
    sft_weight: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def check_steps(self) -> Dpo:
        if self.warmup_steps > self.max_steps:
            raise ValueError(
                f"warmup_steps: {self.warmup_steps} are more than max_steps ({self.max_steps})"
            )
        return self


class Test(Section):
    """`top` is how many of the best programs are scored on the test split."""

    top: int = Field(default=15, ge=0)


class Cluster(Section):
    """Where workers are, and how many. "auto" is a worker for each GPU, or one without GPUs.

    `address` is that of a Ray cluster's head, HOST:PORT, or "auto" for the cluster of this machine.
    """

    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    address: str | None = None
    tensor_parallel: Literal[1] = 1


class RunConfig(Section):
    """One run of the loop."""

    base: Place
    # A folder or hub id is short for {model: ...}. Programs see the names, and the prompt tells them.
    experts: dict[str, Annotated[Expert, BeforeValidator(expert_of)]] = Field(min_length=1)
    generator: str = ""
    task: Place
    # "auto" shows fixed examples in dev questions, and the harness's own draw in test questions.
    shots: Literal["auto", "fixed", "harness"] = "auto"
    include: Place = "mlp"
    iterations: int = Field(default=3, ge=1, le=10_000)  # each is a line of the plan and the report
    samples: int = Field(default=3000, ge=1, le=MOST)
    temperature: Temperature = Field(default_factory=Temperature)
    generation: Generation = Field(default_factory=Generation)
    trace: Trace = Field(default_factory=Trace)
    engine: Engine = Engine()
    preferences: Preferences = Field(default_factory=Preferences)
    # "sft" is the likelihood of the chosen programs alone, on the same pairs and steps.
    learn: Literal["dpo", "sft", "none"] = "dpo"
    dpo: Dpo = Field(default_factory=Dpo)
    baselines: list[str] = Field(default=["task_arithmetic", "ties", "model_stock"])
    # Controls beside the run's own arm: a list of presets, or their settings by name.
    arms: Arms = Field(default={})
    race: Literal["full"] = "full"
    test: Test = Field(default_factory=Test)
    cluster: Cluster = Cluster()
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    @field_validator("experts")
    @classmethod
    def check_names(cls, value: dict[str, Expert]) -> dict[str, Expert]:
        """Refuse names that commands and tables use for something else, or that cannot be printed."""
        for name in value:
            if not name.isprintable():
                raise ValueError(f"{name!r}: a character of the name cannot be printed")
            if name in TAKEN or SAMPLE_ID.fullmatch(name):
                raise ValueError(f"{name!r} names something else in a run; choose another name")
        return value

    @model_validator(mode="after")
    def check_lengths(self) -> RunConfig:
        """Refuse answers that are longer than all that the engine reads and writes."""
        new, most = self.generation.max_new_tokens, self.engine.max_model_len
        if most != "auto" and new >= most:
            raise ValueError(
                f"generation.max_new_tokens: {new} leave no room in engine.max_model_len ({most})"
            )
        return self

    @model_validator(mode="after")
    def check_divergence(self) -> RunConfig:
        if self.dpo.forward_kl and all(arm.learn != "dpo" for arm in self.all_arms):
            raise ValueError(f"dpo.forward_kl: is for `learn: dpo`, not for `learn: {self.learn}`")
        return self

    @model_validator(mode="after")
    def check_baselines(self) -> RunConfig:
        for name in self.baselines:
            if name in self.experts:
                raise ValueError(f"experts: {name!r} is a baseline, too; choose another name")
            if self.baselines.count(name) > 1:
                raise ValueError(f"baselines: {name!r} is given twice")
            with as_value_error("baselines: "):
                wanted = signature_of(load_method(name), is_ours=True).num_experts
                check_grid(name, len(self.experts))
            if wanted and wanted != len(self.experts):
                raise ValueError(
                    f"baselines: {name} merges {wanted} experts; the config has {len(self.experts)}"
                )
        return self

    @model_validator(mode="after")
    def check_arms(self) -> RunConfig:
        for name, settings in self.arms.items():
            check_arm(name, settings, self.main, len(self.experts))
        if self.preferences.elites == 0 and any(arm.writer == "elites" for arm in self.all_arms):
            raise ValueError("preferences.elites: 0 leave an arm with `writer: elites` no programs")
        return self

    @property
    def main(self) -> Arm:
        """The run's own arm."""
        return Arm(MAIN, "model", self.learn, False, self.temperature, self.seed)

    @property
    def all_arms(self) -> list[Arm]:
        """The run's own arm and its controls, in the order given."""
        return [self.main, *(arm_of(name, s, self.main) for name, s in self.arms.items())]

    @property
    def expert_places(self) -> dict[str, str]:
        """Folders or hub ids of the experts, by name."""
        return {name: expert.model for name, expert in self.experts.items()}

    @property
    def generator_place(self) -> str:
        """Folder or hub id of the model that writes programs: the base unless another is given."""
        return self.generator or self.base


@checked()
def load_config(path: str | Path) -> RunConfig:
    """Read and check a config. UsageError names the file and the wrong key."""
    path = Path(path)
    try:
        data = load_yaml(read_text(path), path)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {in_yaml(error)}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: {'is empty' if data is None else 'not a mapping of settings'}")
    return config_of(data, str(path), path.parent)


def config_of(data: Mapping[str, Any], name: str, folder: Path) -> RunConfig:
    """Check settings whose paths are relative to `folder`. UsageError says what `name` has wrong."""
    try:
        config = RunConfig(**{str(key): value for key, value in data.items()})
    except ValidationError as error:
        raise UsageError(f"{name}: {fault_of(error)}") from None
    return resolved(config, folder)


def completed(found: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an older run, with the defaults of settings that it did not know.

    UsageError where it has one that this version does not know, and did not know earlier.
    """
    known = {str(key): value for key, value in found.items()}
    for section, key in (name.split(".") for name in RENAMED):
        if isinstance(known.get(section), dict):
            known[section] = {k: v for k, v in known[section].items() if k != key}
    try:
        return RunConfig(**known).model_dump(mode="json")
    except ValidationError as error:
        raise UsageError(f"config.yaml of the run: {fault_of(error)}") from None


def fault_of(error: ValidationError) -> str:
    """The first fault in one line, with the known key or word that is most like an unknown one."""
    found = error.errors()
    # A misspelt key of those that must be there is both unknown and missing.
    unknown = (one for one in found if one["type"] == "extra_forbidden")
    first = next(unknown, found[0]) if found[0]["type"] == "missing" else found[0]
    place = ".".join(str(word) for word in first["loc"] if word != "[key]")
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        if said := RENAMED.get(place):
            return f"unknown key {place!r}: {said}"
        return f"unknown key {place!r}{did_you_mean(key, known_keys(first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"lacks the key {place!r}"
    words = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        words = "is empty"
    elif (kind := first["type"]) in WANTED or kind == "literal_error":
        wanted = WANTED.get(kind) or words.removeprefix("Input should be ")
        if place.endswith(UNION):
            place, wanted = place.removesuffix(UNION), f"{wanted} or a whole number from 1"
        words = f"write {wanted}, not {in_yaml(repr(first['input']))}"
        words += did_you_mean(str(first["input"]), re.findall("'([^']+)'", wanted))
    return f"{place}: {words}" if place else words


def known_keys(place: tuple[int | str, ...]) -> list[str]:
    """Keys of the section at this place of the config."""
    section: type[BaseModel] = RunConfig
    left = list(place)
    while left:
        kind = section.model_fields[str(left.pop(0))].annotation
        if get_origin(kind) is dict:  # the next word is a key of it
            left.pop(0)
            kind = get_args(get_args(kind)[1])[0]
        kinds = (kind, *get_args(kind))  # it may be X | None
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return list(section.model_fields)


def resolved(config: RunConfig, folder: Path) -> RunConfig:
    """The config with absolute paths in place of those relative to its folder."""

    def place(text: str) -> str:
        path = (folder / at_home(text)).resolve()
        looks_local = text.startswith((".", "/", "~")) or path.exists()
        return str(path) if text and looks_local else text

    task = config.task
    if task.startswith("jsonl:"):
        task = f"jsonl:{(folder / at_home(task.removeprefix('jsonl:'))).resolve()}"
    generation = config.generation
    if generation.prompt != "default":
        path = (folder / at_home(generation.prompt)).resolve()
        generation = generation.model_copy(update={"prompt": str(path)})
    return config.model_copy(
        update={
            "base": place(config.base),
            "experts": {
                name: expert.model_copy(update={"model": place(expert.model)})
                for name, expert in config.experts.items()
            },
            "generator": place(config.generator),
            "task": task,
            "generation": generation,
        }
    )
