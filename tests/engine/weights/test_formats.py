"""What a folder of weights may be: safetensors' malformed headers, missing and double files, disguises.

Each is refused in one line that names the file and what to do; what safetensors reads, we read.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.files import INDEX
from selfdev_engine.engine.weights.headers import read_header
from selfdev_engine.engine.weights.locate import check_utf8, known_as
from selfdev_engine.engine.weights.selection import Selection

UP = "layers.0.mlp.up_proj.weight"
TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def write(file: Path, header: object, size: int = 16, **more: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = more.get("raw", text)
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return file


def changed(**fields: object) -> dict:
    return {"a": {**TENSOR, **fields}}


def two(first: list[int], second: list[int], shape: list[int] = TENSOR["shape"]) -> dict:
    offsets = {"a": first, "b": second}
    return {name: {**TENSOR, "shape": shape, "data_offsets": o} for name, o in offsets.items()}


MALFORMED = {  # header -> what the line says; the data are 16 bytes
    "not_json": (b'{"a": ', "not a safetensors file"),
    "not_utf8": (b'{"\xff\xfe": 1}', "not a safetensors file"),
    "not_an_object": (b"[1, 2]", "no object"),
    "byte_order_mark": (b'\xef\xbb\xbf{"a": {}}', "not a safetensors file"),
    "deep": (b"[" * 20_000, "not a safetensors file"),
    "many_digits": (b'{"a": ' + b"9" * 5000 + b"}", "not a safetensors file"),
    "a_key_twice": (b'{"a": {"dtype": "F32"}, "a": {"dtype": "F32"}}', "a is there twice"),
    "nan": (
        b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}}',
        "NaN is no number",
    ),
    "infinite": (
        b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 16]}}',
        "1e999 is out of range",
    ),
    "infinite_where_nobody_looks": (
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], "x": 1e999}}',
        "1e999 is",
    ),
    "negative_zero": (
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [-0, 16]}}',
        r"-0\.0 is no size",
    ),
    "half_of_a_pair_in_a_name": ({"\ud800": TENSOR}, "surrogates not allowed"),
    "half_of_a_pair_in_metadata": (
        {"__metadata__": {"x": "\udfff"}, **changed()},
        "surrogates not",
    ),
    "a_byte_that_is_no_text": (b"\xff", "header of 1 bytes"),
    "a_brace": (b"{", "header of 1 bytes"),
    "a_comma_too_many": (
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},}',
        "not a safetensors",
    ),
    "a_zero_byte_after_it": (json.dumps({"a": TENSOR}).encode() + b"\0", "not a safetensors"),
    "ten_in_one_place": ({f"weight_{i}": TENSOR for i in range(10)}, "weight_1: overlaps"),
    "more_than_64_bits_hold": (changed(shape=[2, 2**64 - 2]), "is no size"),
    "more_than_memory_holds": (changed(shape=[2, 2**63 - 1]), "no memory holds"),
    "cut_off_by_two": ({"a": {"dtype": "U8", "shape": [18], "data_offsets": [0, 18]}}, "cut off"),
    "another_file_after_it": (
        {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}},
        "14 bytes follow",
    ),
    "a_gap_between": (two([0, 4], [12, 16], [1]), "b: leaves a gap"),
    "half_an_overlap": (two([0, 12], [8, 16]), "do not fit|overlaps"),
    "a_name_of_another_case": (changed(dtype="f32"), "f32"),
    "torchs_name": (changed(dtype="float32"), "float32"),
    "quantised_in_half_bytes": (
        changed(dtype="F4", shape=[32]),
        "a: is of dtype F4, which is quantised",
    ),
    "a_fraction": (changed(shape=[2.0, 2]), r"2\.0 is no size"),
    "a_truth": (changed(shape=[True, 4]), "True is no size"),
    "a_text": (changed(shape=["2", "2"]), "'2' is no size"),
    "no_list": (changed(shape=4), "not a list"),
    "negative": (changed(shape=[-2, -2]), "-2 is no size"),
    "beyond_64_bits": (changed(shape=[0, 2**70], data_offsets=[0, 0]), "is no size"),
    "hidden_by_a_zero": (changed(shape=[0, 2**40, 2**40], data_offsets=[0, 0]), "no memory holds"),
    "of_many_dimensions": (changed(shape=[1] * 100), "not a list"),
    "an_unknown_dtype": (changed(dtype="F4"), "F4"),
    "no_fields": ({"a": []}, "a: a header entry"),
    "no_offsets": ({"a": {"dtype": "F32", "shape": [2, 2]}}, "data_offsets"),
    "three_offsets": (changed(data_offsets=[0, 8, 16]), "a: a header entry"),
    "backwards": (changed(data_offsets=[16, 0]), "do not fit"),
    "another_size": (changed(shape=[2, 3]), r"do not fit its shape \[2, 3\]"),
    "beyond_the_end": ({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}, "cut off"),
    "a_gap_first": (changed(shape=[2], data_offsets=[8, 16]), "a: leaves a gap"),
    "overlap": (two([0, 16], [0, 16]), "b: overlaps"),
    "too_short": (changed(shape=[2], data_offsets=[0, 8]), "8 bytes follow"),
    "metadata_of_numbers": ({"__metadata__": {"x": 1}, **changed()}, "__metadata__"),
    "metadata_of_a_list": ({"__metadata__": [], **changed()}, "__metadata__"),
    "a_long_name": ({"x" * 90_000: {**TENSOR, "shape": [3]}}, r"x\.\.\. \(90000 characters\)"),
}
# safetensors reads them, or some versions do.
LENIENT = {"not_an_object", "a_key_twice", "of_many_dimensions", "quantised_in_half_bytes"}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_header_is_one_line(tmp_path, name):
    header, says = MALFORMED[name]
    file = write(tmp_path / "model.safetensors", header)
    with pytest.raises(UsageError, match=says) as found:
        read_header(file)
    assert str(file) in str(found.value) and len(str(found.value)) < 600
    if name not in LENIENT:
        with (
            pytest.raises((SafetensorError, ValueError, OverflowError)),
            safe_open(file, "pt") as f,
        ):
            f.get_tensor(next(iter(f.keys())))


@pytest.mark.parametrize("length", [0, 1, 40, 1 << 40, 1 << 63, (1 << 64) - 1])
def test_a_header_of_an_absurd_length(tmp_path, length):
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(UsageError, match=f"a header of {length} bytes"):
        read_header(file)


def test_what_safetensors_reads_is_read(tmp_path):
    """No padding, tensors in another order than their bytes, scalars, empty ones, spaces at the end."""
    header = {
        "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
        "none": {"dtype": "F32", "shape": [0, 5], "data_offsets": [4, 4]},
        "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
        "c": {"dtype": "I64", "shape": [1], "data_offsets": [4, 12]},
    }
    write(tmp_path / "model.safetensors", json.dumps(header).encode() + b"   ")
    found, wanted = Checkpoint.open(str(tmp_path)), load_file(tmp_path / "model.safetensors")
    for name, tensor in wanted.items():
        assert torch.equal(found.tensor(name), tensor)
        assert torch.equal(found.mapped(name), tensor)


FIELDS = {
    "dtype": ("F32", "U8", "BF16", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "C64", "F128", "", None, 4, ["F32"]),
    "shape": ([4], [2, 2], [], [0], [1] * 8, [2, 0, 2], [-4], [4.0], ["4"], [None], [[4]], {}, "4", None, 4),
    "data_offsets": ([0, 16], [0, 4], [0, 0], [16, 16], [16, 0], [-16, 0], [0.0, 16.0], [0], [], [0, 8, 16], None),
    "more": (1, "x", None, [1, {"a": 2}]),
}  # fmt: skip
METADATA = (
    None,
    {},
    {"format": "pt"},
    {"": ""},
    {"a": 1},
    {"a": None},
    {"a": {"b": "c"}},
    [],
    "x",
    0,
)
AROUND = (
    b"%s ",
    b" %s",
    b"\t\n%s\r\n",
    b"%s\0",
    b"\0%s",
    b"%s{}",
    b"%s,",
    b"[%s]",
    b"\xef\xbb\xbf%s",
)


def variants() -> list[bytes]:
    """Return headers that differ from a good one in one or two fields, or in what is around it."""
    good = json.dumps(changed()).encode()
    one = [changed(**{name: value}) for name, values in FIELDS.items() for value in values]
    one += [
        changed(shape=s, data_offsets=o) for s in FIELDS["shape"] for o in FIELDS["data_offsets"]
    ]
    one += [changed(dtype=d, shape=s) for d in FIELDS["dtype"] for s in FIELDS["shape"]]
    one += [{"__metadata__": value, **changed()} for value in METADATA]
    one += [{name: TENSOR} for name in ("", "\0", "é", "/", "__metadata", "__METADATA__")]
    return [*(json.dumps(header).encode() for header in one), *(around % good for around in AROUND)]


def test_header_by_header_what_safetensors_says(tmp_path):
    """What it refuses is refused; what it reads is read."""
    read = 0
    for header in variants():
        file = write(tmp_path / "model.safetensors", header)
        try:
            wanted: dict | None = load_file(file)
        except (SafetensorError, ValueError, OverflowError):
            wanted = None
        try:
            found: dict | None = dict(read_header(file))
        except UsageError:
            found = None
        shapes = {n: tuple(t.shape) for n, t in wanted.items()} if wanted else wanted
        assert (found and {n: e.shape for n, e in found.items()}) == shapes, header
        read += wanted is not None
    assert 20 < read < len(variants()) - 200


# ---- folders


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    save_file({UP: torch.zeros(2, 3)}, place / "model.safetensors")
    (place / "config.json").write_text('{"model_type": "llama"}')
    return place


def save(place: Path, *names: str) -> None:
    save_file({name: torch.zeros(2, 3) for name in names}, place)


def index(folder: Path, **where: str) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": where}))


def shards(folder: Path, *names: str) -> None:
    (folder / "model.safetensors").unlink()
    for i, name in enumerate(names):
        save(folder / name, f"t{i}")


def adapter(folder: Path, *more: str) -> None:
    shards(folder)
    save(folder / "adapter_model.safetensors", "x.lora_A.weight")
    (folder / "adapter_config.json").write_text("{}")


def disguised(start: bytes):
    return lambda f: (f / "model.safetensors").write_bytes(start + b"x" * 100)


FOLDERS = {
    "first_shard_missing": (lambda f: shards(f, "m-00002-of-00002.safetensors"), "m-00001-of-00002"),
    "last_shard_missing": (lambda f: shards(f, "m-1-of-3.safetensors", "m-2-of-3.safetensors"), "m-3-of-3"),
    "shards_of_two_sets": (lambda f: shards(f, "m-1-of-1.safetensors", "n-1-of-1.safetensors"), "two sets"),
    "an_absurd_total": (lambda f: shards(f, "m-1-of-99999999999.safetensors"), "m-2-of-9999"),
    "an_index_of_absent": (lambda f: index(f, a="m-1-of-2.safetensors"), "m-1-of-2.safetensors: no such"),
    "an_index_beside": (lambda f: (save(f / "a.safetensors", "a"), index(f, a="a.safetensors")), "two sets"),
    "an_index_that_lies": (lambda f: index(f, **{UP: "model.safetensors", "b": "model.safetensors"}), "hold b"),
    "an_index_of_paths": (lambda f: index(f, a="../model.safetensors"), "no name of a file"),
    "an_index_of_long_names": (lambda f: index(f, a="a" * 70_000 + ".safetensors"), "no name of a file"),
    "an_index_of_numbers": (lambda f: (f / INDEX).write_text('{"weight_map": {"a": 1}}'), "1 is no"),
    "an_index_of_lists": (lambda f: (f / INDEX).write_text('{"weight_map": []}'), "no mapping"),
    "an_index_twice": (lambda f: (f / INDEX).write_text('{"weight_map": {"a": "b", "a": "c"}}'), "twice"),
    "an_index_pointer": (lambda f: (f / INDEX).write_text("version https://git-lfs.github"), "LFS"),
    "a_backup": (lambda f: save(f / "backup.safetensors", UP), r"model\.safetensors: .* backup\.safe"),
    "something_beside": (lambda f: save(f / "extra.safetensors", "v"), r"extra\.safetensors: lies beside"),
    "an_adapter": (adapter, "is an adapter"),
    "an_adapter_that_has_no_weights": (
        lambda f: (adapter(f), (f / "adapter_config.json").write_text('{"peft_type": "P_TUNING"}')),
        r"P_TUNING; .*changes no weights: it cannot be merged",
    ),
    "an_adapter_of_another_kind": (
        lambda f: (adapter(f), (f / "adapter_config.json").write_text('{"peft_type": "IA3"}')),
        r"is an adapter \(IA3; adapter_config",
    ),
    "an_adapter_saved_whole": (lambda f: save(f / "model.safetensors", "base_model.model.q.lora_A.weight"), "LoRA"),
    "no_weights": (shards, "holds no"),
    "gguf": (lambda f: (shards(f), (f / "m.gguf").write_text("GGUF")), "GGUF"),
    "one_folder_deeper": (lambda f: (shards(f), (f / "in").mkdir(), save(f / "in/m.safetensors", "a")), "in/ in it"),
    "no_tensor": (lambda f: write(f / "model.safetensors", {}, 0), "hold no tensor"),
    "a_pipe": (lambda f: (shards(f), os.mkfifo(f / "model.safetensors")), "no regular file"),
    "a_dangling_link": (
        lambda f: (shards(f), (f / "model.safetensors").symlink_to("nowhere")),
        r"model\.safetensors: a link that leads to no file \(nowhere\)",
    ),
    "an_empty_file": (lambda f: (f / "model.safetensors").write_bytes(b""), "empty"),
    "a_pointer": (disguised(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a_page": (disguised(b"\n<!DOCTYPE html><html>"), "web page"),
    "an_answer_of_a_server": (disguised(b'{"error": "Repository not found"}'), r"a text that begins with .*not found"),
    "zeros": (lambda f: (f / "model.safetensors").write_bytes(bytes(4096)), "nothing but zeros"),
    "a_tar": (disguised(b"model.safetensors".ljust(257, b"\0") + b"ustar\0"), "a tar archive: unpack it"),
    "a_zip": (disguised(b"PK\x03\x04"), "zip"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_no_whole_model_is_refused(folder, name):
    spoil, says = FOLDERS[name]
    spoil(folder)
    with pytest.raises(UsageError, match=says) as found:
        Checkpoint.open(str(folder))
    assert str(folder) in str(found.value) and len(str(found.value)) < 600


def test_what_loaders_leave_out_is_left_out(folder):
    """An adapter beside the weights, Mistral's own format, and what macOS keeps of a copied file."""
    (folder / "._model.safetensors").write_bytes(b"\0\5\26\7" + bytes(90))
    save(folder / "adapter_model.safetensors", "x.lora_A.weight")
    save(folder / "consolidated.safetensors", UP, "other")
    assert Checkpoint.open(str(folder)).names == (UP,)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json: no such file"),
        (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "names no model_type"),
        (lambda f: (f / "config.json").write_text("[" + "[],\n" * (1 << 20) + "[]]"), "which is too much"),
        (lambda f: (f / "config.json").write_text('\ufeff{"model_type": "llama"}'), r"config\.json: not JSON: .*BOM"),
        (lambda f: (f / "config.json").write_text('{"model_type": "llama"}', "utf-16"), r"config\.json: not JSON"),
        (lambda f: (f / "config.json").write_text("<html>"), "web page"),
        (lambda f: save_file({UP: torch.zeros(2, 3).double()}, f / "model.safetensors"), "is float64"),
        (lambda f: save_file({UP: torch.zeros(6, 1).char()}, f / "model.safetensors"), "is quantised"),
        (lambda f: save(f / "model.safetensors", UP, f"{UP}.absmax"), rf"is quantised \(.*{UP}\.absmax"),
        (lambda f: save(f / "model.safetensors", "layers.0.mlp.up_proj.qweight"), "is quantised"),
        (
            lambda f: (f / "config.json").write_text(
                '{"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}'
            ),
            r"is quantised \(gptq; quantization_config",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused_by_its_true_reason(folder, tmp_path, spoil, says):
    good = tmp_path / "good"
    good.mkdir()
    for path in folder.iterdir():
        (good / path.name).write_bytes(path.read_bytes())
    spoil(folder)
    with pytest.raises(UsageError, match=says):
        Selection.open(str(folder), {"x": str(good)}, "mlp")
    if (
        "weights" in says or "quantised" in says or "float64" in says
    ):  # the others are the base's alone
        with pytest.raises(UsageError, match=says):
            Selection.open(str(good), {"x": str(folder)}, "mlp")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("models--org--some-model/snapshots/0123abc", "org/some-model"),
        ("models--org--two--parts/snapshots/0123abc", "org/two--parts"),
        ("models--gpt2/snapshots/0123abc", "gpt2"),
        ("org/some-model", "some-model"),
    ],
)
def test_a_model_is_known_by_its_hub_id(tmp_path, place, name):
    assert known_as(tmp_path / place) == name


def test_a_model_that_is_given_twice_is_said(folder, tmp_path):
    """An expert that is the base adds nothing, whatever its path; equal starts alone are no sign."""
    same, other = tmp_path / "same", tmp_path / "other"
    for place in (same, other):
        place.mkdir()
        save_file({UP: torch.zeros(80, 30)}, place / "model.safetensors")
    save_file({UP: torch.zeros(80, 30)}, folder / "model.safetensors", {"more": "x"})
    tensor = torch.zeros(80, 30)
    tensor[-1, -1] = 1
    save_file({UP: tensor}, other / "model.safetensors")
    words = {"x": str(same), "y": str(other), "z": str(other)}
    assert Selection.open(str(folder), words, "mlp").notes == (
        "expert x has the values of the base in all 1 selected tensors, wherever they were compared: it adds nothing",
        "expert z has the values of expert y in all 1 selected tensors, wherever they were compared: they are one model, given twice",
    )


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("~nobody-of-that-name/model", "no home is known for its first part"),
        ("https://huggingface.co/org/model/tree/main", "an address; write the hub id, org/model$"),
        ("file:///model", "no such model folder"),
    ],
)
def test_a_place_that_is_none_is_said(place, says):
    with pytest.raises(UsageError, match=f"^{place}: {says}"):
        Checkpoint.open(place)


@pytest.mark.parametrize("before", ["_orig_mod.", "_fsdp_wrapped_module.", "module."])
def test_an_expert_with_a_wrapper_s_names_says_so(folder, tmp_path, before):
    (tmp_path / "x").mkdir()
    save(tmp_path / "x" / "model.safetensors", before + UP)
    with pytest.raises(UsageError, match=rf"lacks {UP}; it has {before}{UP}: save it again"):
        Selection.open(str(folder), {"x": str(tmp_path / "x")}, "mlp")


def test_what_an_expert_has_beyond_the_base_is_said(folder, tmp_path):
    """A deeper expert's last blocks; not its rotations, and not a head that repeats its embedding."""
    (tmp_path / "x").mkdir()
    more = [f"layers.{i}.mlp.up_proj.weight" for i in (1, 2)]
    save(tmp_path / "x" / "model.safetensors", UP, *more, "lm_head.weight", "rotary_emb.inv_freq")
    found = Selection.open(str(folder), {"x": str(tmp_path / "x")}, "all").notes
    said = [note for note in found if "lacks" in note]
    assert len(said) == 1 and f"left out (2, such as {more[0]})" in said[0]


@pytest.mark.parametrize("name", ["model.safetensors", "extra.safetensors"])
def test_weights_that_cannot_be_read_are_named(tmp_path, name):
    """A failing disk says so when it is read. This file of the kernel does, though it looks regular."""
    write(tmp_path / "model.safetensors", {"a": TENSOR})
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("/proc/self/mem")
    with pytest.raises(UsageError, match=f"{name}: cannot be read: Input/output error"):
        Checkpoint.open(str(tmp_path))


def test_a_path_that_is_no_utf8_is_said(tmp_path):
    """Tokenizers open none, and said that the file is damaged; config.yaml could not be read again."""
    check_utf8(tmp_path / "Ümlaut mit Leerzeichen")
    with pytest.raises(UsageError, match="its path is no UTF-8: rename it"):
        check_utf8(Path(os.fsdecode(b"/models/m\xf6del")))
