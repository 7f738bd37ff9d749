"""The driver's side of a worker: starts it, calls its methods, notices when it dies.

A request is sent before the last one is answered: the worker then waits for nobody between them.

The driver imports no engine and holds no device. A worker is a session of its own that ends with
its driver (parent-death signal, end of the socket), so nothing is left behind.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from ..errors import EngineGone, MissingExtra, Rejected, Rejection, UsageError, WorkerLost
from ..plans.plan import Plan
from .messages import Completion, EngineSettings, Feed, Times

MODULE = f"{__package__}.worker"
STOP_S = 1.0  # an idle worker ends at once; one that imports its engine is killed
LOG_LINES = 12
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # OpenMP's threads must not spin between an engine's steps: they take the cores from the driver
    # and from the kernels that swap (measured: twice the candidates a second on 2 cores).
    "OMP_WAIT_POLICY": "passive",
}
OPEN_S = 1800.0  # for an engine's imports and a model's weights


ENGINES = ("auto", "vllm", "transformers")


def choose_engine(name: str) -> str:
    """ "auto" is vLLM where it is installed, else plain transformers: right, and slow."""
    if name != "auto":
        return name
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"


class Client:
    """A worker process; a context manager. Calls are synchronous; threads may overlap theirs."""

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, log: Path, stall_s: float
    ) -> None:
        self._process, self._socket, self.log, self.stall_s = process, channel, log, stall_s
        # Two streams: one for both ways forgets what it has read when it is written to.
        self._sink = channel.makefile("w", encoding="utf-8")
        self._source = channel.makefile("r", encoding="utf-8")
        self._asking, self._answering = Lock(), Lock()
        self.num_calls, self._is_lost = 0, False
        self.times = Times(0.0, 0.0)  # that the worker has spent, as of its last answer
        self.engine = ""  # what answers, with its version; known once a model is open

    @staticmethod
    def start(settings: EngineSettings, log: Path | None = None) -> Client:
        """Returns at once; the engine is imported meanwhile. MissingExtra where there is none."""
        if importlib.util.find_spec(settings.engine) is None:
            raise MissingExtra(settings.engine, "cpu" if settings.engine == "vllm" else "train")
        if log is None:
            descriptor, name = tempfile.mkstemp(prefix="selfdev-worker-", suffix=".log")
            os.close(descriptor)
            log = Path(name)
        ours, theirs = socket.socketpair()
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, **ENVIRONMENT},
            )
        theirs.close()
        worker = Client(process, ours, log, settings.stall_s)
        worker._send(asdict(settings))
        return worker

    # ---- methods

    def open_model(self, key: str, folder: str) -> str:
        """Load a model under a key; its weights' fingerprint."""
        opened = self._call("open_model", key=key, folder=folder)
        self.engine = opened["engine"]
        return opened["weights_fingerprint"]

    def open_bank(
        self,
        base: str,
        experts: Mapping[str, str],
        include: str,
        backend: str,
        *,
        memory_bytes: int | None = None,
        key: str = "target",
    ) -> int | None:
        """The tensors that `apply` merges into a model; held in memory as far as that is allowed.

        `memory_bytes` as of `Bank.within`. Returns what kernels are compiled for (90: sm_90), None
        without a GPU.
        """
        words = {"base": base, "experts": dict(experts), "include": include, "backend": backend}
        return self._call("open_bank", key=key, **words, memory_bytes=memory_bytes)["target"]

    def choose_threads(
        self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Threads that answer such prompts fastest, tried now; set from now on.

        `threads`, and `seconds`, what the trials took, by threads.
        """
        sampling = {"max_new_tokens": max_new_tokens, "stop": list(stop)}
        return self._call("choose_threads", key="target", prompts=list(prompts), sampling=sampling)

    def set_threads(self, threads: int) -> None:
        self._call("set_threads", threads=threads)

    def apply(self, plan: Plan, key: str = "target") -> str:
        """Swap a model's weights to base + update; their fingerprint. May raise Rejected."""
        return self._call("apply", key=key, plan=plan.to_json())["weights_fingerprint"]

    def restore(self, key: str = "target") -> str:
        """The base back, bit for bit."""
        return self._call("restore", key=key)["weights_fingerprint"]

    def load_weights(self, key: str, folder: str) -> str:
        """Swap in another checkpoint of the same architecture."""
        return self._call("load_weights", key=key, folder=folder)["weights_fingerprint"]

    def fingerprint(self, key: str) -> str:
        """Of the live weights, read again."""
        return self._call("fingerprint", key=key)["weights_fingerprint"]

    def generate(
        self,
        key: str,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seeds: Sequence[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Answers in the order of the prompts; temperature 0 is greedy."""
        sampling = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "stop": list(stop),
        }
        words = {"key": key, "prompts": list(prompts), "sampling": sampling, "fed": False}
        seeds = list(seeds) if seeds is not None else None
        found = self._call("generate", progress, **words, seeds=seeds)["completions"]
        return [Completion(**one) for one in found]

    def score(
        self,
        plan: str,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        key: str = "target",
    ) -> tuple[str, list[Completion], Times]:
        """`apply` and greedy answers in one call: the live weights' fingerprint, the answers, and
        what they took.

        The plan is JSON, made before the engine was free.
        """
        sampling = {"max_new_tokens": max_new_tokens, "stop": list(stop)}
        words = {"key": key, "plan": plan, "prompts": list(prompts), "sampling": sampling}
        reply = self._exchange("score", words)
        found = value_of(reply)
        answers = [Completion(**one) for one in found["completions"]]
        return found["weights_fingerprint"], answers, Times(**reply["times"])

    def generate_fed(
        self,
        key: str,
        prompts: Sequence[str],
        feed: Feed,
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
    ) -> None:
        """Greedy answers, told to `feed` as they finish, by the prompt's number.

        `feed` gives further prompts, which are numbered on, so that the engine's batch stays full;
        or None, which drops what is not yet answered.
        """
        sampling = {"max_new_tokens": max_new_tokens, "stop": list(stop)}
        words = {"key": key, "prompts": list(prompts), "sampling": sampling, "fed": True}
        self._call("generate", None, feed, **words, seeds=None)

    # ---- the wire

    def _call(
        self,
        method: str,
        progress: Callable[[int], None] | None = None,
        feed: Feed | None = None,
        **params: Any,
    ) -> dict[str, Any]:
        return value_of(self._exchange(method, params, progress, feed))

    def _exchange(
        self,
        method: str,
        params: dict[str, Any],
        progress: Callable[[int], None] | None = None,
        feed: Feed | None = None,
    ) -> dict[str, Any]:
        """The worker's reply; requests are answered in the order in which they were sent."""
        self._asking.acquire()
        try:
            self.num_calls += 1
            call = self.num_calls
            self._send({"id": call, "method": method, "params": params})
            self._answering.acquire()
        finally:
            self._asking.release()
        try:
            self._socket.settimeout(OPEN_S if method.startswith("open") else self.stall_s)
            reply = self._reply(progress, feed)
            if reply["id"] != call:
                raise WorkerLost(f"the worker answered call {reply['id']}, not {call}")
            self.times += Times(**reply["times"])
            return reply
        finally:
            self._answering.release()

    def _reply(self, progress: Callable[[int], None] | None, feed: Feed | None) -> dict[str, Any]:
        while True:
            reply = self._receive()
            if "finished" in reply:
                assert feed is not None
                told = [(number, Completion(**one)) for number, one in reply["finished"]]
                self._send({"more": feed(told)})
            elif "progress" not in reply:
                return reply
            elif progress:
                progress(reply["progress"])

    def _send(self, message: dict[str, Any]) -> None:
        """Where it cannot be sent the worker is gone; whose turn it was learns that by receiving."""
        with contextlib.suppress(OSError, ValueError):
            self._sink.write(json.dumps(message) + "\n")
            self._sink.flush()

    def _receive(self) -> dict[str, Any]:
        if self._is_lost:
            raise EngineGone("the engine's process had ended before")
        try:
            line = self._source.readline()
        except TimeoutError:
            self._process.kill()
            raise self._lost(f"said nothing for {self._socket.gettimeout():.0f} s") from None
        except OSError as error:
            raise self._lost() from error
        if not line:
            raise self._lost()
        return json.loads(line)

    def _lost(self, how: str = "ended") -> WorkerLost:
        self._is_lost = True
        self.stop()
        lines = self.log.read_text(errors="replace").strip().split("\n")[-LOG_LINES:]
        return WorkerLost(f"the engine's process {how}; its last words:\n" + "\n".join(lines))

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is KeyboardInterrupt:
            self._process.kill()
        self.stop()


def value_of(reply: dict[str, Any]) -> dict[str, Any]:
    """The value, or the error that the worker sent, raised here."""
    if rejected := reply.get("rejected"):
        raise Rejected(Rejection(rejected["kind"], rejected["detail"], rejected["line"]))
    if usage := reply.get("usage"):
        raise UsageError(usage)
    if bug := reply.get("bug"):
        raise RuntimeError(f"in the worker:\n{bug}")
    return reply["value"]
