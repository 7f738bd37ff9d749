"""Bases whose config.json and weights do not belong together, and files that were never filled in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident.runnable import check_runnable
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.selection import Selection

Tensors = dict[str, torch.Tensor]
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
FIRST, LAST = "model.layers.0.", "model.layers.1."


@pytest.fixture
def base(small_models, tmp_path) -> Path:
    return shutil.copytree(small_models / "base", tmp_path / "base")


def change(folder: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: change(folder, lambda tensors: tensors.pop(name))


def say(**values: object) -> Callable[[Path], None]:
    return lambda folder: configure(folder, **values)


def with_layer(folder: Path) -> None:
    """A deeper model's file under a shallower one's config."""
    change(
        folder,
        lambda t: t.update({n.replace(LAST, "model.layers.2."): x.clone() for n, x in t.items() if LAST in n}),
    )  # fmt: skip


def alike_but_short(folder: Path) -> None:
    change(folder, lambda t: [t.pop(n) for n in list(t) if n.startswith(LAST)])


CONTRADICTIONS = {
    "hidden size": (say(hidden_size=32), rf"hidden_size is 32, but {EMBEDDING} has shape \[16, 16\]"),
    "vocabulary": (say(vocab_size=32000), rf"vocab_size is 32000, but {EMBEDDING} has shape"),
    "more layers": (say(num_hidden_layers=4), r"num_hidden_layers is 4, but the weights hold no model\.layers\.2"),
    "fewer layers": (say(num_hidden_layers=1), r"num_hidden_layers is 1, but the weights hold model\.layers\.1"),
    "a deeper file": (with_layer, r"num_hidden_layers is 2, but the weights hold model\.layers\.2"),
    "a shorter file": (alike_but_short, r"num_hidden_layers is 2, but the weights hold no model\.layers\.1"),
    "width of the MLP": (say(intermediate_size=48), r"intermediate_size is 48, but .*gate_proj\.weight has shape"),
    "heads": (say(num_key_value_heads=1), r"num_key_value_heads \(1\) x head_dim is 8, but .*k_proj"),
    "width of a head": (say(head_dim=16), r"num_attention_heads \(2\) x head_dim is 32, but .*q_proj"),
    "a tensor of a layer": (without(f"{LAST}mlp.up_proj.weight"), r"the weights lack model\.layers\.1\.mlp\.up_proj"),
    "the last norm": (without("model.norm.weight"), r"the weights lack model\.norm\.weight"),
    "no head": (without(HEAD), "tie_word_embeddings is false, but the weights hold no output head"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_config_of_another_model_is_refused(base, small_models, name):
    spoil, says = CONTRADICTIONS[name]
    spoil(base)
    for check in (
        lambda: Selection.open(str(base), {"x": str(small_models / "x")}, "mlp"),
        lambda: check_runnable(Checkpoint.open(str(base)), "transformers"),
    ):
        with pytest.raises(UsageError, match=rf"config\.json: {says}.*do not belong together"):
            check()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", "16"),
        ("num_hidden_layers", True),
        ("vocab_size", -5),
        ("intermediate_size", 24.0),
        ("num_attention_heads", 0),
        ("hidden_size", {}),
    ],
)
def test_a_size_that_is_none_is_refused(base, small_models, key, value):
    configure(base, **{key: value})
    with pytest.raises(UsageError, match=rf"config\.json: {key} is .*, not a whole number from 1"):
        Selection.open(str(base), {"x": str(small_models / "x")}, "mlp")


def tied(folder: Path) -> None:
    configure(folder, tie_word_embeddings=True)
    change(folder, lambda t: t.pop(HEAD))


def tied_and_stored(folder: Path) -> None:
    configure(folder, tie_word_embeddings=True)
    change(folder, lambda t: t.update({HEAD: t[EMBEDDING].clone()}))


def filled_up(folder: Path) -> None:
    """A vocabulary of 13 words in 16 rows."""
    configure(folder, vocab_size=13, pad_vocab_size_multiple=8)


def next_word_predictor(folder: Path) -> None:
    configure(folder, num_nextn_predict_layers=1)
    with_layer(folder)


def old_rotations(folder: Path) -> None:
    change(folder, lambda t: t.update({f"{FIRST}self_attn.rotary_emb.inv_freq": torch.ones(4)}))


def of_its_own_code(folder: Path) -> None:
    configure(folder, auto_map={"AutoModel": "x.Y"}, vocab_size=5)


@pytest.mark.parametrize(
    "spoil",
    [tied, tied_and_stored, filled_up, next_word_predictor, old_rotations, of_its_own_code],
)  # fmt: skip
def test_what_loaders_accept_is_accepted(base, spoil):
    spoil(base)
    assert Selection.open(str(base), {"x": str(base)}, "mlp").names


# ---- files that were never filled in

NAMES = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(9)]


def file_of(folder: Path, shape: tuple[int, int] = (64, 128)) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file({name: torch.ones(shape) for name in NAMES}, folder / "model.safetensors")
    return folder


def blank(folder: Path, start: float, end: float, sparse: bool = False) -> None:
    """Zero a part of a file's data, as a number or as a hole."""
    file = folder / "model.safetensors"
    size, data = file.stat().st_size, file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    first, last = (header + int(share * (size - header)) for share in (start, end))
    if sparse:
        with file.open("wb") as stream:
            stream.write(data[:first])
            stream.truncate(size)
            stream.seek(last)
            stream.write(data[last:])
    else:
        file.write_bytes(data[:first] + bytes(last - first) + data[last:])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (0.5, 1, "4 of its 9 matrices are nothing but zeros"),
        (0.75, 1, "2 of its 9 matrices are nothing but zeros"),
        (0.8, 1, "all of model.layers.8.mlp.up_proj.weight, its last matrix, is zeros"),
        (0, 1, "9 of its 9"),
        (0.2, 0.9, "6 of its 9"),
        (0, 0.4, "3 of its 9"),
    ],
)
def test_a_file_that_was_not_filled_in_is_named(tmp_path, start, end, says, sparse):
    good, half = file_of(tmp_path / "good"), file_of(tmp_path / "half")
    blank(half, start, end, sparse)
    for base, expert in ((half, good), (good, half)):
        with pytest.raises(UsageError, match=rf"half/model\.safetensors: {says}.*not finished"):
            Selection.open(str(base), {"x": str(expert)}, "mlp")


def test_zeros_that_are_weights_are_taken(tmp_path):
    """Biases, a block that was switched off, rows of words that nobody uses, small matrices."""
    good, place = file_of(tmp_path / "good"), file_of(tmp_path / "place")
    tensors = load_file(place / "model.safetensors")
    tensors |= {f"model.layers.{i}.mlp.up_proj.bias": torch.zeros(40_000) for i in range(9)}
    tensors[NAMES[3]] = torch.zeros(64, 128)
    tensors["z"] = torch.zeros(8, 8)
    tensors["y"] = torch.cat([torch.ones(900, 128), torch.zeros(50, 128)])
    save_file(tensors, place / "model.safetensors")
    assert Selection.open(str(place), {"x": str(good)}, "weight").names
