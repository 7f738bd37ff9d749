"""Seeded samples of many long prompts that differ, from vLLM on the CPU."""

from __future__ import annotations

import random

import pytest
from selfdev_engine.engine.resident.client import Client
from selfdev_engine.engine.resident.messages import EngineSettings, Sampling

pytestmark = pytest.mark.engine

NUM_PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 40, 470, 12


def test_seeded_prompts_are_read_whole_and_samples_repeat(zoo, tmp_path):
    """They do not fit into one step of the engine, which must not read one in pieces.

    The second call finds nothing that the first one left, neither of prompts nor of draws.
    """
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789 "
    prompts = ["".join(draw.choices(letters, k=8 * PROMPT_TOKENS)) for _ in range(NUM_PROMPTS)]
    settings = EngineSettings()
    assert settings.max_num_batched_tokens < NUM_PROMPTS * PROMPT_TOKENS
    sampling, seeds = Sampling(NEW_TOKENS, temperature=1.0), range(NUM_PROMPTS)
    folder = str(zoo.generator)
    with Client.start(settings, tmp_path / "engine.log") as worker:
        worker.hold_model("generator", folder)
        first = worker.sample("generator", folder, prompts, sampling, seeds)
        second = worker.sample("generator", folder, prompts, sampling, seeds)
        other = worker.sample("generator", folder, prompts, sampling, [s + 99 for s in seeds])
    assert len(first) == NUM_PROMPTS and all(one.num_tokens for one in first)
    assert first == second != other


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_an_answer_says_how_it_ended(zoo, tmp_path, engine):
    """By a text that stops it, by the model's own end, or cut: the greedy writer does all three."""
    prompt, folder = (zoo.generator / "prompt.txt").read_text(), str(zoo.generator)
    with Client.start(EngineSettings(engine=engine), tmp_path / "engine.log") as worker:
        worker.hold_model("generator", folder)
        ways = (Sampling(160), Sampling(160, stop=("return",)), Sampling(4))
        found = [worker.sample("generator", folder, [prompt], way, [0])[0] for way in ways]
    assert [one.finish_reason for one in found] == ["end", "stop", "length"]
    assert "return" in found[0].text and "return" not in found[1].text
