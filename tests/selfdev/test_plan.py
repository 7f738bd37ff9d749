"""`run --plan` and `screen --plan`: from config and headers, without torch, the hub or a card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from selfdev_engine.selfdev.capacity import render_plan
from selfdev_engine.selfdev.config import load_config

REPO = Path(__file__).parents[2]
PAPER = REPO / "configs" / "paper-gsm8k.yaml"
CODE = (
    "import sys; from selfdev_engine.selfdev import cli\ntry: cli.main()\n"
    "finally: assert 'torch' not in sys.modules"
)


def command(*words: object) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the object of a command with --json. It must not load torch."""
    line = [sys.executable, "-P", "-c", CODE, *map(str, words), "--json"]
    said = subprocess.run(line, capture_output=True, text=True, cwd=REPO, timeout=100, check=False)
    assert "AssertionError" not in said.stderr, said.stderr
    return said.returncode, json.loads(said.stdout)


@pytest.mark.parametrize("name", [p.name for p in (REPO / "configs").glob("*.yaml")])
def test_the_configs_of_the_repository_are_read(name):
    assert load_config(REPO / "configs" / name).samples


def test_a_writer_from_the_hub_has_its_own_engine_and_no_task_names():
    """The code model is asked in words of the config, and is not the base."""
    config = load_config(REPO / "configs" / "coder.yaml")
    assert config.generator_place.count("/") == 1 and config.generator_place != config.base
    assert config.generation.prompt == "default" and all(e.about for e in config.experts.values())


def test_the_papers_run_on_a_machine_that_is_not_here():
    code, found = command("run", PAPER, "--plan", "--gpus", "8xH100-80GB")
    plan = found["plan"]
    assert code == 0
    assert plan["samples"] == 9000  # the counts stand beside it
    assert len(plan["devices"]) == 8
    for device in plan["devices"]:
        assert device["terms"].keys() >= {"weights", "kv_cache", "bank", "reserve"}
        assert sum(device["terms"].values()) <= device["bytes"]
        assert sum(device["training"].values()) <= device["bytes"]
    assert plan["kv_tokens"] >= plan["sequences"] * 1356
    assert {"scoring", "sampling", "training", "driver", "starts"} <= plan["stages"].keys()
    shared = ("scoring", "sampling", "training", "test")
    work = max(sum(plan["stages"][name] for name in shared), plan["stages"]["driver"])
    assert plan["seconds"] == pytest.approx(work + plan["stages"]["starts"], abs=1)
    assert plan["assumed"]["memory_share"] == 0.8 and plan["notes"] == []


def test_the_papers_run_without_a_card_is_planned_or_refused(monkeypatch):
    """It depends on this machine's memory which."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    code, found = command("run", PAPER, "--plan")
    assert code in (0, 2)
    assert code == 2 or found["plan"]["devices"][0]["name"] == "cpu"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plan", "--gpus", "1x16GB"), "the largest is weights"),
        (("--plan", "--gpus", "2x24GB"), "training on 24GB"),
        (("--plan", "--gpus", "8xBrick"), "Brick is no card known here"),
        (("--plan", "--gpus", "H100"), "write COUNTxCARD"),
        (("--gpus", "8xH100"), "is for --plan only"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words, said):
    code, found = command("run", PAPER, *words)
    assert code == 2
    assert said in found["error"] and "\n" not in found["error"]


def test_models_that_nobody_knows_are_named(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(PAPER.read_text().replace("GAIR/Abel-7B-002", "nobody/unknown"))
    code, found = command("run", config, "--plan", "--gpus", "1xH100")
    assert code == 0
    assert found["plan"]["notes"] == [
        "expert nobody/unknown (nobody/unknown) is not downloaded, and its shapes are not known: counted as the base"
    ]
    config.write_text(PAPER.read_text().replace("openchat/openchat-3.5-1210", "nobody/unknown"))
    code, found = command("run", config, "--plan", "--gpus", "1xH100")
    assert code == 0 and "devices" not in found["plan"]
    assert found["plan"]["notes"][0].startswith("base (nobody/unknown) is not downloaded")


def test_a_screening_is_planned_from_headers(zoo, tmp_path):
    program = tmp_path / "p.py"
    program.write_text("def merge_models(d, device):\n    return sum(d.values())\n")
    task = next(iter(zoo.tasks.values()))
    words = ["screen", program, *zoo.models, "--task", f"jsonl:{task}", "--run", tmp_path / "run"]
    code, found = command(*words, "--plan", "--gpus", "1xL4")
    assert code == 0, found
    assert found["plan"]["programs"] == 1 and len(found["plan"]["devices"]) == 1
    assert found["plan"]["stages"]["sampling"] == found["plan"]["stages"]["training"] == 0
    assert not (tmp_path / "run").exists()
    code, found = command(*words, "--plan", "--include", "(")
    assert code == 2 and "regular expression" in found["error"]


def test_a_long_name_does_not_touch_its_value():
    assert "Abel-7B-002 not" in render_plan(
        {"weights of expert GAIR/Abel-7B-002": "not downloaded"}
    )
