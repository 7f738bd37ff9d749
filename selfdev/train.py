"""Starts the training stage in its own process, follows its progress, reads its result."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..engine.errors import EngineError, MissingExtra, UsageError
from ..engine.sandbox.bound import bound_words
from ..engine.weights.machine import devices_here, seeing
from ..engine.weights.small_file import end_of
from ..engine.weights.training import ranks_of

MODULE = "selfdev_engine.selfdev.train_process"
EXTRA_MODULES = ("trl", "peft", "datasets")
# Where this begins a line, the launcher of several processes says that one of them failed.
LAUNCHER = "torch/distributed/elastic"
LOG_LINES = 12
# By these variables a launcher tells a process which of several it is. torch's own takes PET_X for option X.
LAUNCHERS = re.compile(
    r"((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|"
    r"(PET|TORCHELASTIC|ACCELERATE|FSDP|PMI|OMPI_COMM_WORLD|MV2_COMM_WORLD)_.*"
)


@dataclass(frozen=True)
class TrainSettings:
    """Everything a stage depends on. Equal settings give equal weights on one machine."""

    generator: str  # folder of the first generator, whose weights no stage changes
    adapter: str  # folder of the adapter that the stage goes on from; empty for a new one
    out: str  # folder of the new generator: the first one with the adapter folded in
    adapter_out: str  # folder of the new adapter, in float32, and of the stage's log
    prompt: str
    pairs: Sequence[tuple[str, str]]  # (chosen, rejected) completions
    best: Sequence[str]  # completions of the holdout's best quarter; empty if nothing is compared
    worst: Sequence[str]
    num_chosen: int
    learn: str  # "dpo" or "sft"
    dpo: dict[str, float]
    seed: int


class TrainingFailed(EngineError):
    """The process of the stage ended without a result."""


LOG = "training.json"
# Steps between two losses that a stage logs.
LOG_EVERY = 5


def log_of(adapter: Path) -> dict[str, Any]:
    """The log of the stage that left this adapter; empty where it left none."""
    path = adapter / LOG
    return json.loads(path.read_text()) if path.is_file() else {}


def check_extra() -> None:
    """Raise MissingExtra now if a package for training is absent, not hours later."""
    for module in EXTRA_MODULES:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(module, "train")


def train(
    settings: TrainSettings,
    progress: Callable[[int, int], None],
    num_ranks: int | None = None,
    stage: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Run the stage and return its log: steps, losses, margins in nats.

    The log lies beside the adapter, too, so that a kill after the stage loses nothing. The stage runs in
    `num_ranks` processes with a card each: as many as share a batch evenly, or one without a card. `stage`
    is told which part begins. Raises TrainingFailed; UsageError for what the user can mend, such as a full
    disk.
    """
    check_extra()
    cards = devices_here()
    num_ranks = num_ranks or ranks_of(int(settings.dpo["batch_size"]), len(cards))
    out = Path(settings.out)
    for place in (out, Path(settings.adapter_out)):
        place.parent.mkdir(parents=True, exist_ok=True)
    log = out.with_suffix(".log")
    with tempfile.TemporaryDirectory(prefix="selfdev-train-") as scratch, log.open("w") as sink:
        request = Path(scratch) / "settings.json"
        request.write_text(json.dumps({**asdict(settings), "ranks": num_ranks}))
        process = subprocess.Popen(
            launch_words(request, num_ranks),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            start_new_session=True,
            env={**inherited(os.environ), **environment(scratch, cards[:num_ranks])},
        )
        try:
            result, fault = follow(process, progress, stage)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if fault:
        raise UsageError(
            f"training failed: {fault}; nothing that was scored is lost, and --resume trains again "
            f"(all that training said is in {log})"
        )
    if result is None and was_killed(process.returncode, log):
        raise UsageError(
            "training failed: its process was ended from outside, as the system does where memory runs "
            "out: close other programs or lower dpo.batch_size; nothing that was scored is lost, and "
            "--resume trains again"
        )
    if result is None:
        raise TrainingFailed(
            f"the training process ended without a result:\n{last_words(log)}\nAll it said is in {log}"
        )
    log.unlink()
    return result


def launch_words(request: Path, num_ranks: int) -> list[str]:
    """Return the command of a stage.

    Several processes are started by torch's own launcher: accelerate's would read a file of settings
    in the user's home. They meet at this machine's own address, as its name may be known to no resolver.
    """
    if num_ranks == 1:
        return bound_words(os.getpid(), MODULE, str(request))
    here = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={num_ranks}"]
    return bound_words(os.getpid(), "torch.distributed.run", *here, "-m", MODULE, str(request))


def inherited(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a stage takes over: not those of a launcher that started this process.

    A batch system may set them for every job; the stage would wait for the others for ever.
    """
    return {name: value for name, value in variables.items() if not LAUNCHERS.fullmatch(name)}


def environment(scratch: str, cards: Sequence[str]) -> dict[str, str]:
    """Return the variables of a stage. It sees its own cards only: TRL refuses more without a launcher."""
    return {
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": scratch,
        "HF_DATASETS_CACHE": scratch,
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # No module of the present folder is imported, in no process.
        "PYTHONSAFEPATH": "1",
        **(seeing(cards) if cards else {}),
    }


def was_killed(code: int, log: Path) -> bool:
    """Tell whether SIGKILL ended a stage that exited with this code; of several ranks the launcher says so."""
    return code == -signal.SIGKILL or f"Signal {signal.SIGKILL:d} (SIGKILL)" in end_of(log)


def last_words(log: Path) -> str:
    """Return the last lines that a stage wrote before its launcher told of the failure."""
    lines = end_of(log).splitlines()
    end = next((i for i, line in enumerate(lines) if LAUNCHER in line.split("]")[0]), len(lines))
    return "\n".join(lines[max(0, end - LOG_LINES) : end])


def follow(
    process: subprocess.Popen[str],
    progress: Callable[[int, int], None],
    stage: Callable[[str], object] | None = None,
) -> tuple[dict[str, Any] | None, str]:
    """Read the lines of JSON that the process prints; its result, or None if it failed, and its fault.

    {"step", "total"} goes to `progress`, {"stage"}, the part that begins, to `stage`; {"result"} or {"fault"},
    what the user can mend, is the last line.
    """
    assert process.stdout is not None
    result, fault = None, ""
    for line in process.stdout:
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        if stage and "stage" in message:
            stage(message["stage"])
        if "step" in message:
            progress(message["step"], message["total"])
        result = message.get("result", result)
        fault = message.get("fault", fault)
    return (result if process.wait() == 0 else None), fault
