"""One run of the loop, as the command `run` and `sd.run` do it: checked first, then carried out."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.given import checked, given_path, in_python, wrong
from .config import RunConfig, config_of, load_config
from .inputs import RunRequest, prepare_run
from .runs import RUNS
from .sizes import bytes_of
from .watching import Watcher, given_watcher, watched

if TYPE_CHECKING:
    from .open_run import Run


def given_config(name: str, value: object) -> object:
    """Return settings, or the path of their file."""
    if isinstance(value, Mapping | RunConfig):
        return value
    if not isinstance(value, str | PathLike):
        raise wrong(name, "a path, as str or Path, or a dict of settings, or a RunConfig", value)
    return given_path(name, value)


@in_python()
@checked(config=given_config, progress=given_watcher)
def run(
    config: str | Path | Mapping[str, Any] | RunConfig,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    address: str | None = None,
    seed: int | None = None,
    data: str | Path | None = None,
    memory: str | int | None = None,
    gpu_memory: str | int | None = None,
    accept_engine: bool = False,
    unsafe_sandbox: bool = False,
    report_to: str | None = None,
    progress: Watcher | bool = False,
) -> Run:
    """Run the whole loop, keep all in the folder `run`, and return what it holds.

    `config` is a YAML file, the same settings as a mapping (its paths are relative to the current folder),
    or a RunConfig. The folder is runs/<the file's name> unless another is given; runs/run where there is no
    file. `report_to` is "tensorboard" or "wandb". `progress` is True for a bar on stderr. UsageError for
    what is wrong in the config.
    """
    from .open_run import open_run

    request = request_of(
        config,
        run=run,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        address=address,
        seed=seed,
        data=None if data is None else Path(data),
        memory_bytes=bytes_of(memory),
        gpu_memory_bytes=bytes_of(gpu_memory, "--gpu-memory"),
        accept_engine=accept_engine,
        unsafe_sandbox=unsafe_sandbox,
        report_to=report_to,
    )
    with watched(progress) as bar:
        run_prepared(request, bar)
    return open_run(request.folder)


def request_of(
    config: str | Path | Mapping[str, Any] | RunConfig,
    *,
    run: str | Path | None = None,
    workers: int | None = None,
    address: str | None = None,
    seed: int | None = None,
    **how: Any,
) -> RunRequest:
    """Check the config and all that can be known before torch is loaded. UsageError for what is wrong.

    `workers`, `address` and `seed` take the place of the config's where they are given; `how` is what
    prepare_run takes besides.
    """
    also_read: dict[str, Path] = {}
    name = "run"
    if isinstance(config, RunConfig):
        settings = config
    elif isinstance(config, Mapping):
        settings = config_of(config, "the config", Path())
    else:
        file = Path(config)
        settings, also_read, name = load_config(file), {"the config": file}, file.stem
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    given = {"workers": workers, "address": address}
    changed = {key: value for key, value in given.items() if value is not None}
    cluster = settings.cluster.model_copy(update=changed)
    settings = settings.model_copy(update={"cluster": cluster})
    folder = RUNS / name if run is None else Path(run)
    return prepare_run(settings, folder, also_read=also_read, **how)


def run_prepared(request: RunRequest, bar: Watcher) -> dict[str, Any]:
    """Carry a run out, and return the object that `run --json` prints."""
    # This loads torch.
    from .loop import run_loop

    return run_loop(request, bar)
