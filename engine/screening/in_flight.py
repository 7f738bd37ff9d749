"""Candidates that are prepared and not yet decided, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple

from ..records.candidate import Candidate
from .verdicts import Answers, Verdict

# The number of candidates that may wait for one before them, for each that may be asked.
MOST_WAITING = 32


class Prepared(NamedTuple):
    """A candidate, what is known of it, and the answers to come; None where no worker is needed."""

    candidate: Candidate
    verdict: Verdict
    asked: Future[Answers] | None

    @property
    def is_ready(self) -> bool:
        """Whether it can be settled without waiting for a worker."""
        return self.asked is None or self.asked.done()


class InFlight:
    """A queue of prepared candidates. At most `most_asked` of them wait for a worker's answers.

    `is_full` says that what they take of the disk is enough.
    """

    def __init__(self, most_asked: int, is_full: Callable[[], bool]) -> None:
        self._queue, self._most_asked, self._is_full = deque[Prepared](), most_asked, is_full

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, candidate: Candidate, verdict: Verdict, asked: Future[Answers] | None) -> None:
        self._queue.append(Prepared(candidate, verdict, asked))

    def take(self) -> Prepared:
        """Remove the first one, and return it."""
        return self._queue.popleft()

    def reaches_back_to(self, ordinal: int) -> bool:
        """Return whether a candidate of this ordinal, or an earlier one, is not decided."""
        return bool(self._queue) and self._queue[0].candidate.ordinal <= ordinal

    def must_settle(self) -> bool:
        """Return whether the first one is to be settled before others are prepared.

        That is where it is ready, or enough is prepared, by number or by the disk that it takes. While
        others than the first are answered, there is room for more.
        """
        while self._queue and not self._queue[0].is_ready:
            if len(self._queue) > MOST_WAITING * self._most_asked or self._is_full():
                return True
            asked = [one.asked for one in self._queue if one.asked and not one.is_ready]
            if len(asked) <= self._most_asked:
                return False
            wait(asked, return_when=FIRST_COMPLETED)
        return bool(self._queue)
