"""A fault of one card, or of a cache that is being written, is no fault of the model: the worker is started anew."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident import vllm_engine
from selfdev_engine.engine.resident.messages import EngineSettings
from selfdev_engine.engine.weights.checkpoint import Checkpoint


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error"), torch.AcceleratorError),
        (SyntaxError("vllm_compile_cache.py"), SyntaxError),
        (ValueError("no such layer"), UsageError),
    ],
)
def test_the_model_is_blamed_for_its_own_faults_alone(zoo, monkeypatch, error, raised):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=refuse, __version__="0.26.0"))
    monkeypatch.setattr(vllm_engine.os, "environ", {})
    with pytest.raises(raised):
        vllm_engine.VllmEngine(Checkpoint.open(str(zoo.base)), EngineSettings())
