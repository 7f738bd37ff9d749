"""The resident engines of a screening: a pool of workers, each with the base and the bank.

They are started when first needed, stopped for training, and started again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from ..plans.backends import open_backend
from ..resident.ask import greedy
from ..resident.client import Client, check_engine, choose_engine
from ..resident.holding import bank_to_share, on_gpu
from ..resident.messages import EngineSettings, Json, Times
from ..resident.threads import MOST_PROMPTS, threads_of_each
from ..tasks.task import Task
from ..weights.bank import Bank
from ..weights.budget import cache_share
from ..weights.capacity import Shares
from ..weights.machine import devices_here
from ..weights.shared import SharedBank
from ..workers.cluster import connect
from ..workers.job import Incident
from ..workers.pool import Pool
from .nodes import NodeCheck
from .settings import ScreenSettings

# The key of the model whose weights are swapped.
TARGET = "target"
# To choose the number of threads, answers of this many tokens are timed, to prompts that are cut to
# this many last characters.
TRIAL_TOKENS, TRIAL_LETTERS = 8, 200
# Keys of the store: how many threads a worker answers with, and what it reads and answers at once. The
# last bits of an answer may depend on these, so a run keeps those of its first score.
THREADS, LIMITS = "threads", "engine limits"
LIMITS_NOW = {
    name: getattr(EngineSettings, name) for name in ("max_num_seqs", "max_num_batched_tokens")
}
T = TypeVar("T")


@dataclass
class Usage:
    """What the engines did while candidates were screened.

    `threads` is None until an engine is up. `busy_s` counts calls, `swap_s` the swaps among them, over
    all workers.
    """

    num_workers: int = 1
    engine: str = ""
    decoding: str = ""
    threads: int | None = None
    wall_s: float = 0.0
    busy_s: float = 0.0
    swap_s: float = 0.0
    # When the screening began that goes on; `wall_s` has those that have ended.
    began: float | None = None

    @property
    def busy_share(self) -> float | None:
        """The share of the workers' wall clock in which they answered; None before any work."""
        wall = self.wall_s + (time.monotonic() - self.began if self.began else 0)
        return self.busy_s / wall / self.num_workers if wall else None

    def begin(self) -> None:
        """Note that a screening begins."""
        self.began = time.monotonic()

    def end(self) -> None:
        """Add the wall clock of the screening that has ended."""
        if self.began is not None:
            self.wall_s, self.began = self.wall_s + time.monotonic() - self.began, None

    def count(self, spent: Times) -> None:
        """Add the seconds of one candidate."""
        self.busy_s += spent.busy_s
        self.swap_s += spent.swap_s

    def to_json(self) -> dict[str, object]:
        """Return the `engine` object of `screen --json`.

        `swap_share` is a share of the busy time; None before any work.
        """
        swap = self.swap_s / self.busy_s if self.busy_s else None
        shares = {"busy_share": self.busy_share, "swap_share": swap}
        return {
            "name": self.engine,
            "workers": self.num_workers,
            "threads": self.threads,
            **shares,
        }


class EngineSession:
    """Workers with the base as their target model, and the bank that is merged into it.

    Each worker has `lanes` calls on the way. `kept` are settings of the store: what the answers of this
    run were made with before, in `THREADS` and `LIMITS`. `shares` says what a worker may take of its card.
    """

    def __init__(
        self,
        settings: ScreenSettings,
        bank: Bank,
        task: Task,
        log: Path,
        kept: Mapping[str, Any],
        lanes: int,
        shares: Shares | None,
    ) -> None:
        self.settings, self.bank, self.task, self._log = settings, bank, task, log
        self.usage = Usage(settings.workers, threads=kept.get(THREADS))
        self.limits: dict[str, int] = kept.get(LIMITS) or LIMITS_NOW
        # Median seconds by number of threads, where this process chose the number by trying.
        self.trials: dict[str, float] = {}
        # What kernels are compiled for (90: sm_90); None without a GPU or before the bank is open.
        self.arch: int | None = None
        self.devices, self.lanes, self.shares = devices_here(), lanes, shares
        self.start_client: Callable[..., Client] = Client.start
        self.cluster, self.nodes = None, None
        if settings.address:
            self.cluster, self.nodes = connect(settings.address), NodeCheck(settings)
            self.devices, self.start_client = [], self.cluster.start_client
            slots = self.cluster.slots
            self.usage.threads = self.usage.threads or slots.threads(settings.workers, os.environ)
        self._pool: Pool[Client] | None = None
        self._shared: SharedBank | None = None
        self._counting = Lock()

    def start(self) -> None:
        """Start the workers, which import their engine while other work goes on.

        MissingExtra where the engine is not installed.
        """
        if self._pool is None:
            check_engine(choose_engine(self.settings.engine))
            self._shared = bank_of_node(self.settings, self.bank, self.shares)
            self._pool = Pool(self._worker, self._open, self.settings.workers, self.lanes)

    def submit(self, name: str, run: Callable[[Client], T]) -> Future[T]:
        """Have some worker do this for `name`; see `Pool.submit`. Starts the workers if none is up."""
        self.start()
        assert self._pool is not None
        return self._pool.submit(name, run)

    def count(self, spent: Times) -> None:
        """Add the seconds of one candidate to the usage; any thread may call this."""
        with self._counting:
            self.usage.count(spent)

    def take_incidents(self) -> list[Incident]:
        """Return what went wrong in workers since this was asked last."""
        found = self._pool.incidents if self._pool else None
        return [found.popleft() for _ in range(len(found))] if found else []

    @property
    def doing(self) -> list[str]:
        """What each worker does now, in words; nothing before they were started."""
        return self._pool.doing if self._pool else []

    @property
    def workers(self) -> list[Client]:
        """The workers that are open now."""
        return self._pool.workers if self._pool else []

    def stop(self) -> None:
        """End the workers that are up, and cancel what they have not done."""
        if self._pool is not None:
            if self._shared:
                self._shared.give_up()
            self._pool.close()
            self._pool = None
            if self._shared:
                self._shared.close()
            if self.cluster:
                self.cluster.close()

    @property
    def sequences(self) -> int | None:
        """How many answers a worker on a card makes at once; None without a card."""
        if self.shares is None:
            return None
        return min(
            self.limits["max_num_seqs"], self.shares.sequences or self.limits["max_num_seqs"]
        )

    @property
    def num_waiting(self) -> int:
        """How many workers have no place in the cluster now."""
        if self.cluster is None:
            return 0
        places = self.cluster.slots.places(self.usage.threads or 1)
        return max(0, self.settings.workers - places)

    # ---- one worker

    def _worker(self, number: int) -> Client:
        """Start a worker, on a GPU of its own where there are GPUs."""
        settings = engine_settings(self.settings, self.shares, self.limits)
        log = self._log.with_stem(f"{self._log.stem}-{number}") if number else self._log
        if self.cluster:
            return self.start_client(settings, log, self.usage.threads)
        device = self.devices[number] if self.devices else None
        more = {"inherits": [self._shared.descriptor]} if self._shared else {}
        return self.start_client(settings, log, device, **more)

    def _open(self, client: Client) -> None:
        """Open the base and the bank in a worker, and set its threads."""
        selection = self.bank.selection
        base = str(selection.base.folder)
        places = {name: str(expert.folder) for name, expert in selection.experts.items()}
        if self.nodes:
            self.nodes.check(client)
            base, places = self.nodes.base, self.nodes.experts
        client.open_model(TARGET, base)
        self.arch = client.open_bank(
            base,
            places,
            selection.include,
            self.settings.backend,
            memory_bytes=self.bank.memory_bytes,
            **room_of(self.shares, self._shared),
        )
        self._set_threads(client)
        self.usage.engine, self.usage.decoding = client.engine, client.decoding

    def _set_threads(self, client: Client) -> None:
        """Set the threads used before; at a run's first start, choose them.

        One worker tries which number is fastest. Several share the cores, so nothing is to be tried.
        """
        if self.usage.threads is None and self.settings.workers > 1:
            self.usage.threads = threads_of_each(self.settings.workers, os.environ)
        if self.usage.threads:
            return client.set_threads(self.usage.threads)
        sampling = greedy(self.task)
        short = replace(sampling, max_new_tokens=min(TRIAL_TOKENS, sampling.max_new_tokens))
        ends = [question.prompt[-TRIAL_LETTERS:] for question in self.task.split("dev")]
        found = client.choose_threads(ends[:MOST_PROMPTS], short)
        self.usage.threads, self.trials = found["threads"], found["seconds"]


def engine_settings(
    settings: ScreenSettings, shares: Shares | None, limits: Mapping[str, int]
) -> EngineSettings:
    """Return what each worker's engine is started with; `limits` are this run's."""
    return EngineSettings(
        engine=choose_engine(settings.engine),
        cache_bytes=shares.cache
        if shares
        else cache_share(settings.memory_bytes, settings.workers),
        second_cache_bytes=shares and shares.writer_cache,
        max_model_len=settings.max_model_len,
        seed=settings.seed,
        **limits,
    )


def bank_of_node(settings: ScreenSettings, bank: Bank, shares: Shares | None) -> SharedBank | None:
    """Make what the workers of this machine share, still empty; None where they have nothing to pin here."""
    if shares is None or settings.address or not on_gpu(open_backend(settings.backend)):
        return None
    return bank_to_share(bank, shares.bank, shares.pinned)


def room_of(shares: Shares | None, shared: SharedBank | None) -> Json:
    """Return what of card and host a worker's bank may take; what it shares is filled then."""
    if shares is None or shared is None:
        return {"device_bytes": shares and shares.bank, "pinned_bytes": shares and shares.pinned}
    shared.fill()
    return {"device_bytes": shares.bank, "pinned_bytes": 0, "shared": shared.to_json()}
