"""Control arms: their settings, what they draw and learn from, and how they are compared."""

from __future__ import annotations

from html import unescape
from types import SimpleNamespace

import pytest
import yaml
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.arm_results import arm_verdict
from selfdev_engine.selfdev.arm_run import ArmRun
from selfdev_engine.selfdev.arms import PRESETS
from selfdev_engine.selfdev.cli.run import render_run
from selfdev_engine.selfdev.config import RunConfig, load_config
from selfdev_engine.selfdev.estimate import samples_of, stages_of
from selfdev_engine.selfdev.figures import figures
from selfdev_engine.selfdev.learning import Lesson, scored_programs
from selfdev_engine.selfdev.prompts import opening, prompt_of
from selfdev_engine.selfdev.report import write_report
from selfdev_engine.selfdev.report.page import data_of
from selfdev_engine.selfdev.results import iteration_summary, names_to_test, run_result

PLAIN = {"base": "b", "experts": {"x": "x", "y": "y", "z": "z"}, "task": "gsm8k"}


def load(tmp_path, arms, **more):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**PLAIN, **more, "arms": arms}))
    return load_config(tmp_path / "c.yaml")


def test_presets_change_one_thing_each(tmp_path):
    config = load(tmp_path, list(PRESETS))
    main, *others = config.all_arms
    assert (main.name, main.learn, main.writer) == ("main", "dpo", "model")
    found = {arm.name: (arm.writer, arm.learn, arm.is_permuted) for arm in others}
    assert found == {
        "no_learning": ("model", "none", False),
        "sft": ("model", "sft", False),
        "permuted": ("model", "dpo", True),
        "random_programs": ("grammar", "none", False),
        "in_context": ("elites", "none", False),
        "linear": ("coefficients", "none", False),
        "cma_es": ("cma_es", "none", False),
        "task_arithmetic_with_zeros": ("grid", "none", False),
    }
    assert all(arm.seed == main.seed and arm.temperature == main.temperature for arm in others)
    assert RunConfig(**config.model_dump(mode="json")) == config
    # Counted by `run --plan`: nine arms, of which three train twice.
    assert (samples_of(config), stages_of(config)) == (9 * 3 * 3000, 3 * 2)
    (again,) = load(tmp_path, {"again": "sft"}).all_arms[1:]
    assert (again.name, again.learn) == ("again", "sft")
    hot = load(tmp_path, {"hot": {"temperature": 2, "seed": 7}}).all_arms[1]
    assert (hot.temperature.at(3), hot.seed, hot.learn) == (2.0, 7, "dpo")
    assert (main.sample_id(1, 2), hot.sample_id(1, 2)) == ("i1-2", "i1-2@hot")


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        (["no_lerning"], r"arms: 'no_lerning' is no preset; did you mean 'no_learning'\?"),
        (["sft", "sft"], r"arms: 'sft' is given twice"),
        ("sft", r"arms: write a list of presets or a mapping of arms, not 'sft'"),
        ({"a": {"lern": "sft"}}, r"unknown key 'arms\.a\.lern'; did you mean 'learn'\?"),
        (
            {"a": {"temperature": {"inital": 1}}},
            r"'arms\.a\.temperature\.inital'; did you mean 'initial'",
        ),
        ({"a": {"writer": "gramar"}}, r"arms\.a\.writer: write .*; did you mean 'grammar'\?"),
        ({"a": "sfd"}, r"arms\.a: 'sfd' is no preset; did you mean 'sft'\?"),
        ({"a": {"writer": "grid", "learn": "dpo"}}, r"arms\.a\.learn: is for `writer: model`"),
        ({"a": {"writer": "grid", "temperature": 1}}, r"arms\.a\.temperature: is for a model"),
        ({"a": {"scores": "permuted", "learn": "none"}}, r"arms\.a\.scores: nobody learns"),
        ({"a": {}}, r"arms\.a: differs from the run's own arm in nothing"),
        ({"main": {"learn": "sft"}}, r"arms\.main: is the run's own arm"),
        ({"a/b": "sft"}, r"arms\.a/b: write a name of letters"),
    ],
)
def test_a_fault_names_its_key_and_the_nearest_word(tmp_path, arms, says):
    with pytest.raises(UsageError, match=says):
        load(tmp_path, arms)


def test_the_grammar_is_for_three_experts(tmp_path):
    with pytest.raises(UsageError, match=r"arms\.random_programs\.writer: .*three experts, not 2"):
        load(tmp_path, ["random_programs"], experts={"x": "x", "y": "y"})


def test_the_best_programs_stand_in_the_prompt_of_an_arm_that_shows_them(tmp_path):
    config = load(tmp_path, ["in_context"])
    plain, code = prompt_of(config, tmp_path), "def merge_models(d, device):\n    return d['x']"
    assert plain == prompt_of(load(tmp_path, []), tmp_path) and "{{" not in plain
    shown = prompt_of(config, tmp_path, [f"```python\n{code}\n```"])
    assert f"the best first\n\n```python\n{code}\n```\n\n## Second example" in shown
    assert opening(shown) == opening(plain)
    (tmp_path / "prompt.txt").write_text("def merge_models(")
    with pytest.raises(UsageError, match=r"arms\.in_context: the prompt has no place"):
        prompt_of(config, tmp_path)


# Right answers of ten on dev, by arm and iteration; None for a program that does not run.
RIGHT = {
    "main": ([3, 4, 5, None], [8, 8, 9, 7, 8, 9]),
    "no_learning": ([3, 4, 5, None], [4, 5, None, 3, 4, 5]),
    "permuted": ([3, 4, 5, None], [4, 5, 6, 3, 4, 5]),
}


def fill(store, config):
    with store.transaction():
        for arm in config.all_arms:
            for iteration, rights in enumerate(RIGHT[arm.name], 1):
                for n, right in enumerate(rights):
                    name, first = arm.sample_id(iteration, n), f"i{iteration}-{n}"
                    row = {"id": name, "source": f"{right}", "iteration": iteration}
                    store.add_candidates([row | {"arm": arm.name, "stop_reason": "end"}])
                    if right is None:
                        store.decide(name, status="rejected", kind="syntax")
                    elif iteration == 1 and arm.name != "main":
                        store.decide(name, status="duplicate", duplicate_of=first)
                    else:
                        answers = [
                            Sample(i, f"q{i}", "p", "", "", *[i < right] * 3) for i in range(10)
                        ]
                        store.add_score(name, "t", "dev", score_of(answers, "strict"), answers, {})
                        store.decide(name, status="scored")
                store.set_iteration(
                    iteration, iteration_summary(store, config, arm, iteration), arm.name
                )


@pytest.fixture
def config(tmp_path):
    return load(tmp_path, ["no_learning", "permuted"], iterations=2, baselines=[], test={"top": 1})


@pytest.fixture
def store(tmp_path, config):
    with Store.open(tmp_path / "run.db") as store:
        fill(store, config)
        yield store


def test_a_score_of_another_arm_is_paid_for_in_each(store, config, tmp_path):
    result = run_result(store, config, tmp_path)
    assert [turn["sampled"] for turn in result["iterations"]] == [4, 6]
    control = result["arms"]["no_learning"]
    assert (control["samples"], control["scored"]) == (10, 8)
    assert [turn["sampled"] for turn in control["iterations"]] == [4, 6]
    assert control["best"]["id"] == "i1-2@no_learning" and control["best"]["dev"]["correct"] == 5
    budget = result["budget"]
    assert budget["scored"] == 8
    # The eighth scored update of main is its fifth sample of iteration 2.
    assert budget["arms"]["main"] == {
        "samples": 9,
        "best": 0.9,
        "mean": pytest.approx(0.65),
        "all_samples": 10,
        "all_scored": 9,
    }
    assert budget["arms"]["no_learning"]["samples"] == 10
    assert set(names_to_test(store, config)) >= {"i2-2", "i1-2@no_learning", "i2-2@permuted"}


def test_the_stated_comparisons_are_of_the_last_iterations_means(store, config, tmp_path):
    result = run_result(store, config, tmp_path)
    first, second = result["arm_comparisons"]
    assert (first["a"], first["b"], second["b"]) == ("main", "no_learning", "permuted")
    assert first["difference"] == pytest.approx(8.1667 / 10 - 0.42, abs=1e-4)
    assert first["low"] < first["difference"] < first["high"] and first["n"] == [6, 5]
    assert first["p"] < 0.01 and first["p_holm"] <= 2 * first["p"]
    words = result["arm_verdict"]
    assert "main's mean dev score is above no_learning (+0.397 [" in words
    equal = {**first, "difference": 0.0, "p_holm": 1.0}
    assert "not shown to differ from no_learning" in arm_verdict([equal])
    page = render_run(result)
    assert "p is corrected for all of them (Holm)" in " ".join(page.split())
    row = next(line for line in page.splitlines() if line.startswith("│ no_learning "))
    assert row.strip("│").split("│")[3:5] == ["             10 ", "      10 "]


def test_the_report_shows_arms_and_their_budget(store, config, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    result = run_result(store, config, tmp_path)
    store.set_setting("result", result)
    page = write_report(tmp_path).read_text()
    assert "<h2>Arms at equal budget</h2>" in page and result["arm_verdict"] in unescape(page)
    assert "p is corrected for all of them (Holm)" in page
    assert "<tr><td>no_learning</td><td>2</td>" in page  # its second iteration
    shown = data_of(page)["candidates"]
    turns = [t for t, dev in zip(shown["turn"], shown["dev"], strict=True) if dev is not None]
    assert turns.count("permuted, iteration 2") == 6
    assert "its first 8 scored updates" in page
    found = figures(tmp_path)
    assert found["figure_4"][2] == [0.8, 0.8, 0.9, 0.7, 0.8, 0.9]  # of main alone
    control = found["arms"]["no_learning"]
    assert control["samples"] == [1, 2, 3, 5, 6, 8, 9, 10]
    assert control["scores"][:3] == control["dev_scores"][1] == [0.3, 0.4, 0.5]


def test_permuted_scores_are_the_same_ones_and_only_learned_from(store, config):
    main, _, permuted = config.all_arms
    lesson = Lesson(store, config, permuted, 2)
    true = scored_programs(store, 2, "permuted")
    learned = lesson.whole(2)
    assert [s.id for s in learned] == [s.id for s in true]
    assert sorted(s.score for s in learned) == sorted(s.score for s in true)
    assert learned != true and learned == Lesson(store, config, permuted, 2).whole(2)
    assert Lesson(store, config, main, 2).whole(2) == scored_programs(store, 2)
    assert {s.id.split("@")[-1] for s in lesson.sets.chosen} == {"permuted"}


def test_an_arm_that_needs_no_model_draws_what_the_store_lacks(tmp_path):
    config = load(tmp_path, ["linear", "random_programs"], samples=30)
    progress = SimpleNamespace(stage=lambda *_: None, update=lambda *_: None)
    with Store.open(tmp_path / "run.db") as store:
        context = SimpleNamespace(
            config=config, store=store, folder=tmp_path, generator=tmp_path, progress=progress
        )
        for arm in config.all_arms[1:]:
            run = ArmRun(context, arm)
            run.draw(1, range(10))  # and here it was killed
            run.sample(1, [])
            found = run.samples(1)
            assert [c.id for c in found] == [arm.sample_id(1, n) for n in range(30)]
            assert {c.arm for c in found} == {arm.name} and found[0].generator is None
            first = [(c.source, c.params) for c in found]
            run.sample(2, [])
            assert first != [(c.source, c.params) for c in run.samples(2)]
