"""Checks what a run is given before anything is started. Nothing here loads torch."""

from __future__ import annotations

from pathlib import Path

from ..engine.screening.inputs import check_inputs
from ..engine.screening.settings import ScreenSettings
from ..engine.weights.checkpoint import Checkpoint
from .config import RunConfig
from .prompts import load_prompt
from .train import check_extra


def check_run_inputs(config: RunConfig, settings: ScreenSettings) -> None:
    """UsageError for what extras, models, task, backend or prompt are wrong."""
    check_extra()
    check_inputs(settings)
    load_prompt(config.generation.prompt, Checkpoint.open(config.generator_place).folder)


def screen_settings(
    config: RunConfig, memory_bytes: int | None, data: Path | None, unsafe: bool
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
    )


def own_places(config: RunConfig) -> dict[str, Path]:
    """What a run reads besides a screening's inputs, by what it is."""
    places = {"the generator": Checkpoint.open(config.generator_place).folder}
    if config.generation.prompt != "default":
        places["the prompt"] = Path(config.generation.prompt)
    return places
