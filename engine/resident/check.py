"""Checks a merged folder for `merge --check`: transformers loads it and answers one question."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError, WorkerLost
from ..weights.checkpoint import Checkpoint
from .client import Client, check_engine
from .messages import EngineSettings, Sampling
from .runnable import check_generates, check_tokenizer

QUESTION = "What is 1 + 1?"
NEW_TOKENS = 8


@dataclass(frozen=True)
class Check:
    """What was asked, what answered, and its answer."""

    engine: str
    question: str
    answer: str

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def check_askable(base: Checkpoint) -> None:
    """Raise UsageError where `check_folder` could not ask a model that is made of this base."""
    check_engine("transformers")
    check_tokenizer(base.folder)
    check_generates(base)


def check_folder(folder: Path, weights_fingerprint: str, log: Path) -> Check:
    """Load the folder in transformers and ask it one question.

    UsageError where it does not load, or holds other weights than were written; MissingExtra without
    transformers. The worker's output goes to `log`.
    """
    try:
        with Client.start(EngineSettings("transformers"), log) as worker:
            live = worker.open_model("target", str(folder))
            (answer,) = worker.generate("target", [QUESTION], Sampling(NEW_TOKENS))
            engine = worker.engine
    except WorkerLost as error:
        raise UsageError(f"--check: loading the merged model ended its process: {error}") from None
    except UsageError as error:
        why = str(error).replace(f"{folder}/", "").replace(str(folder), "its folder")
        raise UsageError(f"--check: the merged model does not load: {why}") from None
    if live != weights_fingerprint:
        raise UsageError(
            "--check: the disk gives back other weights than were written; merge again"
        )
    return Check(engine, QUESTION, answer.text)
