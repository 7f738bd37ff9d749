"""Writes what the suite of the first day found as JSON, and skips it where there is no GPU."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Set to "cpu", it runs the parts that need no card on a processor, to test the suite itself.
DEVICE = os.environ.get("SELFDEV_DAY_ONE", "cuda")
RESULTS = Path(__file__).parents[2] / "runs" / "gpu-suite.json"
PARTS: dict[str, dict[str, object]] = {}


@pytest.fixture(scope="session")
def device() -> str:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine: nothing was tested on a GPU")
    return DEVICE


@pytest.fixture(scope="session")
def card(device: str) -> torch.device:
    if device != "cuda":
        pytest.skip("this part is about a card")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def backend(device: str) -> str:
    return "triton" if device == "cuda" else "cpu"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if Path(__file__).parent in item.path.parents:
        part = PARTS.setdefault(item.name, {"seconds": 0.0})
        part["seconds"] += report.duration
        if report.when == "call" or report.outcome != "passed":
            part["outcome"] = report.outcome
            part["why"] = str(report.longrepr)[-2000:] if report.outcome != "passed" else ""
    return report


def pytest_sessionfinish() -> None:
    if any(part.get("outcome") != "skipped" for part in PARTS.values()):
        there = torch.cuda.is_available()
        machine = {
            "device": torch.cuda.get_device_name() if there else platform.processor(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"machine": machine, "parts": PARTS}, indent=1) + "\n")
