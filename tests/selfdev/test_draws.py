"""Programs that no model writes: the same for the same seed, zeros included, and CMA-ES goes on where it was."""

from __future__ import annotations

import itertools

from selfdev_engine.engine.program import extract
from selfdev_engine.selfdev.draws import drawn, evolved, grid, random_weights, weighted_sum


def test_random_weights_have_zeros_but_not_only():
    found = [random_weights(seed, 3) for seed in range(400)]
    assert found == [random_weights(seed, 3) for seed in range(400)]
    weights = [weight for one in found for weight in one]
    assert 0.2 < weights.count(0.0) / len(weights) < 0.3
    assert all(any(one) for one in found) and 0 <= min(weights) < max(weights) <= 1


def test_the_grid_is_the_papers_with_zero_and_grows_finer_without_repeats():
    first = list(itertools.islice(grid(0, 3), 7**3 - 1))
    assert len(set(first)) == len(first)
    assert set(first[:63]) == set(itertools.product((0, 0.2, 0.4, 0.6), repeat=3)) - {(0, 0, 0)}
    assert {weight for one in first for weight in one} == {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}
    assert first[:63] != list(itertools.islice(grid(1, 3), 63))


def test_a_drawn_program_is_a_merge_program():
    for writer in ("grammar", "coefficients", "grid"):
        row = drawn(writer, 3, 0, 5, 3)
        assert row == drawn(writer, 3, 0, 5, 3)
        program = extract(row["source"], row.get("params", {}))
        assert "def merge_models(" in program.code
    assert weighted_sum((0.25, 0.0, 1.0))["params"] == {"weights": "0.25,0,1"}


def test_cma_es_goes_on_from_the_scores_alone():
    def score(weights):
        return -sum((a - b) ** 2 for a, b in zip(weights, (0.25, 0.0, 0.5), strict=True))

    scores, asked = [], []
    while len(scores) < 80:
        asked += (more := evolved(1, 3, scores))
        scores += map(score, more)
    assert max(scores[-7:]) > max(scores[:7]) and max(scores) > -0.01
    # In the middle of a generation only what is left of it is drawn.
    assert evolved(1, 3, scores[:10]) == asked[10:14]
    assert evolved(2, 3, []) != evolved(1, 3, [])
