"""Writes large files; one thread syncs to disk early, while other threads still write.

Dirty pages that pile up slow a writer down, and the last fsync would wait for all of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

PIECE_BYTES = 8 << 20
SYNC_BYTES = 64 << 20


class Disk:
    """Writes to open files, from any thread. A context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unsynced_bytes = 0
        self._syncing: Future[None] | None = None

    def __enter__(self) -> Disk:
        self._syncer = ThreadPoolExecutor(1, "syncer")
        return self

    def __exit__(self, *_: object) -> None:
        self._syncer.shutdown()

    def write(self, descriptor: int, data: Any, offset: int) -> None:
        """Write all of `data` at `offset`, and start a sync where SYNC_BYTES are not synced yet.

        OSError also where an earlier sync failed.
        """
        size = write_all(descriptor, data, offset)
        with self._lock:
            self._unsynced_bytes += size
            idle = self._syncing is None or self._syncing.done()
            if idle and self._unsynced_bytes >= SYNC_BYTES:
                self._wait()
                self._unsynced_bytes = 0
                self._syncing = self._syncer.submit(os.fdatasync, descriptor)

    def finish(self, descriptors: Iterable[int]) -> None:
        """Sync these files; when it returns, all that was written is on the disk."""
        self._wait()
        for descriptor in descriptors:
            os.fsync(descriptor)

    def _wait(self) -> None:
        """Wait for the sync that runs, and raise its error.

        A later fsync would not report that error again.
        """
        if self._syncing is not None:
            self._syncing.result()


def write_all(descriptor: int, data: Any, offset: int) -> int:
    """Write all of `data` at `offset`, and return the number of bytes."""
    view = memoryview(data).cast("B")
    size = len(view)
    while view:
        count = os.pwrite(descriptor, view[:PIECE_BYTES], offset)
        view, offset = view[count:], offset + count
    return size
