"""A live model: its engine, where its tensors are, and the fingerprints of its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..errors import Rejection, UsageError
from ..weights.checkpoint import Checkpoint
from ..weights.fingerprint import TensorPrint, weights_fingerprint
from .engine import LiveEngine
from .placement import Placement, Unplaceable


class Model:
    """A live engine with its placement and the fingerprint of each tensor as it is now.

    When it is made it reads all weights back. UsageError where they are not the checkpoint's, or
    cannot be swapped in place.
    """

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
        """Raise UsageError unless the live weights are the checkpoint's.

        They are read back through the placement.
        """
        for name in self.base.names:
            wanted = self.base.tensor(name).to(self.live_dtype(name))
            if self.live_print(name) != TensorPrint.of(wanted):
                raise UsageError(f"{self.base.folder}: {name} is not what the engine holds")

    def live_dtype(self, name: str) -> torch.dtype:
        """Return the dtype in which the engine holds a checkpoint tensor."""
        return self.placement.live[self.placement.segments[name][0].target].dtype

    def live_print(self, name: str) -> TensorPrint:
        """Read a tensor back from the engine, and return its fingerprint."""
        live = self.whole[name]
        if live is None:
            live = self.placement.read(name, self.base.shape(name), self.live_dtype(name))
        return TensorPrint.of(live)

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Put a checkpoint tensor into the engine, and take its fingerprint anew."""
        self.placement.write(name, tensor)
        self.note(name)

    def note(self, name: str) -> None:
        """Take a tensor's fingerprint anew and tell the engine, now that it was written."""
        for live in self.placement.parameters(name):
            self.engine.wrote(live)
        self.prints[name] = self.live_print(name)

    def merge(
        self,
        names: Sequence[str],
        merge_into: Callable[[list[torch.Tensor]], Rejection | None],
    ) -> Rejection | None:
        """Let `merge_into` write tensors of the base's shapes and dtypes, in place where it can be.

        Returns the Rejection of `merge_into`, if any. Then some tensors are half written: `restore`
        knows which.
        """
        outs, elsewhere = list[torch.Tensor](), dict[str, torch.Tensor]()
        for name in names:
            live, dtype = self.whole[name], self.base.dtype(name)
            if live is None or live.dtype != dtype:
                live = elsewhere[name] = torch.empty(self.base.shape(name), dtype=dtype)
            else:
                # The old fingerprint no longer holds; `note` takes the new one.
                self.prints.pop(name, None)
            outs.append(live)
        if why := merge_into(outs):
            return why
        for name in names:
            if name in elsewhere:
                self.placement.write(name, elsewhere[name])
            self.note(name)
        return None

    def restore(self) -> None:
        """Put the base back, bit for bit, and verify it; then reset the engine."""
        for name, fingerprint in self.base_prints.items():
            if self.prints.get(name) != fingerprint:
                self.write(name, self.base.tensor(name))
                assert self.prints[name] == fingerprint, f"{name} was not restored"
        self.engine.reset()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all live weights together."""
        return weights_fingerprint(self.prints)
