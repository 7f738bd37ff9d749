"""Workers on the nodes of a Ray cluster: Ray places them, and carries messages and files to them.

Ray starts no worker again and repeats no call: the pool does. A worker that has no place yet waits for
a node that joins. Without its head a cluster is gone, and Ray would end this process a minute later.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineGone, MissingExtra, UsageError, WorkerBug, WorkerLost
from ..resident.client import Client, check_engine
from ..resident.messages import EngineSettings, Json
from ..resident.threads import wanted_threads
from ..weights.machine import Machine
from .host import Host, card_here, versions_here

if TYPE_CHECKING:
    import numpy as np

# A thread looks so often whether the head is there. After HEAD_S seconds without it the cluster is lost, and
# GRACE_S later this process ends, if it could not by then.
LOOK_S, HEAD_S, GRACE_S, CONNECT_S = 5.0, 20.0, 15.0, 5.0
STOP_S = 2.0
# Other words mean other things to Ray: "local" is a cluster of its own making.
ADDRESS = re.compile(r"[\w.-]+:(\d{1,5})")
# Places that an earlier command had are free a moment after its end.
FREE_S = 10.0


@dataclass(frozen=True)
class Slots:
    """Where workers find a place: GPUs where there are any, else processor cores."""

    gpus: int
    gpus_of_node: int
    cpus: int
    nodes: int
    # Cores of the node that has the fewest.
    least_cpus: int

    @property
    def default_workers(self) -> int:
        """One worker for each GPU; without GPUs one for each node."""
        return self.gpus or self.nodes

    def cores(self, threads: int) -> int:
        """Return the cores that a worker without a GPU takes: no more than any node has."""
        return max(1, min(threads, self.least_cpus))

    def places(self, threads: int) -> int:
        """Return how many workers have a place."""
        return self.gpus or self.cpus // self.cores(threads)

    def threads(self, num_workers: int, environment: Mapping[str, str]) -> int:
        """Return the threads of each worker: OMP_NUM_THREADS, or an equal share of all cores."""
        share = max(1, min(self.cpus // num_workers, self.least_cpus))
        return wanted_threads(environment) or share


class Cluster:
    """A connection to a Ray cluster; `connect` makes it, one in a process."""

    def __init__(self, address: str) -> None:
        found = ADDRESS.fullmatch(address)
        if address != "auto" and not (found and 0 < int(found[1]) < 1 << 16):
            raise UsageError(f"--address {address}: write HOST:PORT of a cluster's head, or auto")
        self.address, self._module = address, import_ray()
        self._is_lost, self._left = False, threading.Event()
        self._objects = Objects()

    @property
    def ray(self) -> Any:
        """The module, connected to the cluster. UsageError where that is not to be had."""
        self.check_head()
        if not self._module.is_initialized():
            self._connect()
        return self._module

    def close(self) -> None:
        """Leave the cluster, until it is asked again: while no worker is up its head may go, and come."""
        if not self._is_lost:
            self._left.set()
            self._objects.clear()
            self._module.shutdown()

    def _connect(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        host, _, port = self.address.rpartition(":")
        if port.isdecimal() and not answers((host, int(port))):
            raise UsageError(f"--address {self.address}: nothing answers there: is `ray start` up?")
        try:
            self._module.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            said = " ".join(str(error).split())[:300]
            raise UsageError(f"--address {self.address}: no cluster to be had: {said}") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                # Ray would end this process in its own way.
                signal.signal(signal.SIGTERM, before)
        host, _, port = self._module.get_runtime_context().gcs_address.rpartition(":")
        self._left = threading.Event()
        words = (host, int(port)), self._left
        threading.Thread(target=self._watch, args=words, daemon=True).start()

    @property
    def slots(self) -> Slots:
        """What the nodes have that are there now. UsageError where that is nothing."""
        nodes = [n["Resources"] for n in self.ray.nodes() if n["Alive"]]
        gpus = [int(node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1]
        cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        if not gpus and not cores:
            raise UsageError(f"--address {self.address}: its nodes have neither GPUs nor cores")
        most, fewest = max(gpus, default=0), min(cores, default=0)
        return Slots(sum(gpus), most, sum(cores), len(cores), fewest)

    def check_free(self) -> None:
        """Raise UsageError where others use every place, and none becomes free within FREE_S seconds."""
        what, end = "GPU" if self.slots.gpus else "CPU", time.monotonic() + FREE_S
        while self.ray.available_resources().get(what, 0) < 1:
            if time.monotonic() > end:
                raise UsageError(
                    f"--address {self.address}: others use every {what} of the cluster"
                )
            time.sleep(FREE_S / 10)

    @property
    def machine(self) -> Machine | None:
        """The cards and memory of a node, which others are taken to be like; None without GPUs."""
        if not self.slots.gpus:
            return None
        look = self.ray.remote(card_here).options(num_gpus=1, num_cpus=0, max_retries=0)
        card, host_bytes = self.get(look.remote())
        return Machine((card,) * self.slots.gpus_of_node, host_bytes)

    def start_client(self, settings: EngineSettings, log: Path, threads: int) -> Client:
        """Place a worker, and return at once; its first call waits until it has a place.

        The folder of `log` tells which nodes share the driver's files.
        """
        check_engine(settings.engine)
        slots = self.slots
        room = {"num_gpus": 1, "num_cpus": 0}
        if not slots.gpus:
            room = {"num_cpus": slots.cores(threads), "num_gpus": 0}
        more = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        actor = self.ray.remote(Host).options(**room, **more).remote(settings.to_json())
        return Client(RayLine(self, actor, settings, log.parent), settings.stall_s)

    def get(self, ref: Any) -> Any:
        """Wait for an answer. WorkerLost where the worker or its node is gone, UsageError without a head."""
        errors = self._module.exceptions
        while True:
            self.check_head()
            try:
                return self._module.get(ref, timeout=LOOK_S)
            except errors.GetTimeoutError:
                continue
            except errors.RayTaskError as error:
                raise WorkerBug(f"on its node:\n{str(error)[-4000:]}") from None
            except errors.RayError as error:
                self.check_head()
                said = str(error).strip()
                if getattr(error, "actor_init_failed", False):
                    last = said.split("\n")[-1].strip()
                    raise UsageError(f"{self.address}: a node starts no worker: {last}") from None
                raise WorkerLost(f"its node or its process ended: {said[:600]}") from None

    def check_head(self) -> None:
        """Raise UsageError where the head is lost: no call to Ray may follow, it would not return."""
        if self._is_lost:
            raise UsageError(self._lost_words)

    def _watch(self, head: tuple[str, int], left: threading.Event) -> None:
        """See whether the head answers, until the cluster is left or lost.

        The event is that of this connection: the next one may be to another head.
        """
        seen_at = time.monotonic()
        while not left.wait(LOOK_S):
            if answers(head):
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > HEAD_S and not left.is_set():
                return self._lose()

    def _lose(self) -> None:
        """Have all calls say that the head is lost, and this process end before Ray ends it.

        Ray's own end would hang or crash: after an orderly end of ours comes nothing more.
        """
        self._is_lost = True
        atexit.register(end_at_once)
        last = threading.Timer(GRACE_S, end_at_once, [f"error: {self._lost_words}"])
        last.daemon = True
        last.start()

    @property
    def _lost_words(self) -> str:
        return (
            f"--address {self.address}: the cluster's head is lost; start the cluster again, and go "
            "on with the same command (a run: with --resume)"
        )

    def object_of(self, path: str) -> Any:
        """Return a file's contents as an object that any node can have."""
        return self._objects.of(path, self.ray.put)

    def end(self, actor: Any) -> None:
        """End an actor with all that it started."""
        if not self._is_lost:
            with contextlib.suppress(Exception):
                self._module.kill(actor, no_restart=True)


class Objects:
    """What files hold, as objects of the cluster that any node can have."""

    def __init__(self) -> None:
        # By path, size and time.
        self._made, self._making = dict[tuple[str, int, int], Any](), threading.Lock()

    def clear(self) -> None:
        self._made.clear()

    def of(self, path: str, put: Callable[[object], Any]) -> Any:
        """Return a file's object, made by `put`.

        Those of one folder are kept as long as no other folder's is asked for, and they are there.
        """
        file = Path(path)
        state = file.stat()
        key = path, state.st_size, state.st_mtime_ns
        with self._making:
            for old in [k for k in self._made if not_beside(k[0], file)]:
                del self._made[old]
            if key not in self._made:
                self._made[key] = put(contents_of(file))
            return self._made[key]


class RayLine:
    """The way to a worker on a node (see `Line`)."""

    def __init__(self, cluster: Cluster, actor: Any, settings: EngineSettings, run: Path) -> None:
        self._cluster, self._actor, self._is_lost = cluster, actor, False
        self._expected = versions_here(settings.engine)
        self._run, self._token = run.absolute(), secrets.token_hex(16)
        # Answers to come, in the order of what was sent.
        self._refs = deque[Any]()
        self._about: Json | None = None
        self._asked_about = actor.about.remote(str(self._probe), self._told())
        # Files of which there are copies on the node.
        self._copied: set[str] = set()
        self._closing: Any = None

    @property
    def _probe(self) -> Path:
        return self._run / f"seen-by-{self._token[:8]}"

    def _told(self) -> str:
        """Write the file by which a node knows that it shares the run's folder."""
        self._probe.write_text(self._token)
        return self._token

    @property
    def node(self) -> str:
        """The node's name. Waits until the worker has a place; UsageError where it differs from here."""
        return str(self._known()["node"])

    @property
    def pid(self) -> int:
        return int(self._known()["pid"])

    @property
    def is_alive(self) -> bool:
        return not self._is_lost

    def _known(self) -> Json:
        """Wait for what the node says of itself. UsageError where other versions are installed there."""
        if self._about is None:
            try:
                about = self._cluster.get(self._asked_about)
            finally:
                self._probe.unlink(missing_ok=True)
            for name, version in self._expected.items():
                if (there := about["versions"].get(name, "none")) != version:
                    raise UsageError(
                        f"node {about['node']}: {name} is {there} there and {version} here; install "
                        "the same on all nodes"
                    )
            self._about = about
            return about
        return self._about

    def send(self, header: Json, payload: bytes = b"", files: Sequence[str] = ()) -> None:
        """Send a message, with the files that the node has no copy of. `receive` says what went wrong."""
        if self._is_lost:
            return
        names, contents = list[str](), list[Any]()
        if files and not self._known()["shares"]:
            names = sorted(files, key=lambda name: name in self._copied)
            contents = [self._cluster.object_of(n) for n in names if n not in self._copied]
            self._copied = set(names)
        self._refs.append(self._actor.ask.remote(header, bytes(payload), names, *contents))

    def receive(self, timeout_s: float) -> Json:
        """Return the next answer. WorkerLost, or EngineGone afterwards. The node minds the time."""
        if self._is_lost or not self._refs:
            raise EngineGone("the worker had ended before")
        try:
            self._known()
            reply = self._cluster.get(self._refs.popleft())
        except BaseException:
            self._is_lost = True
            raise
        if "lost" in reply:
            self._is_lost = True
            raise WorkerLost(f"on node {self.node}: {reply['lost']}")
        return reply

    def kill(self) -> None:
        """End the worker, without waiting for its end."""
        if self._refs or self._is_lost or self._about is None:
            self._cluster.end(self._actor)
        elif self._closing is None:
            self._closing = self._actor.close.remote()

    def stop(self) -> None:
        """End the worker."""
        self.kill()
        if self._closing is not None:
            with contextlib.suppress(Exception):
                self._cluster.ray.get(self._closing, timeout=STOP_S)
        self._cluster.end(self._actor)
        self._probe.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def connect(address: str) -> Cluster:
    """Connect to the cluster of an address. UsageError where there is none, or another version of Ray."""
    return Cluster(address)


def import_ray() -> Any:
    """Return the module ray. MissingExtra where it is not installed."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "cluster") from None
    return ray


def end_at_once(line: str = "") -> None:
    """End this process with exit code 2, and nothing more."""
    if line:
        print(line, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def answers(place: tuple[str, int]) -> bool:
    """Tell whether something takes connections there."""
    try:
        socket.create_connection(place, CONNECT_S).close()
    except OSError:
        return False
    return True


def not_beside(path: str, file: Path) -> bool:
    """Tell whether a file is gone, or lies in another folder than `file`."""
    return Path(path).parent != file.parent or not Path(path).exists()


def contents_of(file: Path) -> np.ndarray:
    """Return a file's bytes as an array that is mapped."""
    import numpy as np

    if not file.stat().st_size:
        return np.empty(0, np.uint8)
    with file.open("rb") as stream:
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
