"""Checks what a run is given before anything is started. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..engine.errors import MissingExtra, UsageError
from ..engine.output.folder import real
from ..engine.records.database import is_begun
from ..engine.records.inputs import Input
from ..engine.records.store import Store
from ..engine.resident.alike import are_alike
from ..engine.sandbox.layers import check_layers
from ..engine.screening.folder import DATABASE, Existing, check_place, holds_run
from ..engine.screening.identity import check_existing, inputs_of, model_input
from ..engine.screening.inputs import (
    check_inputs,
    check_model,
    default_workers,
    models_are_here,
    open_selection,
    open_task,
    places_read,
)
from ..engine.screening.place import asides, check_inputs_apart
from ..engine.screening.settings import ScreenSettings
from ..engine.weights.checkpoint import Checkpoint
from ..engine.weights.contents import CHAT_COMPANIONS, COMPANIONS, text_digest
from ..engine.weights.locate import here
from ..engine.weights.machine import devices_here
from ..engine.workers.cluster import connect
from .config import RunConfig, completed
from .mirror import check_report_to
from .prompts import prompt_of
from .sizes import parse_bytes
from .train import check_extra
from .writers import Writers


@dataclass(frozen=True)
class RunRequest:
    """A run whose input was checked. `run` does it; `run --plan` only counts what it needs."""

    config: RunConfig
    folder: Path
    screening: ScreenSettings
    existing: Existing
    report_to: str | None = None


def prepare_run(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    memory_bytes: int | None = None,
    gpu_memory_bytes: int | None = None,
    data: Path | None = None,
    unsafe_sandbox: bool = False,
    accept_engine: bool = False,
    also_read: Mapping[str, Path] | None = None,
    offline: bool = False,
    elsewhere: bool = False,
    report_to: str | None = None,
) -> RunRequest:
    """Check all that can be known before an engine is up. UsageError for what is wrong.

    `also_read` are inputs that the config does not name; a key says what the input is. With `offline`
    nothing is downloaded, and what only a download would show is not checked. With `elsewhere` the run
    is for another machine. `report_to` is a library that takes the figures (mirror.py).
    """
    check_report_to(report_to)
    if memory_bytes is None:
        memory_bytes = parse_bytes(config.engine.memory, "engine.memory")
    if gpu_memory_bytes is None:
        gpu_memory_bytes = parse_bytes(config.engine.gpu_memory, "engine.gpu_memory")
    bounds = memory_bytes, gpu_memory_bytes
    screening = screen_settings(config, bounds, data, unsafe_sandbox, accept_engine)
    existing = existing_of(folder, resume, overwrite)
    check_place(folder, config.model_dump(mode="json"), existing, completed)
    check_run_inputs(config, screening, offline, elsewhere)
    places = [config.base, *config.expert_places.values(), config.generator_place]
    if not offline or all(map(here, places)):
        read = {**places_read(screening), **own_places(config), **(also_read or {})}
        check_inputs_apart(folder, read)
        if existing == "resume":
            check_existing_run(config, screening, folder)
    check_layers(unsafe_sandbox)
    return RunRequest(config, folder, screening, existing, report_to)


def existing_of(folder: Path, resume: bool, overwrite: bool) -> Existing:
    """What to do with a run that is there already. UsageError where the options cannot be meant."""
    if resume and overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: give one of them")
    if resume and not holds_run(real(folder)) and not asides(real(folder)):
        raise UsageError(f"--resume: {folder} holds no run; leave --resume out to begin one")
    return "resume" if resume else "replace" if overwrite else "refuse"


def check_run_inputs(
    config: RunConfig, settings: ScreenSettings, offline: bool = False, elsewhere: bool = False
) -> None:
    """UsageError for what extras, engine, models, task, backend, memory or prompt are wrong."""
    if any(arm.learns for arm in config.all_arms):
        check_extra()
        if not (offline or elsewhere):
            check_cards_to_train_on(config)
    if any(arm.writer == "cma_es" for arm in config.all_arms) and find_spec("cma") is None:
        raise MissingExtra("cma", "arms")
    are_here = not offline or models_are_here(settings)
    check_inputs(settings, writer_of(config) if are_here else None, offline, elsewhere)
    if not offline or here(config.generator_place):
        generator = Checkpoint.open(config.generator_place)
        context = check_model(generator, settings)
        prompt_of(config, generator.folder)
        check_answers_fit(config, context)
    elif config.generation.prompt != "default":
        prompt_of(config, Path(config.generator_place))


def check_answers_fit(config: RunConfig, context: int) -> None:
    """Raise UsageError where a program may be as long as all that the generator reads: its prompt would be cut."""
    most = config.generation.max_new_tokens
    if most >= context:
        raise UsageError(
            f"generation.max_new_tokens: {most} leave no room for the prompt in the context of the "
            f"generator ({context} tokens); set fewer"
        )


def check_cards_to_train_on(config: RunConfig) -> None:
    """Raise UsageError where a cluster has GPUs and the driver's machine, which trains, has none.

    A stage would take weeks on a processor, and nothing would say so.
    """
    address = config.cluster.address
    trains = config.iterations > 1
    if address and trains and connect(address).slots.gpus and not devices_here():
        raise UsageError(
            f"--address {address}: training runs on the driver's machine, which has no GPU that this "
            "process sees; start the command on a node with GPUs, or set learn: none"
        )


def writer_of(config: RunConfig) -> Checkpoint | None:
    """Return the generator, if it needs an engine of its own; None where the base's can hold it, too.

    One that is not downloaded yet counts as the base.
    """
    base = Checkpoint.open(config.base)
    if not here(config.generator_place):
        return base
    generator = Checkpoint.open(config.generator_place)
    return None if are_alike(base, generator) else generator


def run_inputs(config: RunConfig, settings: ScreenSettings) -> list[Input]:
    """What a run belongs to, as it is now: that of its screening, the generator and its prompt."""
    generator = Checkpoint.open(config.generator_place)
    prompt = prompt_of(config, generator.folder)
    return [
        *inputs_of(settings, open_selection(settings), open_task(settings)),
        model_input("generator", generator, (*COMPANIONS, *CHAT_COMPANIONS)),
        Input("prompt", config.generation.prompt, parts={"text": text_digest(prompt.encode())}),
    ]


def check_existing_run(config: RunConfig, settings: ScreenSettings, run: Path) -> None:
    """UsageError where the run that is there belongs to something else."""
    if is_begun(run / DATABASE):
        check_existing(run_inputs(config, settings), run, settings.accept_engine)
        check_adapter(config, run)


def check_adapter(config: RunConfig, run: Path) -> None:
    """UsageError where a run has iterations to train after, and lacks the adapter to go on from."""
    with Store.read(run / DATABASE) as store:
        turns = store.iterations()
    left = [i for i in range(1, config.iterations) if not turns.get(i, {}).get("done")]
    if config.learn != "none" and left:
        Writers(run, run).check_trainable(left[0])


def screen_settings(
    config: RunConfig,
    bounds: tuple[int | None, int | None],
    data: Path | None,
    unsafe: bool,
    accept_engine: bool = False,
) -> ScreenSettings:
    """The settings of the screening inside a run. `bounds` are bytes of the host, and of each GPU."""
    wanted, workers = config.engine.max_model_len, config.cluster.workers
    address = config.cluster.address
    return ScreenSettings(
        base=config.base,
        experts=config.expert_places,
        task=config.task,
        include=config.include,
        max_model_len=None if wanted == "auto" else wanted,
        seed=config.seed,
        data=str(data) if data else None,
        shots=config.shots,
        memory_bytes=bounds[0],
        gpu_memory_bytes=bounds[1],
        unsafe_sandbox=unsafe,
        trace_timeout_s=config.trace.timeout_s,
        eager_tier=config.trace.eager_tier,
        replay_limit_s=config.trace.replay_limit_s,
        accept_engine=accept_engine,
        workers=default_workers(address) if workers == "auto" else workers,
        address=address,
    )


def own_places(config: RunConfig) -> dict[str, Path]:
    """What a run reads besides a screening's inputs, by what it is."""
    places = {"the generator": Checkpoint.open(config.generator_place).folder}
    if config.generation.prompt != "default":
        places["the prompt"] = Path(config.generation.prompt)
    return places
