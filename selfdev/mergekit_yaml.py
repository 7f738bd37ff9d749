"""Reads a mergekit configuration as a merge of ours: the models, a built-in method and its parameters.

The format is that of mergekit 0.1.5 (`mergekit-yaml config.yml out`). One set of parameters serves all
tensors here, so gradients, filters (but those that `export --mergekit` writes) and slices that differ are
refused, as are methods that need whole weights. Each refusal names the file, the line and the key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..engine.errors import UsageError, did_you_mean
from ..engine.weights.config_keys import LAYERS
from ..engine.weights.small_file import read_text
from ..engine.weights.strict_yaml import DistinctLoader, in_yaml, load_yaml
from .mergekit_filters import ALL, without_filters
from .mergekit_methods import METHODS, Lookup, Method, Source
from .methods import RAW_WEIGHTS
from .parameters import Value

if TYPE_CHECKING:
    from ..engine.weights.selection import Selection

SUFFIXES = (".yml", ".yaml")
# Weights of 0 leave a tensor as the base has it, so filters may choose the tensors.
WITH_FILTERS = "task_arithmetic"
# Keys that change nothing here: `name` only names a configuration among several.
KEYS = (
    "merge_method",
    "base_model",
    "models",
    "slices",
    "parameters",
    "dtype",
    "out_dtype",
    "name",
)
MODEL_KEYS = ("model", "parameters", "layer_range")
SLICE_KEYS = ("sources", "parameters")
# Keys that would change tokens or parts of a model, which a merge of ours takes from the base.
REFUSED = {
    "modules": "models of several modules are not merged here; merge the text model by `models`",
    "tokenizer": "tokens are not changed here; the result has the base's tokenizer",
    "chat_template": "the result has the base's chat template; leave the key out",
}


@dataclass(frozen=True)
class Keys:
    """Where the keys of a file stand; makes the errors about them."""

    file: Path
    lines: Mapping[str, int]

    def fault(self, key: str, words: str) -> UsageError:
        """Return the error for a key; the line is that of the innermost part of it that the file has."""
        place = key
        while place and place not in self.lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return UsageError(f"{self.file}:{self.lines.get(place, 1)}: {key}: {in_yaml(words)}")

    def check(self, key: str, entry: object, known: Sequence[str]) -> None:
        """UsageError for an unknown key of a mapping, with the nearest known one."""
        for word in map(str, entry) if isinstance(entry, dict) else ():
            if word not in known:
                place = f"{key}.{word}" if key else word
                raise self.fault(place, f"unknown key{did_you_mean(word, known)}")

    def settings(self, key: str, value: object) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.fault(key, "write parameters as NAME: VALUE")
        return {str(name): one for name, one in value.items()}

    def place(self, key: str, value: object) -> str:
        """Return a model's place. UsageError for what is no text, and for a model with an adapter."""
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.fault(key, "write a folder or a hub id")
        if "+" in value and not Path(value).exists():
            raise self.fault(
                key, "a model with an adapter (MODEL+LORA); merge the adapter into it first"
            )
        return value


@dataclass(frozen=True)
class Recipe:
    """A merge as a configuration says it. `dtype` is that of the result, where the file names one.

    `layers` is where slices end that must cover the base, or None without slices. `include` says which
    tensors are merged.
    """

    keys: Keys
    method: str
    base: str
    experts: dict[str, str]
    params: dict[str, Value]
    dtype: str | None
    layers: int | None
    notes: tuple[str, ...] = ()
    include: str = ALL

    def check(self, selection: Selection) -> None:
        """Raise UsageError where the base has another dtype, or layers that the slices leave out."""
        base = selection.base
        stored = {base.entries[name].dtype for name in selection.names}
        if self.dtype and stored - {self.dtype}:
            key = "out_dtype" if "out_dtype" in self.keys.lines else "dtype"
            words = (
                f"the base is stored in {', '.join(sorted(stored))}, and a merge keeps its dtypes"
            )
            raise self.keys.fault(key, f"{words}; leave the key out")
        layers = next((base.config[key] for key in LAYERS if key in base.config), None)
        if self.layers not in (None, layers):
            words = (
                f"end at layer {self.layers}; the base has {layers} layers, and all are merged here"
            )
            raise self.keys.fault("slices", words)


def is_configuration(program: str) -> bool:
    """Whether a command's PROGRAM is a mergekit configuration, by its name."""
    return program.lower().endswith(SUFFIXES)


def read_configuration(path: Path) -> Recipe:
    """Read a configuration. UsageError names the file, the line and the key that is not merged here."""
    text = read_text(path)
    try:
        data, lines = load_yaml(text, path), lines_of(yaml.compose(text, DistinctLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {in_yaml(error)}") from None
    keys = Keys(path, lines)
    if not isinstance(data, dict) or "merge_method" not in data:
        words = list(map(str, data)) if isinstance(data, dict) else []
        if near := difflib.get_close_matches("merge_method", words, 1):
            keys.check("", {near[0]: None}, KEYS)
        raise UsageError(f"{path}: not a mergekit configuration: it lacks the key merge_method")
    return Configuration(keys, data).recipe()


def lines_of(node: yaml.Node | None, key: str = "") -> dict[str, int]:
    """Map each key, such as models[0].parameters.weight, to its line, from 1."""
    found = {key: node.start_mark.line + 1} if node and key else {}
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = f"{key}.{name.value}" if key else str(name.value)
            found |= lines_of(value, inner) | {inner: name.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found |= lines_of(value, f"{key}[{number}]")
    return found


@dataclass(frozen=True)
class Models:
    """Reads the models of a configuration, from `models` or from `slices`."""

    keys: Keys
    data: Mapping[str, Any]

    def sources(self) -> tuple[list[Source], int | None]:
        """Return the models, and where slices end that must cover the base."""
        models, slices = self.data.get("models"), self.data.get("slices")
        if (models is None) == (slices is None):
            raise self.keys.fault("models", "write either models or slices, and one of them")
        if models is not None:
            return self.distinct(list(self.listed("models", models))), None
        return self.joined(slices)

    def listed(self, key: str, value: object) -> Iterator[Source]:
        if not isinstance(value, list) or not value:
            raise self.keys.fault(key, "write a list of models")
        for number, entry in enumerate(value):
            at = f"{key}[{number}]"
            self.keys.check(at, entry, MODEL_KEYS)
            if not isinstance(entry, dict) or "model" not in entry:
                raise self.keys.fault(at, "write model: a folder or hub id")
            own = self.keys.settings(f"{at}.parameters", entry.get("parameters"))
            yield Source(self.keys.place(f"{at}.model", entry["model"]), at, own)

    def distinct(self, sources: list[Source]) -> list[Source]:
        places = [source.place for source in sources]
        for number, source in enumerate(sources):
            if source.place in places[:number]:
                raise self.keys.fault(f"{source.key}.model", "the model is there twice")
        return sources

    def joined(self, slices: object) -> tuple[list[Source], int]:
        """Return the models of slices that follow each other and say the same of every model."""
        if not isinstance(slices, list) or not slices:
            raise self.keys.fault("slices", "write a list of slices")
        first, end = list[Source](), 0
        for number, entry in enumerate(slices):
            at = f"slices[{number}]"
            self.keys.check(at, entry, SLICE_KEYS)
            if not isinstance(entry, dict) or not isinstance(entry.get("sources"), list):
                raise self.keys.fault(at, "write sources: a list of models with layer_range")
            shared = self.keys.settings(f"{at}.parameters", entry.get("parameters"))
            here = [
                Source(s.place, s.key, {**shared, **s.parameters})
                for s in self.distinct(list(self.listed(f"{at}.sources", entry["sources"])))
            ]
            end = self.end_of(f"{at}.sources", entry["sources"], end)
            first = first or here
            if [(s.place, s.parameters) for s in here] != [(s.place, s.parameters) for s in first]:
                raise self.keys.fault(
                    at, "differs from the first slice; all layers are merged alike here"
                )
        return first, end

    def end_of(self, key: str, sources: list[Any], begin: int) -> int:
        """Return the layer after a slice. UsageError where it does not begin at layer `begin` of each model."""
        ranges = [source.get("layer_range") for source in sources]
        for number, one in enumerate(ranges):
            at = f"{key}[{number}].layer_range"
            whole = isinstance(one, list) and len(one) == 2 and all(type(n) is int for n in one)
            if not whole or one[1] <= one[0]:
                raise self.keys.fault(at, "write [first layer, layer after the last]")
            if one[0] != begin or one != ranges[0]:
                raise self.keys.fault(
                    at, f"layers are merged once and in order here; write [{begin}, ...]"
                )
        return ranges[0][1]


@dataclass(frozen=True)
class Configuration:
    """A parsed configuration on its way to a Recipe."""

    keys: Keys
    data: Mapping[str, Any]

    def recipe(self) -> Recipe:
        self.check_keys()
        method = self.method()
        sources, layers = Models(self.keys, self.data).sources()
        base = self.base(method, sources)
        merged = [s for s in sources if s.place != base or method.counts_base]
        if not [s for s in merged if s.place != base]:
            raise self.keys.fault("models", "no model is left beside the base")
        look = Lookup(
            self.keys.settings("parameters", self.data.get("parameters")), self.keys.fault
        )
        include = ALL
        if str(self.data["merge_method"]) == WITH_FILTERS:
            merged, include = without_filters(merged)
        params, notes = method.params(look, merged, base)
        experts = named([s.place for s in merged if s.place != base])
        dtype = self.dtype()
        return Recipe(self.keys, method.ours, base, experts, params, dtype, layers, notes, include)

    def check_keys(self) -> None:
        for key in map(str, self.data):
            if key in REFUSED:
                raise self.keys.fault(key, REFUSED[key])
            if key == "tokenizer_source":
                continue
            self.keys.check("", {key: None}, KEYS)

    def method(self) -> Method:
        name = str(self.data["merge_method"])
        if found := METHODS.get(name):
            return found
        if name in RAW_WEIGHTS:
            raise self.keys.fault(
                "merge_method", f"{name} is not offered here: {RAW_WEIGHTS[name]}"
            )
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise self.keys.fault(
            "merge_method", f"no method {name!r}; {hint}there are {', '.join(METHODS)}"
        )

    def base(self, method: Method, sources: Sequence[Source]) -> str:
        """Return the base's place. Where it may be missing, the first model takes its part."""
        given = self.data.get("base_model")
        if given is None and not method.counts_base:
            raise self.keys.fault(
                "merge_method", "this method needs base_model: a folder or hub id"
            )
        base = sources[0].place if given is None else self.keys.place("base_model", given)
        kept = self.data.get("tokenizer_source", "base")
        if kept not in ("base", base):
            raise self.keys.fault("tokenizer_source", "the result has the tokenizer of the base")
        return base

    def dtype(self) -> str | None:
        """Return the dtype that the result should have."""
        key = "out_dtype" if self.data.get("out_dtype") is not None else "dtype"
        found = self.data.get(key)
        if found is not None and found not in ("float16", "bfloat16", "float32"):
            raise self.keys.fault(key, "write float16, bfloat16 or float32")
        return found


def named(places: Sequence[str]) -> dict[str, str]:
    """Name each expert by the last part of its place; what would be there twice gets a number."""
    found: dict[str, str] = {}
    for place in places:
        own = Path(place).name or place
        name, number = own, 2
        while name in found:
            name, number = f"{own}-{number}", number + 1
        found[name] = place
    return found
