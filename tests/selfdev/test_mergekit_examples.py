"""The kinds of configuration that mergekit ships as examples: each merges as mergekit does, or is refused.

The files here are our own, with the keys of the example of that name (mergekit 0.1.5, examples/). Models are
small float32 ones, so `dtype` is float32 where an example merges.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from selfdev_engine.bench import mergekit
from selfdev_engine.bench.synthetic import Models, Size, make_models
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.selfdev.merge import merge

TOLERANCE = 2e-5
# Name of the example -> its keys with values of our own, and what is said of it; None where it merges.
TABLE: dict[str, tuple[str, str | None]] = {
    "linear": (
        """models:
  - {model: MODEL_A, parameters: {weight: 0.8}}
  - {model: MODEL_B, parameters: {weight: 0.1}}
  - {model: MODEL_C, parameters: {weight: 0.4}}
merge_method: linear
dtype: float32
""",
        None,
    ),
    "bio-merge": (
        """models:
  - {model: MODEL_A, parameters: {density: 0.4, weight: 0.6}}
  - {model: MODEL_B, parameters: {density: 0.4, weight: 0.3}}
merge_method: ties
base_model: BASE
parameters: {normalize: false, int8_mask: true}
dtype: float32
""",
        None,
    ),
    "ties": (
        """models:
  - model: MODEL_A
    parameters: {density: [0.9, 0.2], weight: 1.0}
  - model: MODEL_B
    parameters:
      density: 0.4
      weight: [0, 1]
  - model: MODEL_C
    parameters:
      density: 0.3
      weight: [{filter: mlp, value: 0.6}, {value: 0}]
merge_method: ties
base_model: BASE
parameters: {normalize: true, int8_mask: true}
dtype: float32
""",
        ":7: models[1].parameters.weight: one value serves all tensors here; write a number in place "
        "of a gradient",
    ),
    "gradient-slerp": (
        """slices:
  - sources:
      - {model: MODEL_A, layer_range: [0, 2]}
      - {model: MODEL_B, layer_range: [0, 2]}
merge_method: slerp
base_model: MODEL_A
parameters:
  t: [{filter: mlp, value: [0, 1]}, {value: 0.5}]
dtype: float32
""",
        ":5: merge_method: slerp is not offered here: it interpolates whole weights",
    ),
    "orcamini-platy-44layer": (
        """slices:
  - sources: [{model: MODEL_A, layer_range: [0, 1]}]
  - sources: [{model: MODEL_B, layer_range: [1, 2]}]
merge_method: passthrough
dtype: float32
""",
        ":4: merge_method: passthrough is not offered here: it copies a model",
    ),
    "arcee_fusion": (
        """models: [{model: MODEL_A}, {model: MODEL_B}]
merge_method: arcee_fusion
base_model: MODEL_A
dtype: float32
""",
        ":2: merge_method: arcee_fusion is not offered here: it weighs by a softmax",
    ),
}
MERGED = [name for name, (_, says) in TABLE.items() if says is None]
REFUSED = [name for name in TABLE if name not in MERGED]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"), Size(), torch.float32, spread=0.02)


def written(name: str, models: Models, folder: Path) -> Path:
    places = dict(zip(("MODEL_A", "MODEL_B", "MODEL_C"), models.experts.values(), strict=True))
    text, file = TABLE[name][0], folder / f"{name}.yml"
    for word, place in {**places, "BASE": models.base}.items():
        text = re.sub(rf"\b{word}\b", str(place), text)
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_merged_names_key_and_line(models, tmp_path, name):
    file = written(name, models, tmp_path)
    with pytest.raises(UsageError) as caught:
        merge(file, out=tmp_path / "out")
    assert str(caught.value).startswith(f"{file}{TABLE[name][1]}")
    assert not (tmp_path / "out").exists()


def test_the_command_exits_with_2(models, tmp_path, selfdev):
    file = written("ties", models, tmp_path)
    answer = selfdev("merge", file, "--out", tmp_path / "out", "--json")
    assert answer.code == 2 and f"{file}:7: models[1].parameters.weight" in answer.json["error"]


@pytest.mark.parametrize("name", MERGED)
@pytest.mark.skipif(not mergekit.installed(), reason=mergekit.MISSING)
def test_what_is_merged_is_mergekits_update(models, tmp_path, name):
    file = written(name, models, tmp_path)
    words = mergekit.command_of_file(file, tmp_path / "theirs")
    subprocess.run(words, check=True, capture_output=True, env={"HF_HUB_OFFLINE": "1"})
    merge(file, out=tmp_path / "ours")
    # Without base_model ours counts from the first model.
    start = models.base if "base_model" in TABLE[name][0] else next(iter(models.experts.values()))
    base, ours, theirs = (
        load_file(folder / "model.safetensors")
        for folder in (start, tmp_path / "ours", tmp_path / "theirs")
    )
    assert ours.keys() == theirs.keys()
    for tensor in base:
        wanted = theirs[tensor].double() - base[tensor]
        found = ours[tensor].double() - base[tensor]
        assert wanted.any() and float((found - wanted).norm() / wanted.norm()) < TOLERANCE, tensor


def test_the_table_has_every_example():
    """mergekit 0.1.5 has these six."""
    assert sorted(TABLE) == [
        *("arcee_fusion", "bio-merge", "gradient-slerp", "linear", "orcamini-platy-44layer", "ties")
    ]
