"""docs/loop.md describes every setting of a run, with the default that the config has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

from pydantic import BaseModel
from selfdev_engine.selfdev.config import RunConfig

PAGE = Path(__file__).parents[2] / "docs" / "loop.md"
ROW = re.compile(
    r"^\| `([\w.]+)` \| ([^|]+) \| ([^|]+) \| (ours|paper [\w.]+) \| ([^|]+) \|$", re.M
)


def settings_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (setting, default as it is written) of a section and those in it."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_of(kind, f"{prefix}{name}.")
            continue
        yield (
            prefix + name,
            "required" if field.is_required() else f"`{written(field.get_default())}`",
        )
        if get_origin(kind) is dict:
            yield from settings_of(get_args(get_args(kind)[1])[0], f"{prefix}{name}.NAME.")


def written(value: object) -> str:
    """A default as YAML has it."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def test_every_setting_is_described_with_its_default():
    described = {name: default for name, _, default, _, _ in ROW.findall(PAGE.read_text())}
    assert described == dict(settings_of(RunConfig))


def test_a_row_has_a_unit_a_source_and_a_meaning():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROW.findall("\n".join(rows))) > 40
