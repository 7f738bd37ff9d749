"""The resident engine of a screening: started when first needed, stopped for training, started again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from ..errors import EngineGone
from ..resident.ask import greedy
from ..resident.client import Client, choose_engine
from ..resident.messages import EngineSettings, Times
from ..resident.threads import MOST_PROMPTS
from ..tasks.task import Task
from ..weights.bank import Bank
from ..weights.budget import cache_share
from .settings import ScreenSettings

TARGET = "target"  # the key of the model whose weights are swapped
TRIAL_TOKENS, TRIAL_LETTERS = 8, 200  # of an answer and of a prompt (its end), to choose threads by


@dataclass
class Usage:
    """The engine's use of time while candidates were screened; shares of the wall clock."""

    engine: str = ""
    threads: int | None = None  # known once the engine was up
    wall_s: float = 0.0
    busy_s: float = 0.0
    swap_s: float = 0.0

    def count(self, spent: Times) -> None:
        self.busy_s += spent.busy_s
        self.swap_s += spent.swap_s

    def to_json(self) -> dict[str, object]:
        busy = self.busy_s / self.wall_s if self.wall_s else None
        swap = self.swap_s / self.busy_s if self.busy_s else None
        shares = {"busy_share": busy, "swap_share": swap}
        return {"name": self.engine, "threads": self.threads, **shares}


class EngineSession:
    """One worker with the base as its target model, and with the bank that is merged into it."""

    def __init__(
        self, settings: ScreenSettings, bank: Bank, task: Task, log: Path, threads: int | None
    ) -> None:
        self.settings, self.bank, self.task, self._log = settings, bank, task, log
        self.usage = Usage(threads=threads)
        # Seconds by number of threads, where it was chosen by this process.
        self.trials: dict[str, float] = {}
        # What kernels are compiled for; None without a GPU, and before the bank is open.
        self.arch: int | None = None
        self._client: Client | None = None
        self._is_open = False
        self._others: set[str] = set()
        self._opening = Lock()

    def start(self) -> None:
        """Begin the engine's imports; other work goes on meanwhile. Never from a thread of a pool:
        the kernel ends the engine's process with the thread that started it."""
        if self._client is None:
            settings = EngineSettings(
                engine=choose_engine(self.settings.engine),
                memory_bytes=cache_share(self.settings.memory_bytes),
                max_model_len=self.settings.max_model_len,
                seed=self.settings.seed,
            )
            self._client = Client.start(settings, self._log)
            self._is_open = False

    @property
    def client(self) -> Client:
        """The worker, with its model and bank open."""
        self.start()
        assert self._client is not None
        if not self._is_open:
            self._open(self._client)
        return self._client

    def running(self) -> Client:
        """The worker, from a thread that must not start one. EngineGone where there is none."""
        with self._opening:
            if self._client is None:
                raise EngineGone("no engine is up")
            return self.client

    def _open(self, client: Client) -> None:
        selection = self.bank.selection
        base = str(selection.base.folder)
        client.open_model(TARGET, base)
        places = {name: str(expert.folder) for name, expert in selection.experts.items()}
        self.arch = client.open_bank(
            base,
            places,
            selection.include,
            self.settings.backend,
            memory_bytes=self.bank.memory_bytes,
        )
        self._set_threads(client)
        self._is_open, self._others = True, set()
        self.usage.engine = client.engine

    def _set_threads(self, client: Client) -> None:
        """As many as before; at a run's first start, those that are found the fastest."""
        if self.usage.threads:
            return client.set_threads(self.usage.threads)
        sampling = greedy(self.task)
        short = replace(sampling, max_new_tokens=min(TRIAL_TOKENS, sampling.max_new_tokens))
        ends = [question.prompt[-TRIAL_LETTERS:] for question in self.task.split("dev")]
        found = client.choose_threads(ends[:MOST_PROMPTS], short)
        self.usage.threads, self.trials = found["threads"], found["seconds"]

    def open_model(self, key: str, folder: Path) -> bool:
        """Open another model in the same process; False if the engine has it already."""
        client = self.client
        if key in self._others:
            return False
        client.open_model(key, str(folder))
        self._others.add(key)
        return True

    def lost(self) -> None:
        """The worker ended by itself."""
        self._client = None

    def stop(self) -> None:
        if self._client is not None:
            self._client.stop()
            self._client = None
