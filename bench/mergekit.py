"""Runs mergekit 0.1.5 for comparison, in its own virtual environment (`make peers`).

mergekit is LGPL-3.0. It runs in processes of its own and is judged by the files that it writes.
"""

from __future__ import annotations

import json
import os
import subprocess
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
    return [str(COMMAND), str(file), str(out), "--no-copy-tokenizer", "--quiet"]


MANY = """
import json, sys
from pathlib import Path
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
for config, out, seed in json.load(sys.stdin):
    options = MergeOptions(copy_tokenizer=False, quiet=True, random_seed=seed)
    run_merge(MergeConfiguration.model_validate(config), out, options)
"""


def run_many(jobs: Sequence[tuple[Mapping[str, Any], Path, int]]) -> None:
    """Run all merges in one process, because its start takes seconds.

    A job is (configuration, new folder, seed). RuntimeError holds the end of what mergekit printed.
    """
    words = [str(COMMAND.with_name("python")), "-c", MANY]
    given = json.dumps([(config, str(out), seed) for config, out, seed in jobs])
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, input=given, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"mergekit: exit {done.returncode}: {done.stderr.strip()[-300:]}")
