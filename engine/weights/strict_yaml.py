"""Reads YAML without objects of Python, and refuses a key that is there twice, as JSON is read here."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


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


def load_yaml(text: str) -> object:
    """Parse one document. yaml.YAMLError, or RecursionError, where it is none."""
    return yaml.load(text, DistinctLoader)
