"""A live model: its engine, where its tensors are, and what its weights are now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..errors import Rejection, UsageError
from ..weights.checkpoint import Checkpoint
from ..weights.fingerprint import TensorPrint, weights_fingerprint
from .engine import LiveEngine
from .placement import Placement, Unplaceable


class Model:
    """A live engine, its placement, and what its weights are now."""

    def __init__(self, engine: LiveEngine, checkpoint: Checkpoint) -> None:
        self.engine, self.base = engine, checkpoint
        try:
            self.placement: Placement = engine.placement()
        except Unplaceable as error:
            raise UsageError(f"{checkpoint.folder}: cannot be swapped in place: {error}") from None
        place = self.placement.whole
        self.whole = {name: place(name, checkpoint.shape(name)) for name in checkpoint.names}
        self.prints = {name: self.live_print(name) for name in checkpoint.names}
        self.base_prints = dict(self.prints)
        self.check_base()

    def check_base(self) -> None:
        """UsageError unless the live weights are the checkpoint's, read back through the placement."""
        for name in self.base.names:
            wanted = self.base.tensor(name).to(self.live_dtype(name))
            if self.live_print(name) != TensorPrint.of(wanted):
                raise UsageError(f"{self.base.folder}: {name} is not what the engine holds")

    def live_dtype(self, name: str) -> torch.dtype:
        return self.placement.live[self.placement.segments[name][0].target].dtype

    def live_print(self, name: str) -> TensorPrint:
        live = self.whole[name]
        if live is None:
            live = self.placement.read(name, self.base.shape(name), self.live_dtype(name))
        return TensorPrint.of(live)

    def write(self, name: str, tensor: torch.Tensor) -> None:
        self.placement.write(name, tensor)
        self.note(name)

    def note(self, name: str) -> None:
        """Take a tensor's fingerprint anew, now that it was written."""
        for live in self.placement.parameters(name):
            self.engine.wrote(live)
        self.prints[name] = self.live_print(name)

    def merge(
        self,
        names: Sequence[str],
        merge_into: Callable[[list[torch.Tensor]], Rejection | None],
    ) -> Rejection | None:
        """Have tensors of the base's shapes and dtypes written, in place where that is possible.

        After a rejection some are half written: `restore` knows which.
        """
        outs, elsewhere = list[torch.Tensor](), dict[str, torch.Tensor]()
        for name in names:
            live, dtype = self.whole[name], self.base.dtype(name)
            if live is None or live.dtype != dtype:
                live = elsewhere[name] = torch.empty(self.base.shape(name), dtype=dtype)
            else:
                self.prints.pop(name, None)  # until it is known again
            outs.append(live)
        if why := merge_into(outs):
            return why
        for name in names:
            if name in elsewhere:
                self.placement.write(name, elsewhere[name])
            self.note(name)
        return None

    def restore(self) -> None:
        """Put the base back, bit for bit, verified."""
        for name, fingerprint in self.base_prints.items():
            if self.prints.get(name) != fingerprint:
                self.write(name, self.base.tensor(name))
                assert self.prints[name] == fingerprint, f"{name} was not restored"
        self.engine.reset()

    @property
    def fingerprint(self) -> str:
        return weights_fingerprint(self.prints)
