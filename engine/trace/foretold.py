"""Tells a child at once what it is going to ask: what it asked of the last tensor, of a tensor of the same shape.

A message wakes the driver up, which costs more than its answer. So a request for a tensor brings the questions
of the one before with this tensor's answers, where they are known already. The child says how many it used.
Whatever a child says of that, the graph is as if it had asked them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .arguments import malformed
from .graph import TraceGraph
from .wire import pack_tensor

MOST_FORETOLD, MOST_NUMBERS = 32, 1_024  # questions, and numbers of all their answers
Known = Callable[[TraceGraph], list[Tensor] | None]


@dataclass(frozen=True)
class Asked:
    """A question that a child asked, and its graph, which depends on no answer."""

    raw: dict[str, Any]
    graph: TraceGraph

    @staticmethod
    def of(question: dict[str, Any], graph: TraceGraph) -> Asked:
        return Asked({key: question[key] for key in ("nodes", "outputs", "shape")}, graph)


@dataclass(frozen=True)
class Foretold:
    """Questions with the answers about one tensor."""

    asked: Sequence[Asked] = ()
    answers: Sequence[list[Tensor]] = ()

    @staticmethod
    def of(asked: Sequence[Asked], known: Known) -> Foretold:
        """The first of these questions whose answers are known, and are few numbers."""
        answers, room = list[list[Tensor]](), MOST_NUMBERS
        for one in asked[:MOST_FORETOLD]:
            values = known(one.graph)
            room -= sum(value.numel() for value in values or ())
            if values is None or room < 0:
                break
            answers.append(values)
        return Foretold(asked[: len(answers)], answers)

    def to_json(self) -> list[Any]:
        """The part of a request: pairs of a question and its answer."""
        return [
            [one.raw, {"values": [pack_tensor(value) for value in values]}]
            for one, values in zip(self.asked, self.answers, strict=True)
        ]

    def used(self, claim: Any, before: int, has_asked: bool) -> range:
        """The places of the questions that were used since `before`. Raises Rejected.

        Who has asked another question uses no more: what follows may rest on its answer.
        """
        most = before if has_asked else len(self.asked)
        if type(claim) is not int or not before <= claim <= most:
            raise malformed("a number of questions that were foretold")
        return range(before, claim)
