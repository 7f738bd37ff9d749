"""The resident engine of a screening.

It is started when first needed, stopped for training, and started again.
"""

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

# The key of the model whose weights are swapped.
TARGET = "target"
# To choose the number of threads, answers of this many tokens are timed, to prompts that are cut to
# this many last characters.
TRIAL_TOKENS, TRIAL_LETTERS = 8, 200


@dataclass
class Usage:
    """What the engine did while candidates were screened.

    `threads` is None until the engine is up. `busy_s` counts calls, `swap_s` the swaps among them.
    """

    engine: str = ""
    decoding: str = ""
    threads: int | None = None
    wall_s: float = 0.0
    busy_s: float = 0.0
    swap_s: float = 0.0

    def count(self, spent: Times) -> None:
        """Add the seconds of one candidate."""
        self.busy_s += spent.busy_s
        self.swap_s += spent.swap_s

    def to_json(self) -> dict[str, object]:
        """Return the `engine` object of `screen --json`.

        `busy_share` is a share of the wall clock, `swap_share` of the busy time; None before any
        work.
        """
        busy = self.busy_s / self.wall_s if self.wall_s else None
        swap = self.swap_s / self.busy_s if self.busy_s else None
        shares = {"busy_share": busy, "swap_share": swap}
        return {"name": self.engine, "threads": self.threads, **shares}


class EngineSession:
    """One worker with the base as its target model, and the bank that is merged into it."""

    def __init__(
        self, settings: ScreenSettings, bank: Bank, task: Task, log: Path, threads: int | None
    ) -> None:
        self.settings, self.bank, self.task, self._log = settings, bank, task, log
        self.usage = Usage(threads=threads)
        # Median seconds by number of threads, where this process chose the number.
        self.trials: dict[str, float] = {}
        # What kernels are compiled for (90: sm_90); None without a GPU or before the bank is open.
        self.arch: int | None = None
        self._client: Client | None = None
        self._is_open = False
        self._others: set[str] = set()
        self._opening = Lock()

    def start(self) -> None:
        """Start the worker, which imports its engine while other work goes on.

        Never call this from a thread of a pool: the kernel ends the engine's process with the
        thread that started it. MissingExtra where the engine is not installed.
        """
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
        """The worker, with its model and bank open; started where it is not up."""
        self.start()
        assert self._client is not None
        if not self._is_open:
            self._open(self._client)
        return self._client

    def running(self) -> Client:
        """Return the worker to a thread that must not start one. EngineGone where there is none."""
        with self._opening:
            if self._client is None:
                raise EngineGone("no engine is up")
            return self.client

    def _open(self, client: Client) -> None:
        """Open the base and the bank in the worker, and set its threads."""
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
        self.usage.engine, self.usage.decoding = client.engine, client.decoding

    def _set_threads(self, client: Client) -> None:
        """Set the threads used before; at a run's first start, try which number is fastest."""
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
        """Note that the worker ended by itself."""
        self._client = None

    def stop(self) -> None:
        """End the worker, if one is up."""
        if self._client is not None:
            self._client.stop()
            self._client = None
