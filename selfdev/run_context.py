"""What all arms of a run share: its config, store, engine and first generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.records.candidate import Candidate
from ..engine.records.store import Store
from ..engine.screen import screen_stage
from ..engine.screening.nodes import place_of
from ..engine.screening.pipeline import Screener
from ..engine.screening.session import TARGET
from ..engine.weights.checkpoint import Checkpoint
from .config import RunConfig
from .generate import GENERATOR
from .inputs import writer_of
from .prompts import in_chat, prompt_of
from .watching import Watcher


@dataclass(frozen=True)
class RunContext:
    """A run that is going on. `generator` is the folder of the first generator.

    Workers find it at `generator_place`, and hold it under `writer_key`.
    """

    config: RunConfig
    folder: Path
    store: Store
    screener: Screener
    progress: Watcher
    generator: Path
    generator_place: str
    writer_key: str

    @staticmethod
    def of(
        config: RunConfig, folder: Path, store: Store, screener: Screener, progress: Watcher
    ) -> RunContext:
        generator = Checkpoint.open(config.generator_place).folder
        place = place_of(config.generator_place) if config.cluster.address else str(generator)
        key = GENERATOR if writer_of(config) else TARGET
        return RunContext(config, folder, store, screener, progress, generator, place, key)

    def prompt(self, elites: Sequence[str] = ()) -> str:
        """The prompt of the run, which shows these programs where it has a place for them."""
        prompt = prompt_of(self.config, self.generator, elites)
        is_chat = self.config.generation.chat_template == "auto"
        return in_chat(prompt, self.generator) if is_chat else prompt

    def screen(self, label: str, candidates: Sequence[Candidate]) -> None:
        """Decide those of these candidates that are not yet decided."""
        screen_stage(self.screener, label, [c.id for c in candidates], self.progress)
