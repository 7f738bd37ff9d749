"""Measuring a command from outside, and the checkpoints that the rows write for it."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file
from selfdev_engine.bench.process import usage_of
from selfdev_engine.bench.rows import growth, merge
from selfdev_engine.bench.synthetic import HALF_BILLION, Size, make_models, weights

HOLD = """import subprocess, sys, time
if sys.argv[1:]:
    subprocess.run([sys.executable, "-c", sys.argv[1]])
held = bytearray(64 << 20)
time.sleep(0.3)"""


def test_memory_is_that_of_the_whole_tree():
    alone = usage_of([sys.executable, "-c", HOLD])
    below = usage_of([sys.executable, "-c", HOLD, HOLD.replace("sys.argv[1:]", "0")])
    assert alone.peak_rss_bytes > 64 << 20
    assert below.peak_rss_bytes > alone.peak_rss_bytes
    assert alone.seconds >= 0.3
    assert alone.cpu_s > 0


def test_a_command_that_fails_is_an_error_that_says_why():
    with pytest.raises(RuntimeError, match=r"exit 3: no such luck"):
        usage_of(
            [
                sys.executable,
                "-c",
                "import sys; print('no such luck', file=sys.stderr); sys.exit(3)",
            ]
        )


def test_synthetic_checkpoints_are_of_the_size_they_say(tmp_path):
    size = Size(layers=3)
    models = make_models(tmp_path, size, torch.bfloat16, spread=0.1)
    base, expert = (load_file(file) for file in models.files[:2])
    assert sum(t.numel() for t in base.values()) == size.num_parameters
    assert {n: tuple(t.shape) for n, t in base.items()} == size.shapes()
    delta = (expert["lm_head.weight"].float() - base["lm_head.weight"].float()).std()
    assert float(delta) == pytest.approx(0.1, rel=0.1)
    kind = list(dict.fromkeys(size.shapes().values())).index(size.shapes()["lm_head.weight"])
    again = weights(size.shapes()["lm_head.weight"], kind, 0, 0.1)
    assert torch.equal(base["lm_head.weight"], again.bfloat16())


def test_the_rows_are_of_the_sizes_they_say():
    assert HALF_BILLION.num_parameters == pytest.approx(0.5e9, rel=0.02)
    sizes = [growth.replace(growth.BASE, layers=n).num_parameters for n in growth.LAYERS]
    assert sizes[0] == pytest.approx(13e6, rel=0.1)
    assert sizes[-1] == pytest.approx(1e9, rel=0.02)


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
def test_the_exponent_leaves_out_what_does_not_grow(k):
    parameters = (10, 30, 100, 300, 1000)
    assert growth.exponent(parameters, [2 + 0.1 * p**k for p in parameters]) == pytest.approx(k)


@pytest.mark.parametrize("name", [n for n, m in merge.METHODS.items() if not m.random])
def test_the_judge_of_a_merge_rejects_the_base_and_a_wrong_scale(name, tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "JUDGED", "model.layers.0.mlp.up_proj.weight")
    models, method = make_models(tmp_path, Size(), torch.bfloat16, spread=5e-3), merge.METHODS[name]
    base, *experts = (load_file(file) for file in models.files)

    def write(scale: float) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        merged = {
            n: (
                t.double() + scale * method.update([e[n].double() - t.double() for e in experts])
            ).bfloat16()
            for n, t in base.items()
        }
        merge_file = tmp_path / "out" / "model.safetensors"
        merge_file.unlink(missing_ok=True)
        from safetensors.torch import save_file

        save_file(merged, merge_file)

    write(1.0)
    merge.judge(method, models, tmp_path / "out")
    for scale in (0.0, 0.9):
        write(scale)
        with pytest.raises(AssertionError, match="of the elements differ"):
            merge.judge(method, models, tmp_path / "out")
