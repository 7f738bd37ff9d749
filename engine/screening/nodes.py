"""Compares the models on the nodes of a cluster with those here: under one path may lie other weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from ..errors import UsageError
from ..resident.client import Client
from ..weights.contents import model_parts
from ..weights.locate import local
from .settings import ScreenSettings


def place_of(place: str) -> str:
    """Return what a node calls a model: the path that it has here, or its hub id."""
    folder = local(place)
    return place if folder is None else str(Path(folder).absolute())


class NodeCheck:
    """Compares base and experts, once on each node; any thread may ask."""

    def __init__(self, settings: ScreenSettings) -> None:
        self.base = place_of(settings.base)
        self.experts = {name: place_of(place) for name, place in settings.experts.items()}
        experts = {f"expert {name}": place for name, place in self.experts.items()}
        self.places = {"base": self.base, **experts}
        self._turns, self._same = defaultdict[str, Lock](Lock), set[str]()
        self._reading, self._here = Lock(), dict[str, Mapping[str, str]]()

    def check(self, client: Client) -> None:
        """Raise UsageError where a model on this worker's node is not the one here."""
        with self._turns[client.node]:
            if client.node in self._same:
                return
            there = client.open_contents(self.places)
            for role, parts in self._read_here().items():
                for part in sorted(parts.keys() | there[role].keys()):
                    if parts.get(part) != there[role].get(part):
                        raise UsageError(
                            f"node {client.node}: {role} ({self.places[role]}) has other {part} there "
                            "than here; copy the same model to all nodes"
                        )
            self._same.add(client.node)

    def _read_here(self) -> Mapping[str, Mapping[str, str]]:
        """Read this machine's models, once."""
        with self._reading:
            if not self._here:
                self._here = {role: model_parts(place) for role, place in self.places.items()}
            return self._here
