"""The worker process: it holds live models and the bank, and has one method for each request.

    python -m selfdev_engine.engine.resident.worker FD

Timeline of a swap: no request is alive -> kernels write straight into the live storage (into a
scratch tensor where it is not one piece of the right dtype) -> what they wrote is fingerprinted,
read through the placement -> the prefix cache is reset. If anything fails, the base is put back and
verified first.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ...kernels.compiler.clock import OutOfTime, check, limited
from ..errors import EngineError, Rejected, Rejection, UsageError
from ..plans.apply import merge_tensors
from ..plans.backends import open_backend
from ..plans.plan import Plan
from ..sandbox.guard import die_with_parent
from ..weights.adapter import Adapter
from ..weights.checkpoint import Checkpoint
from ..weights.contents import model_parts
from ..weights.selection import Selection
from .channel import Channel
from .engine import LiveEngine
from .holding import Holding, target_of
from .messages import PLACES, EngineSettings, Json, Sampling
from .model import Model, load_into
from .placement import error_in_words
from .runnable import check_runnable
from .threads import choose, try_out
from .transformers_engine import TransformersEngine
from .vllm_engine import VllmEngine


class Worker:
    """The requests, as methods by name; each takes and returns plain data.

    `plan` is the payload of a request. `key` names the model that it is about.
    """

    def __init__(self, channel: Channel, settings: EngineSettings) -> None:
        self.channel, self.settings = channel, settings
        self.models: dict[str, Model] = {}
        # Every engine, also one whose model was refused: the end of one vLLM takes the others with it.
        self.engines: list[LiveEngine] = []
        # The tensors that `apply` merges into a model, by the model's key.
        self.banks: dict[str, Holding] = {}
        # The folder whose weights a model was loaded with last.
        self.loaded: dict[str, str] = {}
        # The present call's: where files and folders lie here, by its names; seconds spent on swaps.
        self.places: dict[str, str] = {}
        self.swap_s = 0.0

    def open_model(self, key: str, folder: str) -> Json:
        """Load a model, and return its fingerprint and the engine's name."""
        assert key not in self.models, f"{key}: vLLM's end would take the other models with it"
        checkpoint = Checkpoint.open(folder)
        engine = open_engine(checkpoint, settings_of_next(self.settings, len(self.engines)))
        self.engines.append(engine)
        model = Model(engine, checkpoint)
        try_out_model(model)
        self.models[key], self.loaded[key] = model, str(checkpoint.folder)
        about = {"engine": engine.name, "decoding": engine.decoding}
        return {"weights_fingerprint": model.fingerprint, **about}

    def open_contents(self, places: dict[str, str]) -> Json:
        """Read models, and return digests of what decides their answers."""
        return {role: model_parts(place) for role, place in places.items()}

    def open_bank(
        self, key: str, base: str, experts: dict[str, str], include: str, backend: str, **room: Any
    ) -> Json:
        """Open the tensors that `apply` merges into a model; `room` bounds their bytes (`Holding.of`).

        Returns how many are selected, and what a GPU's kernels are compiled for (see `target_of`).
        """
        selection, kernels = Selection.open(base, experts, include), open_backend(backend)
        self.banks[key] = Holding.of(selection, kernels, **room)
        return {"selected": len(selection.names), "target": target_of(kernels)}

    def choose_threads(self, key: str, prompts: list[str], sampling: Json) -> Json:
        """Try the numbers of threads that make sense, and set the best for all models."""
        engine, chosen = self.models[key].engine, Sampling.from_json(sampling)

        def answer(threads: int, count: int) -> None:
            self.set_threads(threads)
            engine.generate(prompts[:count], chosen, None, self.channel.progress)
            engine.reset()  # else the next trial would find its prompts in the cache

        counts = thread_counts()
        seconds = try_out(counts, answer) if len(counts) > 1 else {counts[0]: [0.0]}
        threads, tried = choose(seconds), {str(n): median(found) for n, found in seconds.items()}
        self.set_threads(threads)
        print(f"{threads} threads; median seconds by threads: {tried}", flush=True)
        return {"threads": threads, "seconds": tried}

    def set_threads(self, threads: int) -> Json:
        """Set the number of threads that all models answer with from now on."""
        torch._C.set_num_threads(threads)  # vLLM puts a warning in place of torch.set_num_threads
        return {}

    def apply(self, key: str, plan: bytes) -> Json:
        """Make the model its base plus this plan's update, and return its fingerprint.

        Raises Rejected; the base is back then.
        """
        began, model = time.perf_counter(), self.models[key]
        self.loaded.pop(key, None)
        try:
            why = self._apply(model, self.banks[key], Plan.from_bytes(plan, self.places))
            self.banks[key].bank.selection.check_unchanged()
            if why:
                raise Rejected(why)
        except BaseException:
            model.restore()
            raise
        self.swap_s += time.perf_counter() - began
        return {"weights_fingerprint": model.fingerprint}

    def _apply(self, model: Model, held: Holding, plan: Plan) -> Rejection | None:
        """Merge the plan's tensors and restore all others; `timeout` after `apply_limit_s`."""
        limit_s = self.settings.apply_limit_s
        with limited(f"applying it took more than {limit_s:g} s", wall_s=limit_s):
            why = merged(model, held, plan)
        # Put back what an earlier plan changed and this one does not.
        return why or model.restore(but=plan.tensors)

    def score(self, key: str, prompts: list[str], sampling: Json, plan: bytes = b"") -> Json:
        """Do `apply` (without a plan `restore`) and `generate`; no other call comes between."""
        applied = self.apply(key, plan) if plan else self.restore(key)
        return {**applied, **self.generate(key, prompts, sampling, None, False)}

    def sample(
        self,
        key: str,
        folder: str,
        prompts: list[str],
        sampling: Json,
        seeds: list[int],
        **how: Any,
    ) -> Json:
        """Do `load_writer` and `generate` in one call; there are no completions where that loads others."""
        is_right = load_writer(self, key, folder, **how)
        prints = {"weights_fingerprint": self.models[key].fingerprint}
        if not is_right:
            return prints | {"completions": None}
        return prints | self.generate(key, prompts, sampling, seeds, False)

    def restore(self, key: str) -> Json:
        """Put the base back, and return its fingerprint."""
        self.models[key].restore()
        self.loaded[key] = str(self.models[key].base.folder)
        return {"weights_fingerprint": self.models[key].fingerprint}

    def load_weights(self, key: str, folder: str) -> Json:
        """Load another checkpoint of the same architecture into the same engine.

        UsageError where a tensor is absent or has another shape.
        """
        if folder == str(self.models[key].base.folder):
            return self.restore(key)
        self.loaded.pop(key, None)
        load_into(self.models[key], Checkpoint.open(folder))
        self.loaded[key] = folder
        return {"weights_fingerprint": self.models[key].fingerprint}

    def fingerprint(self, key: str) -> Json:
        """Read the live weights again, as they are now, and return their fingerprint."""
        return {"weights_fingerprint": self.models[key].read_again()}

    def generate(
        self, key: str, prompts: list[str], sampling: Json, seeds: list[int] | None, fed: bool
    ) -> Json:
        """Answer prompts, with a prefix cache in which nothing is left of earlier calls.

        So an answer does not depend on what this worker did before. With `fed` the driver is told
        what finished, and says what else to ask.
        """
        engine, feed = self.models[key].engine, self.channel.feed if fed else None
        engine.reset()
        chosen = Sampling.from_json(sampling)
        answers = engine.generate(prompts, chosen, seeds, self.channel.progress, feed)
        return {"completions": [answer and answer.to_json() for answer in answers]}


def settings_of_next(settings: EngineSettings, num_open: int) -> EngineSettings:
    """Return the settings of the next engine: the first has the cache that is planned for the base."""
    if not num_open or settings.second_cache_bytes is None:
        return settings
    return replace(settings, cache_bytes=settings.second_cache_bytes)


def load_writer(
    worker: Worker,
    key: str,
    folder: str,
    base: str = "",
    adapter: str = "",
    fingerprint: str | None = None,
) -> bool:
    """Load the weights of a folder, where others are loaded.

    Where a copy of `adapter` came in place of the folder, that is folded into `base`, and what is returned
    says whether this gives the fingerprint.
    """
    folder, copy = worker.places.get(folder, folder), worker.places.get(adapter)
    if worker.loaded.get(key) != folder and copy:
        worker.loaded.pop(key, None)
        load_into(worker.models[key], Checkpoint.open(base), Adapter.open(Path(copy)))
        worker.loaded[key] = folder
    elif worker.loaded.get(key) != folder:
        worker.load_weights(key, folder)
    return not copy or worker.models[key].fingerprint == fingerprint


def merged(model: Model, held: Holding, plan: Plan) -> Rejection | None:
    """Merge the plan's tensors. Returns `timeout` where the caller's limit is over."""
    names = [""]
    try:
        for sets in held.batches(plan):
            names = [tensors.name for tensors in sets]
            merge = partial(merge_tensors, plan.tensors, sets, held.bank, held.backend)
            if why := model.merge(names, merge):
                return why
            check()
    except OutOfTime as error:
        return Rejection("timeout", f"{error}; {names[-1]} was reached")
    return None


def open_engine(checkpoint: Checkpoint, settings: EngineSettings) -> LiveEngine:
    """Open a checkpoint in the engine that the settings name. UsageError where it cannot run it."""
    check_runnable(checkpoint, settings.engine, settings.max_model_len)
    if settings.engine == "vllm":
        return VllmEngine(checkpoint, settings)
    return TransformersEngine(checkpoint, settings)


def try_out_model(model: Model) -> None:
    """Ask for one token. UsageError where the engine cannot run the model, before the first question."""
    engine = model.engine
    try:
        engine.generate(["1"], Sampling(1), None, lambda done: None)
        engine.reset()
    except Exception as error:
        traceback.print_exc()
        raise UsageError(
            f"{model.base.folder}: {engine.name} cannot run it: {error_in_words(error)}{engine.advice}"
        ) from None


def thread_counts() -> list[int]:
    """Return the numbers of threads worth trying: one and all.

    Where a GPU answers or the user has set OMP_NUM_THREADS, that is the present number alone.
    """
    if "OMP_NUM_THREADS" in os.environ or torch.cuda.is_available():
        return [torch.get_num_threads()]
    return sorted({1, len(os.sched_getaffinity(0))})


def reply_to(worker: Worker, request: Json, payload: bytes) -> Json:
    """Carry out a request and return its reply. It never raises: what went wrong is data."""
    began, worker.swap_s = time.perf_counter(), 0.0
    worker.places = request.get(PLACES, {})
    said = outcome_of(worker, request, payload)
    times = {"busy_s": time.perf_counter() - began, "swap_s": worker.swap_s}
    return {"id": request["id"], "times": times, **said}


def outcome_of(worker: Worker, request: Json, payload: bytes) -> Json:
    """Call the method that the request names; return its value, or what it raised as data."""
    plan = {"plan": payload} if payload else {}
    try:
        return {"value": getattr(worker, request["method"])(**request["params"], **plan)}
    except Rejected as error:
        return {"rejected": error.rejection.to_json()}
    except EngineError as error:
        return {"usage": str(error)}
    except Exception:
        return {"bug": traceback.format_exc()[-4000:]}


def main() -> None:
    """Answer the driver's requests until it is gone; its first message is the settings."""
    die_with_parent()
    channel = Channel(int(sys.argv[1]))
    if (first := channel.receive()) is None:
        return
    worker = Worker(channel, EngineSettings(**first[0]))
    while (request := channel.receive()) is not None:
        channel.send(reply_to(worker, *request))
    # The driver is gone; the engine's own threads need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
