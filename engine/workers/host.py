"""A worker on a node of a cluster: its process there, and copies of the files that calls name.

The driver makes one on a node for each worker, and calls its methods one after the other. What goes in
and out is JSON and bytes. Nothing here knows Ray, which carries it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import EngineError
from ..resident.calls import limit_of
from ..resident.client import installed_engine
from ..resident.messages import PLACES, Json
from ..resident.process import WorkerProcess
from ..weights.machine import Gpu, by_bus, gpus_here, host_bytes

# A folder of copies is called so, with the number of the process that it belongs to.
COPIES = "selfdev-copies-"
# Packages that decide what a worker answers, besides its engine.
ALIKE = ("selfdev-engine", "torch", "transformers")


class Host:
    """A worker's process, started with these settings of an engine; `ask` passes messages on."""

    def __init__(self, settings: Json) -> None:
        remove_orphans()
        self._stall_s, self._engine = settings["stall_s"], settings["engine"]
        self._copies = Path(tempfile.gettempdir(), f"{COPIES}{os.getpid()}")
        # Nobody reads it here: where the process is lost its last lines are sent. So it has no name.
        self._log, name = tempfile.mkstemp()
        os.unlink(name)
        log = Path(f"/proc/{os.getpid()}/fd/{self._log}")
        self._process = WorkerProcess(log, by_bus())
        self._process.send(settings)

    def about(self, probe: str, token: str) -> Json:
        """Return the node's name, what is installed, and whether it sees this file of the driver's."""
        try:
            shares = Path(probe).read_text() == token
        except OSError:
            shares = False
        versions = versions_here(self._engine)
        return {
            "node": socket.gethostname(),
            "pid": self._process.pid,
            "versions": versions,
            "shares": shares,
        }

    def ask(self, header: Json, payload: bytes, names: Sequence[str], *contents: object) -> Json:
        """Pass a message to the worker, and return its answer, or what it says when it is lost.

        `names` are the files that the message names. The first of them are those that are not here yet,
        and `contents` has their bytes. All other copies are removed.
        """
        if names:
            header = {**header, PLACES: self._copied(names, contents)}
        try:
            self._process.send(header, payload)
            timeout_s = limit_of(str(header.get("method", "")), self._stall_s)
            while "progress" in (reply := self._process.receive(timeout_s)):
                pass
            return reply
        except EngineError as error:
            return {"lost": str(error)}

    def _copied(self, names: Sequence[str], contents: Sequence[object]) -> dict[str, str]:
        """Write copies, and return where files and their folders lie, by the names that they have."""
        places = {name: self._copies / folder_of(name) / Path(name).name for name in names}
        for old in self._copies.glob("*/*"):
            if old not in places.values():
                old.unlink()
        for name, content in zip(names, contents, strict=False):
            places[name].parent.mkdir(parents=True, exist_ok=True)
            with places[name].open("wb") as file:
                file.write(memoryview(content))  # type: ignore[arg-type]
        folders = {str(Path(name).parent): str(place.parent) for name, place in places.items()}
        return {name: str(place) for name, place in places.items()} | folders

    def close(self) -> None:
        """End the process, and remove all copies."""
        self._process.stop()
        shutil.rmtree(self._copies, ignore_errors=True)


def folder_of(name: str) -> str:
    """Return what a copied file's folder is called: files of one folder lie together."""
    return hashlib.sha256(os.path.dirname(name).encode()).hexdigest()[:16]


def versions_here(engine: str) -> dict[str, str]:
    """Return the versions of the packages that decide what a worker answers."""
    found = {"engine": installed_engine(engine)}
    for package in ALIKE:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def card_here() -> tuple[Gpu, int]:
    """Return the card that this process sees, and the bytes of its machine's memory."""
    return gpus_here()[0], host_bytes()


def remove_orphans() -> None:
    """Remove copies that belong to processes which have ended: some were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{COPIES}*"):
        if not Path("/proc", folder.name.removeprefix(COPIES)).exists():
            shutil.rmtree(folder, ignore_errors=True)
