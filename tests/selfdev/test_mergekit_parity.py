"""Compares our methods with mergekit 0.1.5 on small float32 checkpoints; see docs/methods.md.

The tests compare updates (merged minus base) relative to their norm. A merge that does nothing is
as close to the right weights as rounding, but it must fail here. mergekit is optional (`make
peers`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.bench import mergekit
from selfdev_engine.bench.synthetic import Models, Size, make_models
from selfdev_engine.engine.merge import merge_to_folder
from selfdev_engine.engine.program import extract
from selfdev_engine.engine.sandbox.box import Sandbox
from selfdev_engine.engine.trace.settings import TraceSettings, open_sandbox
from selfdev_engine.selfdev.mergekit_yaml import read_configuration
from selfdev_engine.selfdev.methods import built_in, load_method, method_names
from torch import Tensor

pytestmark = pytest.mark.skipif(not mergekit.installed(), reason=mergekit.MISSING)


MANY = """
import json, sys
from pathlib import Path
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
for config, out, seed in json.load(sys.stdin):
    options = MergeOptions(copy_tokenizer=False, quiet=True, random_seed=seed)
    run_merge(MergeConfiguration.model_validate(config), out, options)
"""


def run_many(jobs: Sequence[tuple[Mapping[str, Any], Path, int]]) -> None:
    """Run all merges in one process, because its start takes seconds.

    A job is (configuration, new folder, seed). RuntimeError holds the end of what mergekit printed.
    """
    words = [str(mergekit.COMMAND.with_name("python")), "-c", MANY]
    given = json.dumps([(config, str(out), seed) for config, out, seed in jobs])
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, input=given, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"mergekit: exit {done.returncode}: {done.stderr.strip()[-300:]}")


WEIGHTS = (0.5, 0.3, 0.9)
WORDS = ",".join(map(str, WEIGHTS))
# Standard deviation of the task vectors, large beside what float32 loses in base + update.
SPREAD = 0.02
# Relative to the update's norm. Both sides round base + update to float32 once.
TOLERANCE = 2e-5
NUM_SEEDS = 6


@dataclass(frozen=True)
class Case:
    """One method with the same settings for us and for mergekit.

    `each` and `shared` are mergekit's settings: for every expert, and for the method.
    """

    method: str
    ours: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[float, ...] = WEIGHTS
    experts: int = 3
    spread: float = SPREAD

    def recipe(self, models: Models) -> dict[str, Any]:
        each = [{**({"weight": w} if w else {}), **self.each} for w in self.weights]
        experts = dict(list(models.experts.items())[: self.experts])
        # mergekit's linear merges whole weights, so it is given no base.
        with_base = self.method != "linear"
        return mergekit.recipe(
            self.method, models.base, experts, dtype="float32", shared=self.shared, each=each,
            with_base=with_base,
        )  # fmt: skip


# For methods without weights.
NONE = (0.0, 0.0, 0.0)
CASES = {
    "task_arithmetic": Case("task_arithmetic", {"weights": WORDS, "scale": 0.7}, shared={"lambda": 0.7}),
    "linear": Case("linear", {"weights": WORDS}),
    "linear, not normalised": Case(
        "linear", {"weights": "0.5,0.3,0.2", "normalize": False},
        shared={"normalize": False}, weights=(0.5, 0.3, 0.2),
    ),
    "ties": Case("ties", {"weights": WORDS, "density": 0.3}, {"density": 0.3}),
    "ties, lambda": Case(
        "ties", {"weights": WORDS, "density": 0.37, "scale": 1.3}, {"density": 0.37}, {"lambda": 1.3}
    ),
    "ties, all equal weights": Case(
        "ties", {"density": 0.2}, {"density": 0.2}, weights=(1.0, 1.0, 1.0)
    ),
    "ties, a density for each and no division": Case(
        "ties", {"weights": WORDS, "densities": "0.3,0.3,0.3", "normalize": False},
        {"density": 0.3}, {"normalize": False, "int8_mask": True},
    ),
    "breadcrumbs": Case(
        "breadcrumbs", {"weights": WORDS, "density": 0.8, "gamma": 0.02}, {"density": 0.8, "gamma": 0.02}
    ),
    "breadcrumbs, none of the largest": Case(
        "breadcrumbs", {"weights": WORDS, "density": 0.9, "gamma": 0.0}, {"density": 0.9, "gamma": 0.0}
    ),
    "breadcrumbs, density before gamma": Case(
        "breadcrumbs", {"weights": WORDS, "density": 0.97, "gamma": 0.1}, {"density": 0.97, "gamma": 0.1}
    ),
    "breadcrumbs_ties": Case(
        "breadcrumbs_ties", {"weights": WORDS, "density": 0.8, "gamma": 0.02}, {"density": 0.8, "gamma": 0.02}
    ),
    "sce": Case("sce", weights=NONE),
    "sce, selected": Case("sce", {"select_topk": 0.4}, shared={"select_topk": 0.4}, weights=NONE),
    "model_stock": Case("model_stock", weights=NONE),
    "nuslerp": Case("nuslerp", {"weights": "1,3"}, weights=(1.0, 3.0), experts=2),
}  # fmt: skip
RANDOM = {
    "dare_linear": Case("dare_linear", {"weights": WORDS, "density": 0.4}, {"density": 0.4}),
    "dare_ties": Case("dare_ties", {"weights": WORDS, "density": 0.4}, {"density": 0.4}),
    "della_linear": Case("della_linear", {"weights": WORDS, "density": 0.4}, {"density": 0.4}),
    "della": Case("della", {"weights": WORDS, "density": 0.4}, {"density": 0.4}),
}
# Task vectors so small that mergekit's threshold of 1e-6 changes the result.
SMALL = Case("sce", weights=NONE, spread=5e-4)
Updates = dict[str, Tensor]


@dataclass(frozen=True)
class Bench:
    """Checkpoints, and mergekit's merges of them."""

    folder: Path
    models: dict[float, Models]
    sandbox: Sandbox  # one for all merges, because its start takes seconds

    def theirs(self, name: str, spread: float = SPREAD) -> Updates:
        return updates(self.folder / name, self.models[spread])

    def ours(self, case: Case, seed: int = 0) -> Updates:
        models, out = self.models[case.spread], self.folder / "ours"
        merge_to_folder(
            extract(load_method(case.method), dict(case.ours)),
            base=str(models.base),
            experts={n: str(p) for n, p in list(models.experts.items())[: case.experts]},
            include="all", out=out, overwrite=True, seed=seed, sandbox=self.sandbox,
        )  # fmt: skip
        return updates(out, models)

    def configured(self, case: Case) -> Updates:
        """Our merge of the configuration that mergekit is given."""
        models, file, out = self.models[case.spread], self.folder / "case.yml", self.folder / "ours"
        file.write_text(json.dumps(case.recipe(models)))
        recipe = read_configuration(file)
        merge_to_folder(
            built_in(recipe.method, recipe.params, len(recipe.experts)),
            base=recipe.base, experts=recipe.experts,
            include="all", out=out, overwrite=True, sandbox=self.sandbox,
        )  # fmt: skip
        return updates(out, models)


def updates(folder: Path, models: Models) -> Updates:
    """Merged minus base for each tensor, in float64."""
    merged, base = (load_file(f / "model.safetensors") for f in (folder, models.base))
    assert merged.keys() == base.keys()
    return {name: merged[name].double() - base[name].double() for name in base}


def folder_of(name: str, seed: int = 0) -> str:
    return f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    """Run all of mergekit's merges in one process."""
    folder = tmp_path_factory.mktemp("mergekit")
    models = {
        spread: make_models(folder / f"models-{spread}", Size(), torch.float32, spread=spread)
        for spread in (SPREAD, SMALL.spread)
    }
    jobs = [(c.recipe(models[SPREAD]), folder / folder_of(n), 0) for n, c in CASES.items()]
    jobs += [
        (c.recipe(models[SPREAD]), folder / folder_of(n, seed), seed)
        for n, c in RANDOM.items()
        for seed in range(1, NUM_SEEDS + 1)
    ]
    jobs.append((SMALL.recipe(models[SMALL.spread]), folder / "small", 0))
    run_many(jobs)
    with open_sandbox(TraceSettings()) as sandbox:
        yield Bench(folder, models, sandbox)


def error(found: Updates, wanted: Updates) -> float:
    """The largest distance of a tensor, relative to the norm of its wanted update."""
    return max(float((found[n] - wanted[n]).norm() / wanted[n].norm()) for n in wanted)


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_gives_mergekits_update(bench, name):
    wanted = bench.theirs(folder_of(name))
    assert error(bench.configured(CASES[name]), wanted) < TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_the_update_is_mergekits(bench, name):
    wanted, found = bench.theirs(folder_of(name)), bench.ours(CASES[name])
    assert error(found, wanted) < TOLERANCE
    cheats: dict[str, Callable[[Tensor], Tensor]] = {
        "base unchanged": torch.zeros_like,
        "coefficient one percent off": lambda u: 0.99 * u,
        "first expert": lambda u: u + 0.05 * u.flip(0),
    }
    for cheat, change in cheats.items():
        assert error({n: change(u) for n, u in found.items()}, wanted) > 100 * TOLERANCE, cheat


# ---- random drops: kept share, norm, expectation ------------------------------------------------------


def flat(tensors: Updates) -> Tensor:
    return torch.cat([tensors[n].flatten() for n in sorted(tensors)])


def draws(bench: Bench, name: str) -> tuple[Tensor, Tensor]:
    """[seeds, elements] of ours and of mergekit's."""
    seeds = range(1, NUM_SEEDS + 1)
    ours = [flat(bench.ours(RANDOM[name], seed)) for seed in seeds]
    theirs = [flat(bench.theirs(folder_of(name, seed))) for seed in seeds]
    return torch.stack(ours), torch.stack(theirs)


def kept(update: Tensor) -> float:
    return float((update.abs() > 1e-9).double().mean())


@pytest.mark.parametrize("name", RANDOM)
def test_random_drops_are_mergekits_in_share_norm_and_mean(bench, name):
    """Where no expert was kept, the update is zero: with three experts and 0.4, 0.6^3 of the places.

    Means over the seeds are compared along mergekit's own mean, so that noise averages out; DARE's
    scale differs by design (1 / density against restoring L1), which on thousands of entries is the
    same within a few percent.
    """
    ours, theirs = draws(bench, name)
    assert kept(ours) == pytest.approx(kept(theirs), abs=0.01)
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1.0, abs=0.03)
    mean, wanted = ours.mean(0), theirs.mean(0)
    noise = float((theirs - wanted).norm() / wanted.norm() / math.sqrt(NUM_SEEDS))
    assert float((mean - wanted).norm() / wanted.norm()) < 2 * noise
    along = float(mean @ wanted / (mean.norm() * wanted.norm()))
    half = theirs[: NUM_SEEDS // 2].mean(0), theirs[NUM_SEEDS // 2 :].mean(0)
    assert along > float(half[0] @ half[1] / (half[0].norm() * half[1].norm()))
    assert len({float(u.sum()) for u in ours}) == NUM_SEEDS
    for cheat in (torch.zeros_like(ours), 0.9 * ours):
        assert abs(float(cheat.norm() / theirs.norm()) - 1.0) > 0.03


def test_every_method_is_compared():
    assert {case.method for case in (*CASES.values(), *RANDOM.values())} == set(method_names())


# ---- stated deviations ------------------------------------------------------------------------------


def test_sce_weighs_by_energy_where_mergekit_weighs_alike(bench):
    """Below a summed mean square of 1e-6, as in real fine-tunes, mergekit gives each expert 1/n."""
    theirs, found = bench.theirs("small", SMALL.spread), bench.ours(SMALL)
    assert 1e-4 < error(found, theirs) < 0.3


def test_ties_at_the_threshold_all_stay(tmp_path, bench):
    """mergekit keeps an exact count of equal entries, whichever its sort puts first; we keep all."""
    name, source = "model.norm.weight", bench.models[SPREAD]
    models = Models(tmp_path / "base", {n: tmp_path / n for n in source.experts})
    for model in ("base", *models.experts):
        shutil.copytree(source.base.parent / model, tmp_path / model)
        tensors = load_file(tmp_path / model / "model.safetensors")
        tensors[name] = torch.full_like(tensors[name], 0.0 if model == "base" else 0.25)
        save_file(tensors, tmp_path / model / "model.safetensors", {"format": "pt"})
    case = Case("ties", {"density": 0.5}, {"density": 0.5}, weights=(1.0, 1.0, 1.0))
    run_many([(case.recipe(models), tmp_path / "theirs", 0)])
    found = Bench(tmp_path, {SPREAD: models}, bench.sandbox)
    ours, theirs = found.ours(case)[name], found.theirs("theirs")[name]
    assert int((ours == 0.25).sum()) == ours.numel()
    assert ours.numel() // 2 <= int((theirs == 0.25).sum()) < ours.numel()
