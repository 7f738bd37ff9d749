"""Reads YAML without objects of Python, and refuses a key that is there twice, as JSON is read here."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from .headers import shown


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


def load_yaml(text: str, path: Path) -> object:
    """Parse one document; an error names the place in `path`. yaml.YAMLError, or RecursionError, where it is none."""
    try:
        loader = DistinctLoader(text)
    except yaml.reader.ReaderError as error:
        error.name = path.name
        raise
    # Who shows the error names the whole path.
    loader.name = path.name
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def in_yaml(error: object) -> str:
    """Return in one line what is wrong with a YAML text, or a value of it."""
    return shown(" ".join(str(error).split()))
