"""Checks what a run is given before anything is started. Nothing here loads torch."""

from __future__ import annotations

from pathlib import Path

from ..engine.records.inputs import Input
from ..engine.resident.client import choose_engine
from ..engine.resident.runnable import check_runnable
from ..engine.screening.folder import DATABASE
from ..engine.screening.identity import check_existing, inputs_of, model_input
from ..engine.screening.inputs import check_inputs, open_selection, open_task
from ..engine.screening.settings import ScreenSettings
from ..engine.weights.checkpoint import Checkpoint
from ..engine.weights.contents import CHAT_COMPANIONS, COMPANIONS, text_digest
from .config import RunConfig
from .prompts import load_prompt
from .train import check_extra


def check_run_inputs(config: RunConfig, settings: ScreenSettings) -> None:
    """UsageError for what extras, models, task, backend or prompt are wrong."""
    check_extra()
    check_inputs(settings)
    generator = Checkpoint.open(config.generator_place)
    check_runnable(generator, choose_engine(settings.engine), settings.max_model_len)
    load_prompt(config.generation.prompt, generator.folder)


def run_inputs(config: RunConfig, settings: ScreenSettings) -> list[Input]:
    """What a run belongs to, as it is now: that of its screening, the generator and its prompt."""
    generator = Checkpoint.open(config.generator_place)
    prompt = load_prompt(config.generation.prompt, generator.folder)
    return [
        *inputs_of(settings, open_selection(settings), open_task(settings)),
        model_input("generator", generator, (*COMPANIONS, *CHAT_COMPANIONS)),
        Input("prompt", config.generation.prompt, parts={"text": text_digest(prompt.encode())}),
    ]


def check_existing_run(config: RunConfig, settings: ScreenSettings, run: Path) -> None:
    """UsageError where the run that is there belongs to something else."""
    if (run / DATABASE).is_file():
        check_existing(run_inputs(config, settings), run, settings.accept_engine)


def screen_settings(
    config: RunConfig,
    memory_bytes: int | None,
    data: Path | None,
    unsafe: bool,
    accept_engine: bool = False,
) -> ScreenSettings:
    """The settings of the screening inside a run."""
    wanted = config.engine.max_model_len
    return ScreenSettings(
        base=config.base,
        experts=dict(config.experts),
        task=config.task,
        include=config.include,
        max_model_len=None if wanted == "auto" else wanted,
        seed=config.seed,
        data=str(data) if data else None,
        shots=config.shots,
        memory_bytes=memory_bytes,
        unsafe_sandbox=unsafe,
        trace_timeout_s=config.trace.timeout_s,
        eager_tier=config.trace.eager_tier,
        replay_limit_s=config.trace.replay_limit_s,
        accept_engine=accept_engine,
    )


def own_places(config: RunConfig) -> dict[str, Path]:
    """What a run reads besides a screening's inputs, by what it is."""
    places = {"the generator": Checkpoint.open(config.generator_place).folder}
    if config.generation.prompt != "default":
        places["the prompt"] = Path(config.generation.prompt)
    return places
