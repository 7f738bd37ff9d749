"""A live model: its engine, where its tensors are, and the fingerprints of its weights."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Mapping, Sequence

import torch

from ..errors import Rejection, UsageError
from ..weights.adapter import Adapter
from ..weights.checkpoint import Checkpoint
from ..weights.fingerprint import TensorPrint, tensor_prints, weights_fingerprint
from .engine import LiveEngine
from .parts import Parts
from .placement import Placement, Unplaceable

# Dtypes of weights that are merged.
MERGED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Model:
    """A live engine with its placement and the fingerprint of each tensor as it is now.

    When it is made it reads all weights back. UsageError where they are not the checkpoint's, or
    cannot be swapped in place. Weights have the fingerprint of a checkpoint that holds them: in the
    checkpoint's dtypes, whatever those of the engine are, and with tied heads and constants that the
    engine does not hold apart.
    """

    def __init__(self, engine: LiveEngine, checkpoint: Checkpoint) -> None:
        self.engine, self.base, self.parts = engine, checkpoint, Parts.of(checkpoint)
        self.names = self.parts.own
        try:
            self.placement: Placement = engine.placement(self.parts)
        except Unplaceable as error:
            raise UsageError(
                f"{checkpoint.folder}: {engine.name} cannot swap its weights in place: {error}"
                f"{engine.advice}"
            ) from None
        place = self.placement.whole
        self.whole = {name: place(name, checkpoint.shape(name)) for name in self.names}
        self.prints = dict[str, TensorPrint]()
        # The engine's own values when they were last known, where their dtype is not the checkpoint's.
        self.seen = dict[str, TensorPrint]()
        # The kernels on the CPU have as many, too: the pool of threads stays as it is.
        self.num_threads = len(os.sched_getaffinity(0))
        for name, live in self.live_prints(self.names).items():
            self.check_base(name, live)
        for name in self.parts.left_out:
            self.prints[name] = self.print_of(checkpoint.tensor(name))
        self.base_prints = dict(self.prints)

    def check_base(self, name: str, live: TensorPrint) -> None:
        """Raise UsageError unless the live tensor, whose fingerprint this is, is the checkpoint's.

        So too where the checkpoint's holds NaN or Inf: a merge of it is refused, and it answers nothing.
        """
        tensor = self.base.tensor(name)
        if live != self.print_of(tensor.to(self.live_dtype(name))):
            raise UsageError(
                f"{self.base.folder}: {self.engine.name} holds other values of {name} than the file: "
                f"they changed meanwhile, or the engine computes with them{self.engine.advice}"
            )
        if not is_finite(tensor):
            file = self.base.entries[name].file
            raise UsageError(f"{file}: {name} holds NaN or Inf, so no answer of this model counts")
        self._known(name, live, tensor)

    def live_dtype(self, name: str) -> torch.dtype:
        """Return the dtype in which the engine holds a checkpoint tensor."""
        return self.engine_tensor(name).dtype

    def engine_tensor(self, name: str) -> torch.Tensor:
        """Return the engine's tensor that holds a checkpoint tensor, or its first part."""
        return self.placement.live[self.placement.segments[name][0].target]

    def live_prints(self, names: Sequence[str]) -> dict[str, TensorPrint]:
        """Read tensors where the engine holds them, and return their fingerprints.

        A tensor that is not in one piece there is copied for it, one after the other.
        """
        whole = {name: live for name in names if (live := self.whole[name]) is not None}
        prints = tensor_prints(list(whole.values()), self.num_threads)
        found = dict(zip(whole, prints, strict=True))
        for name in names:
            if name not in found:
                live = self.placement.read(name, self.base.shape(name), self.live_dtype(name))
                found[name] = self.print_of(live)
        return found

    def print_of(self, tensor: torch.Tensor) -> TensorPrint:
        return tensor_prints([tensor], self.num_threads)[0]

    def read_again(self) -> str:
        """Read all live weights, and return their fingerprint."""
        live = self.live_prints(self.names)
        same = {name: self.prints[name] for name in live if live[name] == self.seen.get(name)}
        found = {**self.prints, **live, **same}
        heads = {head: found[embedding] for head, embedding in self.parts.ties.items()}
        return weights_fingerprint({**found, **heads})

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Put a checkpoint tensor into the engine, and take its fingerprint anew."""
        tensor = tensor.to(self.base.dtype(name))
        self.placement.write(name, tensor)
        self.note({name: tensor})

    def note(self, written: Mapping[str, torch.Tensor | None]) -> None:
        """Take tensors' fingerprints anew and tell the engine, now that they were written.

        The values are what was written, in the checkpoint's dtype; None where it was written in place,
        which means that the engine has the same dtype.
        """
        for name in written:
            for live in self.placement.parameters(name):
                self.engine.wrote(live)
        for name, found in self.live_prints(list(written)).items():
            self._known(name, found, written[name])

    def _known(self, name: str, live: TensorPrint, tensor: torch.Tensor | None) -> None:
        """Keep a tensor's fingerprint: that of `tensor` where the engine's dtype is another."""
        self.prints[name] = live
        if self.live_dtype(name) != self.base.dtype(name):
            assert tensor is not None, name
            self.seen[name], self.prints[name] = live, self.print_of(tensor)
        for head, embedding in self.parts.ties.items():
            if embedding == name:
                self.prints[head] = self.prints[name]

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
                device = self.engine_tensor(name).device
                live = torch.empty(self.base.shape(name), dtype=dtype, device=device)
                elsewhere[name] = live
            else:
                # The old fingerprint no longer holds; `note` takes the new one.
                self.prints.pop(name, None)
            outs.append(live)
        if why := merge_into(outs):
            return why
        for name in names:
            if name in elsewhere:
                self.placement.write(name, elsewhere[name])
        self.note({name: elsewhere.get(name) for name in names})
        return None

    def restore(self, but: Container[str] = ()) -> None:
        """Put the base back, bit for bit, in all tensors but these; then reset the engine."""
        for name in self.names:
            if name not in but and self.prints.get(name) != self.base_prints[name]:
                self.write(name, self.base.tensor(name))
                assert self.prints[name] == self.base_prints[name], f"{name} was not restored"
        self.engine.reset()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all live weights together."""
        return weights_fingerprint(self.prints)


def is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds no NaN or Inf. It takes one pass at the speed of memory.

    A single number may be infinite: some models keep a bound so.
    """
    if not tensor.numel() or not tensor.dim() or tensor.dtype not in MERGED:
        return True
    return all(map(math.isfinite, map(float, tensor.aminmax())))


def load_into(model: Model, checkpoint: Checkpoint, adapter: Adapter | None = None) -> None:
    """Write another checkpoint's tensors into a live model, with an adapter folded in, if one is given.

    UsageError where they do not fit.
    """
    for name in model.names:
        if name not in checkpoint.entries or checkpoint.shape(name) != model.base.shape(name):
            raise UsageError(f"{checkpoint.folder}: {name} does not fit the model that is loaded")
    for name in model.names:
        tensor = checkpoint.tensor(name)
        if adapter:
            tensor = adapter.fold(name, tensor.to(model.engine_tensor(name).device))
        model.write(name, tensor)
    model.engine.reset()
