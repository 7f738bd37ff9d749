"""`export --mergekit`: mergekit reproduces what it says; what is no weighted sum is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import selfdev_engine as sd
import torch
import yaml
from safetensors.torch import load_file
from selfdev_engine.bench import mergekit
from selfdev_engine.bench.synthetic import Models, Size, make_models
from selfdev_engine.engine.errors import Rejected, UsageError
from selfdev_engine.engine.records.candidate import Status
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.folder import write_config
from selfdev_engine.selfdev.merge import merge
from selfdev_engine.selfdev.mergekit_export import export_mergekit, filters_of

SUM = "def merge_models(d, device):\n    a, b, c = d.values()\n    return 0.5 * a - 0.25 * b + 0.125 * c\n"
WEIGHTS = (0.5, -0.25, 0.125)
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"), Size(), torch.float32, spread=0.02)


def run_with(models: Models, folder: Path, residual: float = 1e-7, include: str = "mlp") -> Path:
    """A screening's folder that holds the sum as a scored candidate, and one that was rejected."""
    folder.mkdir()
    experts = {name: str(place) for name, place in models.experts.items()}
    settings = {"base": str(models.base), "experts": experts, "include": include}
    write_config(folder, {**settings, "task": "gsm8k", "seed": 0})
    linear = {"coefficients": dict(zip(experts, WEIGHTS, strict=True)), "residual": residual}
    with Store.open(folder / "run.db") as store:
        names = ("base", "sum", "bad", "open")
        store.add_candidates({"id": n, "source": None if n == "base" else SUM} for n in names)
        store.decide("sum", status=Status.SCORED, linear=linear)
        store.decide("bad", status=Status.REJECTED, kind="runtime", detail="it fails")
    return folder


# ---- what is written


def test_the_file_says_the_sum(models, tmp_path):
    run, out = run_with(models, tmp_path / "run"), tmp_path / "sum.yml"
    told = export_mergekit(run, "sum", out)
    found = yaml.safe_load(out.read_text())
    assert told["out"] == str(out) and told["residual"] == 1e-7
    assert (found["merge_method"], found["base_model"]) == ("task_arithmetic", str(models.base))
    assert [m["model"] for m in found["models"]] == [str(p) for p in models.experts.values()]
    for model, weight in zip(found["models"], WEIGHTS, strict=True):
        assert model["parameters"]["weight"] == [
            {"filter": "mlp.", "value": weight},
            {"value": 0.0},
        ]
    assert (found["dtype"], found["out_dtype"]) == ("float32", "float32")
    # An earlier file of ours is replaced, another one is not.
    export_mergekit(run, "sum", out)
    out.write_text("merge_method: mine\n")
    with pytest.raises(UsageError, match="is no earlier result of this command"):
        export_mergekit(run, "sum", out)


@pytest.mark.parametrize("include", ["mlp", "all"])
def test_merge_reads_the_file_and_makes_the_same_weights(models, tmp_path, include):
    out = tmp_path / "sum.yml"
    export_mergekit(run_with(models, tmp_path / "run", include=include), "sum", out)
    experts = dict(models.experts)
    wanted = merge(SUM, base=models.base, experts=experts, include=include, out=tmp_path / "a")
    found = merge(out, out=tmp_path / "b")
    assert found.tensors == wanted.tensors
    assert found.weights_fingerprint == wanted.weights_fingerprint
    if include == "mlp":
        with pytest.raises(UsageError, match=r"^include: the filters of .* choose the tensors"):
            merge(out, include="all", out=tmp_path / "c")


def test_noise_is_no_weight(models, tmp_path):
    """A program that ignores an expert has a rounding of it; a small share that is meant stays."""
    run, out = run_with(models, tmp_path / "run"), tmp_path / "sum.yml"
    names = list(models.experts)
    for shares, weights in (
        ((0.5, -5e-17, 1e-4), (0.5, 0.0, 1e-4)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ):
        a, _, c = weights
        source = f"def merge_models(d, device):\n    a, b, c = d.values()\n    return {a} * a + {c} * c\n"
        linear = {"coefficients": dict(zip(names, shares, strict=True)), "residual": 0.0}
        with Store.open(run / "run.db") as store:
            store.decide("sum", status=Status.SCORED, linear=linear)
            store._db.execute("UPDATE candidates SET source = ? WHERE id = 'sum'", (source,))
        told = export_mergekit(run, "sum", out)
        found = [
            m["parameters"]["weight"][0]["value"] for m in yaml.safe_load(out.read_text())["models"]
        ]
        assert found == list(weights) == list(told["coefficients"].values())


@pytest.mark.parametrize(
    "source",
    [
        SUM.replace("0.25", "0.26"),
        SUM.replace("0.5 * a", "0.5 * a.abs()"),
        SUM.replace("0.5 * a -", "0 * a * a -"),
    ],
)
def test_a_sum_that_the_program_does_not_make_is_refused(models, tmp_path, source, selfdev):
    """The row or the text in run.db was edited: nothing says which."""
    run, out = run_with(models, tmp_path / "run"), tmp_path / "sum.yml"
    with Store.open(run / "run.db") as store:
        store._db.execute("UPDATE candidates SET source = ? WHERE id = 'sum'", (source,))
    answer = selfdev("export", run, "sum", "--mergekit", "--out", out)
    assert answer.code == 2 and "is not what its program merges: it leaves out " in answer.stderr
    assert not out.exists()


@pytest.mark.parametrize("residual", [1e-3, 0.4])
def test_what_is_no_weighted_sum_is_refused(models, tmp_path, residual):
    run = run_with(models, tmp_path / "run", residual)
    with pytest.raises(
        UsageError, match=f"linear residual is {residual:.3g}, and --mergekit needs"
    ):
        export_mergekit(run, "sum", tmp_path / "sum.yml")
    assert not (tmp_path / "sum.yml").exists()


def test_the_command_exits_with_2(models, tmp_path, selfdev):
    run = run_with(models, tmp_path / "run", 0.25)
    answer = selfdev("export", run, "sum", "--mergekit", "--out", tmp_path / "x.yml", "--json")
    assert answer.code == 2 and "linear residual is 0.25" in answer.json["error"]


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("bad", Rejected, "it fails"),
        ("open", UsageError, "'open' was not scored"),
        ("base", UsageError, "nothing is to be merged"),
        ("nobody", UsageError, "has no candidate 'nobody'"),
    ],
)
def test_what_has_no_linear_equivalent(models, tmp_path, name, error, says):
    with pytest.raises(error, match=says):
        export_mergekit(run_with(models, tmp_path / "run"), name, tmp_path / "x.yml")


NAMES = ("l.1.mlp.up.weight", "l.1.attn.q.weight", "l.11.mlp.up.weight", "norm.weight")


@pytest.mark.parametrize(
    ("chosen", "filters"),
    [
        (set(NAMES), []),
        ({NAMES[0], NAMES[2]}, ["mlp."]),
        ({NAMES[0]}, [NAMES[0]]),
        ({NAMES[1], NAMES[3]}, [NAMES[1], NAMES[3]]),
    ],
)
def test_filters_select_just_the_merged_tensors(chosen, filters):
    assert filters_of(NAMES, chosen) == filters


def test_names_within_names_are_refused():
    with pytest.raises(UsageError, match="cannot be told from others by parts of their names"):
        filters_of(("a.weight", "x.a.weight"), {"a.weight"})


# ---- from Python


def test_an_opened_run_exports_as_the_command_does(models, tmp_path, selfdev):
    run = sd.open_run(run_with(models, tmp_path / "run"))
    told = selfdev("export", run.folder, "sum", "--out", tmp_path / "a", "--json").json
    for number, candidate in enumerate(("sum", run["sum"])):
        report = run.export(candidate, tmp_path / f"b{number}")
        assert report.weights_fingerprint == told["weights_fingerprint"]
        card = (tmp_path / f"b{number}" / "README.md").read_text()
        assert card == (tmp_path / "a" / "README.md").read_text()
    with pytest.raises(UsageError, match="b0"):
        run.export("sum", str(tmp_path / "b0"))
    run.export("sum", str(tmp_path / "b0"), overwrite=True)
    assert run.export_mergekit(run["sum"], str(tmp_path / "x.yml"))["candidate"] == "sum"
    assert (tmp_path / "x.yml").read_text().startswith("# Written by selfdev-engine")


def test_weights_that_were_not_scored_get_no_score(models, tmp_path):
    run, found = (
        run_with(models, tmp_path / "run"),
        [Sample(0, "q", "q", "", None, True, True, True)],
    )
    first = sd.open_run(run).export("sum", tmp_path / "first")
    assert not first.notes
    prints = first.fingerprint, first.weights_fingerprint
    other = SUM.replace("0.5", "0.4")
    # What run.db says of the candidate -> the note, and whether the card has the score.
    for source, plan, weights, note, has_score in (
        (SUM, *prints, None, True),
        (SUM, prints[0], "nh-0", "another processor or backend may round otherwise", True),
        (other, *prints, "not those that were scored .*: the program in run.db merges", False),
        (other, prints[0], "01234567", None, True),
    ):
        with Store.open(run / "run.db") as store:
            if store.score("sum", "dev") is None:
                store.add_score("sum", "t", "dev", score_of(found, "strict"), found, {})
            store.add_trace("sum", "fused", None, plan, 0, 1.0, [])
            store._db.execute(
                "UPDATE candidates SET source = ?, weights_fingerprint = ? WHERE id = 'sum'",
                (source, weights),
            )
        report = sd.open_run(run).export("sum", tmp_path / "out", overwrite=True)
        assert re.search(note, report.notes[0]) if note else not report.notes
        assert ("1.0000" in (tmp_path / "out" / "README.md").read_text()) == has_score


def test_an_export_reads_its_arguments(models, tmp_path):
    run = sd.open_run(run_with(models, tmp_path / "run"))
    with pytest.raises(
        UsageError, match="candidate: give a candidate of the run, or its name, not 3"
    ):
        run.export(3, tmp_path / "a")
    with pytest.raises(UsageError, match="experts: give a dict"):
        run.export("sum", tmp_path / "a", experts=[models.base])
    with pytest.raises(Rejected, match="it fails"):
        run.export("bad", tmp_path / "a")
    with pytest.raises(UsageError, match="nowhere"):
        run.export("sum", tmp_path / "a", base=Path("nowhere"))
    assert not (tmp_path / "a").exists()


# ---- mergekit reproduces it


@pytest.mark.skipif(not mergekit.installed(), reason=mergekit.MISSING)
@pytest.mark.parametrize("include", ["mlp", "all", r"layers\.0\.mlp\.up"])
def test_mergekit_reproduces_the_candidate(models, tmp_path, include):
    run, file = run_with(models, tmp_path / "run", include=include), tmp_path / "sum.yml"
    export_mergekit(run, "sum", file)
    words = mergekit.command_of_file(file, tmp_path / "theirs")
    subprocess.run(words, check=True, capture_output=True, env={"HF_HUB_OFFLINE": "1"})
    merge(SUM, base=models.base, experts=models.experts, include=include, out=tmp_path / "ours")
    base, ours, theirs = (
        load_file(folder / "model.safetensors")
        for folder in (models.base, tmp_path / "ours", tmp_path / "theirs")
    )
    assert ours.keys() == theirs.keys()
    moved = 0
    for name in ours:
        wanted, found = ours[name].double() - base[name], theirs[name].double() - base[name]
        if not wanted.any():
            assert not found.any(), name
            continue
        moved += 1
        assert float((found - wanted).norm() / wanted.norm()) < TOLERANCE
    assert moved
