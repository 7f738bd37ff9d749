"""Runs mergekit 0.1.5 for comparison, in its own virtual environment (`make peers`).

mergekit is LGPL-3.0. It runs in processes of its own and is judged by the files that it writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COMMAND = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "mergekit-yaml"
MISSING = "mergekit is not installed: `make peers` puts it into .venv-peers"
Params = Mapping[str, Any]


def installed() -> bool:
    return COMMAND.is_file()


def recipe(
    method: str,
    base: Path,
    experts: Mapping[str, Path],
    *,
    dtype: str,
    shared: Params | None = None,
    each: Sequence[Params] = (),
    with_base: bool = True,
) -> dict[str, Any]:
    """A configuration for mergekit.

    `each` holds the parameters of every expert in order, `shared` those of the method.
    """
    own = each or [{} for _ in experts]
    models = [
        {"model": str(place), "parameters": dict(params)}
        for place, params in zip(experts.values(), own, strict=True)
    ]
    below = {"base_model": str(base)} if with_base else {}
    given = {"parameters": dict(shared)} if shared else {}
    return {"merge_method": method, **below, "models": models, **given, "dtype": dtype}


def command(config: Mapping[str, Any], out: Path) -> list[str]:
    """The command line. Writes the configuration beside `out`, as JSON, which is valid YAML."""
    file = out.with_suffix(".yml")
    file.write_text(json.dumps(config))
    return command_of_file(file, out)


def command_of_file(file: Path, out: Path) -> list[str]:
    """The command line for a configuration that is there already."""
    return [str(COMMAND), str(file), str(out), "--no-copy-tokenizer", "--quiet"]
