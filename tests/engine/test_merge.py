"""Merges to disk on small real checkpoints: right, complete, and refused before anything is lost."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import Rejected, UsageError
from selfdev_engine.engine.merge import merge_to_folder
from selfdev_engine.engine.output import writer
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.weights.fingerprint import folder_fingerprint

BLEND = "def merge_models(d, device):\n    a, b = d.values()\n    return 0.5 * a + 0.25 * b\n"
UP, DOWN, NORM = "layers.0.mlp.up_proj.weight", "layers.0.mlp.down_proj.weight", "norm.weight"
SIZES = {UP: (37, 53), DOWN: (53, 37), NORM: (53,)}


@pytest.fixture
def models(tmp_path):
    draw = torch.Generator().manual_seed(3)
    base = {n: 0.02 * torch.randn(s, generator=draw) for n, s in SIZES.items()}
    made = {"base": base}
    for name in ("x", "y"):
        made[name] = {n: t + 1e-3 * torch.randn(t.shape, generator=draw) for n, t in base.items()}
    made["y"][DOWN] = made["x"][DOWN] = base[DOWN]
    for name, tensors in made.items():
        folder = tmp_path / name
        folder.mkdir()
        save_file({n: t.bfloat16() for n, t in tensors.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "none"}')
    return tmp_path


def merge(models, text=BLEND, **options):
    experts = {"x": str(models / "x"), "y": str(models / "y")}
    words = {"base": str(models / "base"), "experts": experts, "out": models / "out", **options}
    return merge_to_folder(extract(text), **words)


def test_the_update_is_right_and_the_rest_is_the_bases(models):
    report = merge(models)
    merged, base = (load_file(models / n / "model.safetensors") for n in ("out", "base"))
    x, y = (load_file(models / n / "model.safetensors")[UP].double() for n in "xy")
    wanted = 0.5 * (x - base[UP].double()) + 0.25 * (y - base[UP].double())
    exact = (base[UP].double() + wanted).bfloat16()
    assert (merged[UP].view(torch.int16).int() - exact.view(torch.int16).int()).abs().max() <= 1
    assert not torch.equal(merged[UP], base[UP])
    for name in (DOWN, NORM):  # not changed by any expert; not selected
        assert torch.equal(merged[name].view(torch.int16), base[name].view(torch.int16))
    assert (report.tier, report.tensors, report.passes) == ("fused", 1, 1)
    assert report.bytes == 37 * 53 * 2 * 4
    assert report.weights_fingerprint == folder_fingerprint(models / "out")
    assert report.weights_fingerprint != folder_fingerprint(models / "base")
    card = (models / "out" / "README.md").read_text()
    assert "0.25 * b" in card


PLACES = """
import torch
def merge_models(d, device):
    x, y = d.values()
    first = torch.where(torch.arange(len(x)) < 100, x, y)
    return first * (1 + x[60].item()) + y[5:700].sum() + 0 * x.dot(y)
"""


def test_places_of_a_vector_are_its_own_in_matrices_of_any_shape(models):
    """The two tensors have as many elements, but other rows and columns."""
    path = models / "y" / "model.safetensors"
    save_file({n: t * (n != DOWN) + (n == DOWN) * 0.01 for n, t in load_file(path).items()}, path)
    assert merge(models, PLACES).tier == "fused"
    base, x, y, merged = (
        load_file(models / name / "model.safetensors") for name in ("base", "x", "y", "out")
    )
    for name in (UP, DOWN):
        a, b = ((t[name].float() - base[name].float()).flatten() for t in (x, y))
        wanted = torch.cat([a[:100], b[100:]]) * (1 + a[60]) + b[5:700].sum()
        found = merged[name].float() - base[name].float()
        assert (found.flatten() - wanted).abs().max() <= 2**-8 * merged[name].abs().max()


@pytest.mark.parametrize("factor", ["0.0", "1e-9"])
def test_a_result_that_equals_the_base_is_said(models, factor):
    """Also where rounding takes a small update away."""
    text = f"def merge_models(d, device):\n    return {factor} * sum(d.values())\n"
    said = "the result equals the base: the update is 0, or too small for the dtype, in each of 1 tensors"
    assert merge(models, text).notes[0] == said
    assert not [note for note in merge(models, out=models / "b").notes if "equals" in note]


def test_an_empty_update_is_the_base_bit_for_bit(models):
    zero = "import torch\ndef merge_models(d, device):\n    return torch.zeros_like(d['x'])\n"
    assert merge(models, zero).weights_fingerprint == folder_fingerprint(models / "base")


@pytest.mark.parametrize(
    ("spoil", "culprit"),
    [
        (lambda m: {"include": "(["}, r"\(\["),
        (lambda m: {"include": "nothing_here"}, "nothing_here"),
        (lambda m: {"backend": "abacus"}, "abacus"),
        (lambda m: {"out": m / "base"}, "base"),
        (lambda m: {"base": str(m / "nowhere")}, "nowhere"),
        (
            lambda m: (m / "y" / "model.safetensors").write_bytes(b"\0" * 40) and {},
            "model.safetensors",
        ),
        (lambda m: (m / "y" / "model.safetensors").unlink() or {}, "y"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(models, spoil, culprit):
    options = spoil(models)
    with pytest.raises(UsageError, match=culprit):
        merge(models, **options)
    assert not (models / "out").exists()
    assert not list(models.glob(".out*"))


def test_a_nan_in_an_expert_is_the_checkpoints_fault(models):
    path = models / "y" / "model.safetensors"
    tensors = load_file(path)
    tensors[UP][3, 4] = torch.nan
    save_file(tensors, path)
    with pytest.raises(UsageError, match=f"{UP}.*expert y"):
        merge(models)


def test_a_nan_of_the_program_is_a_rejection(models):
    with pytest.raises(Rejected) as found:
        merge(models, "def merge_models(d, device):\n    return d['x'] / (d['y'] - d['y'])\n")
    assert found.value.rejection.kind == "nonfinite"
    assert not (models / "out").exists()


def test_what_is_there_is_kept_unless_overwrite_is_given(models):
    """And what others put beside it is never deleted."""
    merge(models)
    with pytest.raises(UsageError, match="overwrite"):
        merge(models)
    (models / "out" / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"holds mine\.txt, which no merge wrote"):
        merge(models, overwrite=True)
    assert (models / "out" / "mine.txt").read_text() == "precious"
    (models / "out" / "mine.txt").unlink()
    merge(models, overwrite=True)
    assert json.loads((models / "out" / "config.json").read_text()) == {"model_type": "none"}


def test_pickled_weights_are_refused_with_the_recipe(models):
    (models / "x" / "model.safetensors").unlink()
    (models / "x" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UsageError, match="save_pretrained"):
        merge(models)


def test_a_merge_that_takes_too_long_is_a_rejection(models, monkeypatch):
    monkeypatch.setattr(writer, "MERGE_S", -60.0)
    with pytest.raises(Rejected, match=f"merging took more than -60 s; {UP} was reached") as caught:
        merge(models)
    assert caught.value.rejection.kind == "timeout"
    assert not (models / "out").exists()
