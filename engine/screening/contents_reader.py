"""Reads what models hold, in a thread, while the engine scores; the store keeps the digests.

It reads a bounded number of bytes a second as long as others work, and as fast as it can at the end. What
it has not read when a run is cut off is read by the next command.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event

from ..errors import UsageError
from ..records.inputs import WEIGHTS, Input
from ..records.store import Store
from ..weights.checkpoint import Checkpoint
from ..weights.contents import contents_fingerprint, facts_of

BYTES_PER_S = 256 << 20  # while others work


class Stopped(Exception):
    """Ends the reading: the command ends before everything was read."""


class Pace:
    """Waits between pieces, so that no more bytes a second are read than are allowed."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self._hurry, self._stop = Event(), Event()

    def __call__(self, size_bytes: int) -> None:
        if self._stop.is_set():
            raise Stopped
        if not self._hurry.is_set():
            self._hurry.wait(size_bytes / self.bytes_per_s)

    def hurry(self) -> None:
        self._hurry.set()

    def stop(self) -> None:
        self._stop.set()
        self._hurry.set()


class ContentReader:
    """Reads the weights of those inputs of a run that were never read. A context manager.

    The thread touches no store: `keep` writes what is ready, by the thread that owns the store.
    """

    def __init__(self, store: Store, bytes_per_s: float = BYTES_PER_S) -> None:
        self._store, self._pace = store, Pace(bytes_per_s)
        self._pool = ThreadPoolExecutor(1, "contents")
        inputs = store.inputs().values()
        self._left = {i.role: (i, self._submit(i)) for i in inputs if not i.is_read}

    def _submit(self, found: Input) -> Future[str]:
        return self._pool.submit(read_weights, found, self._pace)

    def keep(self) -> None:
        """Store what was read so far. UsageError where a file changed meanwhile."""
        self._keep([role for role, (_, future) in self._left.items() if future.done()])

    def finish(self) -> None:
        """Read the rest at full speed, and store it. UsageError where a model changed meanwhile."""
        self._pace.hurry()
        self._keep(list(self._left))
        check_unchanged(self._store.inputs().values())

    def _keep(self, roles: Iterable[str]) -> None:
        for role in roles:
            found, future = self._left.pop(role)
            parts = {**found.parts, WEIGHTS: future.result()}
            with self._store.transaction():
                self._store.set_input(replace(found, parts=parts))

    def __enter__(self) -> ContentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pace.stop()
        self._pool.shutdown(cancel_futures=True)


def read_weights(found: Input, pause: Pace) -> str:
    """Return the digest of a model whose files still look as when the run was begun or resumed."""
    checkpoint = Checkpoint.open(found.place)
    digest = contents_fingerprint(checkpoint, pause)
    if facts_of(checkpoint) != found.files:
        raise changed(found)
    return digest


def check_unchanged(inputs: Iterable[Input]) -> None:
    """Raise UsageError where weights are others than when this command began."""
    for found in inputs:
        if not found.files:
            continue
        checkpoint = Checkpoint.open(found.place)
        if facts_of(checkpoint) != found.files and (
            contents_fingerprint(checkpoint) != found.parts[WEIGHTS]
        ):
            raise changed(found)


def changed(found: Input) -> UsageError:
    return UsageError(
        f"{found.role} ({found.place}) was changed while the run went on: scores made since are of "
        "nobody knows which weights; put the old ones back and begin a new run"
    )
