"""Knows where the generators and adapters of a run are, and which one writes an iteration."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UsageError

# What peft writes beside the weights of an adapter.
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Writers:
    """The generators of the run in `folder`. `first` is the given one, which no training changes.

    generators/N is what training left for iteration N, adapters/N its adapter and log. Without a
    training the last one goes on.
    """

    folder: Path
    first: Path

    def trained(self, iteration: int) -> Path:
        return self.folder / "generators" / str(iteration)

    def adapter(self, iteration: int) -> Path:
        return self.folder / "adapters" / str(iteration)

    def of(self, iteration: int) -> Path:
        """Folder of the generator of an iteration: the last trained one, or the first."""
        trained = (self.trained(i) for i in range(iteration, 1, -1))
        return next((folder for folder in trained if folder.exists()), self.first)

    def adapter_of(self, iteration: int) -> Path | None:
        """The adapter with which an iteration's programs are written, if one was trained."""
        writer = self.of(iteration)
        return None if writer == self.first else self.adapter(int(writer.name))

    def check_trainable(self, iteration: int) -> None:
        """UsageError where the generator of an iteration was trained, but its adapter is not there."""
        adapter = self.adapter_of(iteration)
        if adapter and not (adapter / ADAPTER_CONFIG).is_file():
            raise UsageError(
                f"{self.folder}: has {self.of(iteration)}, but no adapter in {adapter}: the run is of an "
                "older version, which kept none, so training cannot go on; what was scored can be "
                "reported and exported; begin a new run in another folder"
            )

    def forget_before(self, iteration: int) -> None:
        """Delete the generators before the one of this iteration; adapters and logs stay."""
        now = self.of(iteration)
        for old in map(self.trained, range(2, iteration)):
            if old != now:
                shutil.rmtree(old, ignore_errors=True)
