"""The holdout: what is drawn, when training ends, which adapter is kept, the margin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.config import RunConfig
from selfdev_engine.selfdev.holdout import Watch, margin_of, steps_of, t_quantile
from selfdev_engine.selfdev.learning import Ends, Lesson, prefer, why_no_pairs
from selfdev_engine.selfdev.preferences import Scored, Seen, draw_holdout, quarters

SETTINGS = {"base": "b", "experts": {"x": "x"}, "task": "gsm8k", "baselines": []}
CONFIG = RunConfig.model_validate(
    {**SETTINGS, "preferences": {"chosen_percent": 30, "rejected_percent": 40}}
)


@given(st.integers(0, 60), st.floats(0, 0.9), st.sets(st.integers(0, 59)), st.integers(0, 5))
def test_the_holdout_keeps_what_it_had_and_nothing_that_was_trained(count, share, kept, seed):
    scored = [Scored(f"c{i}", f"t{i}", i / 60) for i in range(count)]
    seen = Seen({f"t{i}" for i in range(60) if i % 3 == 0}, {f"t{i}" for i in kept if i % 3})
    found = draw_holdout(scored, share, seen, seed)
    texts = {s.text for s in found}
    assert not texts & seen.trained and texts >= {s.text for s in scored} & seen.held_out
    assert found == draw_holdout(scored, share, seen, seed)
    if not kept and round(share * count) <= count // 2:
        assert len(found) == round(share * count)


def test_quarters_differ_in_their_scores():
    assert quarters([Scored("a", "", 0.5), Scored("b", "", 0.5)]) is None
    assert quarters([Scored("a", "", 0.5)]) is None and quarters([]) is None
    found = quarters([Scored(f"c{i}", "", i / 8) for i in range(8)])
    assert found and [s.id for s in found.chosen] == ["c7", "c6"]
    assert [s.id for s in found.rejected] == ["c0", "c1"]


def test_training_ends_when_the_loss_no_longer_falls():
    watch = Watch(patience=2)
    losses = {0: 0.69, 5: 0.5, 10: 0.6, 15: 0.55, 20: 0.4, 25: 0.41, 30: 0.42}
    kept = [step for step, loss in losses.items() if watch.add(step, loss) or watch.is_over]
    # Two that do not beat step 5 would end it at step 15 with the adapter of that step.
    assert kept[:2] == [10, 15] and watch.kept_step == 20
    watch = Watch(patience=1)
    assert not watch.add(0, 0.1) and not watch.is_over
    assert watch.add(10, 0.2) and watch.is_over  # the adapter of step 0 is never kept
    watch = Watch(patience=1)
    assert not watch.add(10, float("nan")) and watch.is_over


def test_steps_have_two_caps():
    assert steps_of(24, 8, 10, 5000) == 30
    assert steps_of(24, 8, 10, 5) == 5
    assert steps_of(3, 16, 1, 5000) == 1


def test_the_margin_has_an_interval():
    assert margin_of([], [1.0]) == [None, None, None]
    assert margin_of([2.0], [1.0, 1.5]) == [0.75, None, None]
    # Welch's: a standard error of 0.8 with 6.08 degrees of freedom, where t is 2.438.
    found = margin_of([2.0, 4.0, 6.0, 3.0, 5.0], [1.0, 2.0, 3.0, 2.0, 1.0])
    assert found == pytest.approx([2.2, 0.249, 4.151], abs=2e-3)
    assert t_quantile(1e9) == pytest.approx(1.959964)


@pytest.fixture
def store(tmp_path):
    """Two iterations of twenty programs; the second repeats texts of the first."""
    with Store.open(tmp_path / "run.db") as store:
        with store.transaction():
            for iteration in (1, 2):
                for i in range(20):
                    name, text = f"i{iteration}-{i}", f"    body {i if iteration == 1 else i + 10}"
                    row = {"id": name, "source": text, "iteration": iteration}
                    store.add_candidates([row | {"stop_reason": "end" if i < 19 else "length"}])
                    answers = [Sample(q, f"q{q}", "p", "r", "r", *[q < i] * 3) for q in range(20)]
                    store.add_score(name, "t", "dev", score_of(answers, "flexible"), answers, {})
                    store.decide(name, status="scored")
        yield store


def test_what_is_held_out_is_never_trained_on(store):
    first, second = (Lesson(store, CONFIG, CONFIG.main, i) for i in (1, 2))
    texts = {c.id: c.source for c in store.candidates()}
    trained, held = set(), set()
    for lesson in (first, second):
        pairs = prefer(lesson)
        trained |= {texts[name] for pair in pairs for name in pair}
        held |= {s.text for s in lesson.held_out}
        assert len(lesson.held_out) == 4  # a fifth of the nineteen that were not cut
        assert pairs and not {"i1-19", "i2-19"} & {name for pair in pairs for name in pair}
    assert not trained & held
    again = {c.source for c in store.candidates(1)} & {c.source for c in store.candidates(2)}
    assert again & {s.text for s in first.held_out} <= {s.text for s in second.held_out}


def test_the_ending_that_was_sampled_is_trained(store):
    prompt = "```python\nimport torch\n\ndef merge_models(d, device):\n    #"
    with store.transaction():
        text = prompt + " sum\n    return 1"
        row = {"source": text, "iteration": 3}
        reasons = {"i3-0": "stop", "i3-1": "end"}
        store.add_candidates({"id": n, "stop_reason": r, **row} for n, r in reasons.items())
    ends = Ends(store, prompt)
    assert ends.completion("i3-0") == " sum\n    return 1\n```"
    assert ends.completion("i3-1") == " sum\n    return 1"


def test_an_iteration_without_pairs_says_why(store):
    lesson = Lesson(store, CONFIG, CONFIG.main, 3)
    assert prefer(lesson) == [] and "iteration 3: nothing was learned: no program ran" in (
        why_no_pairs(lesson)
    )
