"""Reads YAML without objects of Python, and refuses a key that is there twice, as JSON is read here."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from .headers import shown

# What a person writes has a few kB; PyYAML reads some 100 kB in a second.
MOST_CHARACTERS = 1 << 20
# Values of a document, each counted wherever an alias repeats it. 450 bytes can say a billion.
MOST_VALUES = 100_000


class DistinctLoader(yaml.SafeLoader):
    """A safe loader for which a repeated key is an error: else the last one silently wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value} is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# Numbers as YAML 1.2 writes them: 1e-6 is one, while 010 and 1:30 mislead and are texts.
NUMBERS = {
    "int": r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
TAGS = {f"tag:yaml.org,2002:{kind}": re.compile(f"(?:{p})$") for kind, p in NUMBERS.items()}
DistinctLoader.yaml_implicit_resolvers = {
    first: [(tag, TAGS.get(tag, pattern)) for tag, pattern in resolvers]
    for first, resolvers in DistinctLoader.yaml_implicit_resolvers.items()
}


# Takes a repeated key, for what programs wrote. libyaml reads the same language ten times as fast.
PlainLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str, path: Path, kind: Any = DistinctLoader) -> object:
    """Parse one document by a loader of this kind; an error names the place in `path`.

    yaml.YAMLError, or RecursionError, where it is none, or stands for more than people write.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"{len(text)} characters, at most {MOST_CHARACTERS} are read")
    try:
        loader = kind(text)
    except yaml.reader.ReaderError as error:
        error.name = path.name
        raise
    # Who shows the error names the whole path.
    loader.name = path.name
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if num_values(root, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"aliases (*name) make more than {MOST_VALUES} values of it")
        return loader.construct_document(root)
    finally:
        loader.dispose()


def num_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node with all that its aliases repeat; `known` has the counts by id.

    yaml.YAMLError where an alias stands inside of what it names.
    """
    if (count := known.get(id(node))) is not None:
        if not count:
            raise yaml.YAMLError("an alias (*name) stands inside of what it names")
        return count
    # Not counted to the end yet.
    known[id(node)] = 0
    inner = node.value if isinstance(node, yaml.CollectionNode) else ()
    parts = (part for one in inner for part in (one if isinstance(one, tuple) else (one,)))
    known[id(node)] = 1 + sum(num_values(part, known) for part in parts)
    return known[id(node)]


def in_yaml(error: object) -> str:
    """Return in one line what is wrong with a YAML text, or a value of it."""
    return shown(" ".join(str(error).split()))
