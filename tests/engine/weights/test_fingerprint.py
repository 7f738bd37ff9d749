"""Fingerprints: equal bits have equal ones, wherever they are and in whatever pieces they are read."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from selfdev_engine.engine.weights.checkpoint import Checkpoint
from selfdev_engine.engine.weights.contents import PIECE_BYTES, contents_fingerprint
from selfdev_engine.engine.weights.fingerprint import (
    TensorPrint,
    folder_fingerprint,
    is_comparable,
    tensor_prints,
    weights_fingerprint,
)
from selfdev_engine.kernels.digest import digest

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.int8)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """Tensors of many sizes; one is larger than a piece that is read from a file at once."""
    shapes = [(), (0,), (3,), (37, 53), (PIECE_BYTES // 4 + 5, 3)]
    draw = torch.Generator().manual_seed(0)
    return {
        f"{dtype} {shape}": (100 * torch.randn(shape, generator=draw)).to(dtype)
        for dtype in DTYPES
        for shape in shapes[: 5 if dtype is torch.float32 else 4]
    }


def test_live_weights_and_files_have_one_fingerprint(tensors, tmp_path):
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    live = dict(zip(tensors, tensor_prints(list(tensors.values()), 2), strict=True))
    wanted = weights_fingerprint(live)
    assert is_comparable(wanted) and not is_comparable(wanted.removeprefix("nh-"))
    assert folder_fingerprint(tmp_path) == wanted
    assert contents_fingerprint(Checkpoint.open(str(tmp_path))) == wanted


def test_a_print_is_of_the_bits_in_c_order(tensors):
    for tensor in tensors.values():
        data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert TensorPrint.of(tensor).digest == digest(data)
    matrix = torch.randn(40, 50)
    assert TensorPrint.of(matrix.T) == TensorPrint.of(matrix.T.contiguous())
    assert TensorPrint.of(matrix.T).digest != TensorPrint.of(matrix).digest
    assert TensorPrint.of(torch.zeros(2, 3)) != TensorPrint.of(torch.zeros(3, 2))
    assert tensor_prints([]) == []
