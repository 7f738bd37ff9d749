"""Says for each merge method of mergekit 0.1.5 which built-in method computes it, and with which parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.errors import UsageError, did_you_mean
from .parameters import LEAST_SUM, Value

ONE_SET = "one value serves all tensors here; write a number in place of"
DRAWS = "its draws are other ones than mergekit's"
RESCALED = "survivors are divided by density; mergekit restores each tensor's L1 norm"


@dataclass(frozen=True)
class Source:
    """A model of a configuration: its place, where it stands, and the parameters that are its own."""

    place: str
    key: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Lookup:
    """Finds parameters as mergekit does: a model's own first, then the `shared` ones.

    `fault` makes the error for a key.
    """

    shared: Mapping[str, Any]
    fault: Callable[[str, str], UsageError]
    # Names that were asked for, and one that has no counterpart here.
    used: set[str] = field(default_factory=lambda: {"int8_mask"})

    def of_all(self, name: str, default: Value) -> Value:
        """Return a setting of the whole merge: a number, or true or false where the default is."""
        self.used.add(name)
        key, value = f"parameters.{name}", self.shared.get(name, default)
        return (
            bool(self.plain(key, value)) if isinstance(default, bool) else self.number(key, value)
        )

    def of_model(self, name: str, source: Source, default: float | None) -> float:
        """Return a model's number. UsageError where it is missing and has no default."""
        self.used.add(name)
        key = f"{source.key}.parameters.{name}"
        value = source.parameters.get(name)
        if value is None:
            key = f"parameters.{name}" if name in self.shared else key
            value = self.shared.get(name, default)
        if value is None:
            raise self.fault(key, "is missing; this method needs it for each model")
        found = self.number(key, value)
        if name == "density" and not 0 < found <= 1:
            raise self.fault(key, "write a number over 0, at most 1")
        return found

    def number(self, key: str, value: object) -> float:
        plain = self.plain(key, value)
        if isinstance(plain, bool) or not math.isfinite(plain):
            raise self.fault(key, "write a number")
        return float(plain)

    def plain(self, key: str, value: object) -> bool | int | float:
        """Return a value that holds for all tensors; filters and gradients do not."""
        if isinstance(value, list | dict):
            filters = isinstance(value, dict) or any(isinstance(v, dict) for v in value)
            raise self.fault(key, f"{ONE_SET} {'a filter' if filters else 'a gradient'}")
        if not isinstance(value, bool | int | float):
            raise self.fault(key, "write a number, or true or false where the method asks that")
        return value

    def unused(self, sources: Sequence[Source]) -> list[str]:
        """Return a note for each parameter that the method does not have; mergekit ignores it, too.

        UsageError for one that no method has and that is nearly one of this method's: it was misspelt.
        """
        given = [(f"parameters.{name}", name) for name in self.shared]
        given += [(f"{s.key}.parameters.{name}", name) for s in sources for name in s.parameters]
        unused = [(key, name) for key, name in given if name not in self.used]
        for key, name in unused:
            if name not in KNOWN and (hint := did_you_mean(name, self.used)):
                has = f"it has {', '.join(sorted(self.used))}"
                raise self.fault(key, f"this method has no such parameter{hint} {has}")
        return [f"{key}: is not used by this method" for key, _ in unused]


@dataclass(frozen=True)
class Method:
    """How a method of mergekit is computed here by the built-in method `ours`.

    `weights`, `each`, `same` and `once` are mergekit's parameters with their defaults: whether each
    model has a weight, numbers of each model under our name, numbers that must be equal for all models,
    and values of the whole merge under our name. `fixed` may only have that value.
    """

    ours: str
    weights: bool = True
    each: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    same: Mapping[str, float] = field(default_factory=dict)
    once: Mapping[str, tuple[str, Value]] = field(default_factory=dict)
    fixed: Mapping[str, Value] = field(default_factory=dict)
    # Whether the weights are divided by their sum here, unless the configuration says otherwise.
    divides: bool | None = None
    # Whether the base has a weight of its own, as one of the models.
    counts_base: bool = False
    notes: tuple[str, ...] = ()

    def params(
        self, look: Lookup, sources: Sequence[Source], base: str
    ) -> tuple[dict[str, Value], tuple[str, ...]]:
        """Return our parameters for these models, and notes on what differs. UsageError names a key."""
        params = dict[str, Value]()
        experts = [source for source in sources if source.place != base]
        if self.weights:
            params["weights"] = joined(self.shares(look, sources, base))
        for name, (ours, default) in self.each.items():
            params[ours] = joined([look.of_model(name, s, default) for s in experts])
        for name, default in self.same.items():
            params[name] = self.equal(look, name, experts, default)
        for name, (ours, default) in self.once.items():
            params[ours] = look.of_all(name, default)
        for name, value in self.fixed.items():
            if look.of_all(name, value) != value:
                said = str(value).lower()
                raise look.fault(f"parameters.{name}", f"only {said} is offered here")
        return params, (*self.notes, *look.unused(sources))

    def shares(self, look: Lookup, sources: Sequence[Source], base: str) -> list[float]:
        """Return the experts' weights, divided by the sum of all where the merge does so."""
        weights = {s.place: look.of_model("weight", s, None) for s in sources}
        total = sum(weights.values())
        divides = self.divides is not None and bool(look.of_all("normalize", self.divides))
        if self.counts_base and not divides and not math.isclose(total, 1.0, rel_tol=1e-6):
            raise look.fault(
                "parameters.normalize",
                f"the weights add up to {total:g}, so the base would be scaled",
            )
        if divides and abs(total) < LEAST_SUM:
            words = "the weights add up to 0, and this method divides by their sum; give others"
            hint = "" if self.counts_base else ", or normalize: false"
            raise look.fault("models", words + hint)
        by = total if divides else 1.0
        return [weight / by for place, weight in weights.items() if place != base]

    def equal(self, look: Lookup, name: str, experts: Sequence[Source], default: float) -> float:
        """Return a number that is the same for all models."""
        found = [look.of_model(name, source, default) for source in experts]
        for source, value in zip(experts, found, strict=True):
            if value != found[0]:
                key = f"{source.key}.parameters.{name}"
                raise look.fault(key, f"{self.ours} has one {name} for all models here")
        return found[0]


def joined(numbers: Sequence[float]) -> str:
    """Write numbers as our methods take them; each text gives the same float64 back."""
    return ",".join(map(repr, numbers))


SCALE = {"lambda": ("scale", 1.0)}
SUM = {"normalize": False, "rescale": False}
DENSITY = {"density": 1.0}
METHODS: dict[str, Method] = {
    "linear": Method("task_arithmetic", divides=True, counts_base=True),
    "task_arithmetic": Method("task_arithmetic", once=SCALE, divides=False),
    "ties": Method(
        *("ties", True, {"density": ("densities", 1.0)}),
        once={**SCALE, "normalize": ("normalize", True)},
        fixed={"rescale": False},
    ),
    "breadcrumbs": Method("breadcrumbs", same={**DENSITY, "gamma": 0.01}, once=SCALE, fixed=SUM),
    "breadcrumbs_ties": Method(
        "breadcrumbs_ties", same={**DENSITY, "gamma": 0.01}, once=SCALE, fixed=SUM
    ),
    "dare_linear": Method(
        "dare_linear",
        same=DENSITY,
        fixed={"normalize": False, "rescale": True, "lambda": 1.0},
        notes=(DRAWS, RESCALED),
    ),
    "dare_ties": Method(
        "dare_ties",
        same=DENSITY,
        fixed={"normalize": False, "rescale": True, "lambda": 1.0},
        notes=(DRAWS, RESCALED),
    ),
    "della": Method(
        "della",
        same={**DENSITY, "epsilon": 0.15},
        once=SCALE,
        fixed={"normalize": True, "rescale": True},
        notes=(DRAWS,),
    ),
    "della_linear": Method(
        "della_linear",
        same={**DENSITY, "epsilon": 0.15},
        fixed={"normalize": False, "rescale": True, "lambda": 1.0},
        notes=(DRAWS,),
    ),
    "model_stock": Method("model_stock", weights=False, fixed={"filter_wise": False}),
    "sce": Method("sce", weights=False, once={"select_topk": ("select_topk", 1.0)}),
    "nuslerp": Method("nuslerp", fixed={"nuslerp_row_wise": False, "nuslerp_flatten": True}),
}
# Parameters of mergekit's methods: these, and those of the methods that are not offered.
KNOWN = {
    *(
        "weight",
        "normalize",
        "int8_mask",
        "t",
        "scale",
        "eps",
        "normalize_weights",
        "max_iter",
        "tol",
    ),
    *(
        name
        for m in METHODS.values()
        for known in (m.each, m.same, m.once, m.fixed)
        for name in known
    ),
}
