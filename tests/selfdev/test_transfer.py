"""Which programs of a run are tried on other experts, and what is refused before an engine is up."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.records.inputs import WEIGHTS
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening.folder import comparable, write_config
from selfdev_engine.engine.screening.identity import inputs_of, record_inputs, weights_of
from selfdev_engine.engine.screening.inputs import open_selection, open_task
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.selfdev.results import LOOKS, LOOKS_OF_TRANSFERS, looks_of
from selfdev_engine.selfdev.runs import written_at
from selfdev_engine.selfdev.transfer import Transfer
from selfdev_engine.selfdev.transfer_inputs import prepare_transfer

# id -> right answers of 10, what it repeats
SCORED = {"low": (2, None), "best": (9, None), "same": (9, "best"), "middle": (5, None)}


def changed(source, out, factor):
    """A copy of a model whose MLPs are `factor` times as large."""
    shutil.copytree(source, out)
    tensors = load_file(out / "model.safetensors")
    for name in tensors:
        if ".mlp." in name:
            tensors[name] = tensors[name] * factor
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return str(out)


@pytest.fixture(scope="module")
def models(small_models, tmp_path_factory):
    """Places of two other experts of the base, and of a base with other weights."""
    folder = tmp_path_factory.mktemp("others")
    rows = [{"question": f"{i}?", "answer": str(i), "split": "test"} for i in range(4)]
    rows += [{"question": f"{i}=", "answer": str(i), "split": "dev"} for i in range(4)]
    for name, left in (("task", rows), ("dev-only", rows[4:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in left))
    changed(small_models / "base", folder / "other-base", 1.5)
    return {
        "u": changed(small_models / "x", folder / "u", 1.1),
        "v": changed(small_models / "y", folder / "v", 0.9),
        "folder": folder,
        "small": small_models,
    }


@pytest.fixture
def make_run(models, tmp_path):
    """Return a function that makes a screening's folder, with these programs decided."""

    def make(scored=SCORED, task="task"):
        folder = tmp_path / "run"
        folder.mkdir()
        small = models["small"]
        settings = ScreenSettings(
            base=str(small / "base"),
            experts={name: str(small / name) for name in ("x", "y")},
            task=f"jsonl:{models['folder'] / task}.jsonl",
            seed=5,
        )
        write_config(folder, comparable(replace(settings, race="sure", top=2)))
        with Store.open(folder / "run.db") as store:
            found = inputs_of(settings, open_selection(settings), open_task(settings))
            # As after a run that read all of its models.
            read = [
                replace(i, parts={**i.parts, WEIGHTS: weights_of(i.place, i.files)})
                if i.files
                else i
                for i in found
            ]
            record_inputs(store, read, folder)
            store.add_candidates([{"id": "base", "source": None}])
            for name, (right, of) in scored.items():
                store.add_candidates([{"id": name, "source": name, "params": {"k": 1}}])
                status = "duplicate" if of else "scored"
                store.decide(name, status=status, duplicate_of=of)
                answers = [Sample(i, f"q{i}", "p", "r", "r", *[i < right] * 3) for i in range(10)]
                if not of:
                    score = score_of(answers, "flexible")
                    store.add_score(name, "t", "dev", score, answers, {})
        return folder

    return make


def test_the_best_updates_by_the_runs_dev_are_tried(make_run, models):
    run, others = make_run(), {n: models[n] for n in ("u", "v")}
    request = prepare_transfer(run, others, 2)
    assert [(p.id, p.dev) for p in request.programs] == [("best", 0.9), ("middle", 0.5)]
    assert request.programs[0].params == {"k": 1}
    settings = request.screening
    assert (settings.seed, settings.race, settings.experts) == (5, "full", others)
    # A transfer has its own folder, the same for more programs, and another for other experts.
    assert prepare_transfer(run, others, 9).folder == request.folder
    swapped = prepare_transfer(run, {"u": models["v"], "v": models["u"]}, 2)
    assert swapped.folder != request.folder and swapped.folder.parent == run / "transfers"


def test_a_base_that_was_moved_is_taken_and_another_one_is_not(make_run, models, tmp_path):
    run, others = make_run(), {n: models[n] for n in ("u", "v")}
    moved = shutil.copytree(models["small"] / "base", tmp_path / "moved")
    assert prepare_transfer(run, others, 2, base=str(moved)).screening.base == str(moved)
    with pytest.raises(
        UsageError,
        match=r"base .* is another model than the run's.*with --base DIR where it is now",
    ):
        prepare_transfer(run, others, 2, base=str(models["folder"] / "other-base"))


def test_what_cannot_be_tried_is_said_in_words(make_run, models, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    run, small = make_run(), models["small"]
    wide = LlamaConfig.from_pretrained(small / "base", intermediate_size=32)
    torch.manual_seed(0)
    LlamaForCausalLM(wide).save_pretrained(tmp_path / "wide")
    own = {"a": str(small / "y"), "b": str(shutil.copytree(small / "x", tmp_path / "copy"))}
    u = {"u": models["u"]}
    for experts, words in (
        (u, r"merge 2 experts \(x, y\); 1 are given"),
        (own, "these are its own experts"),
        ({**u, "v": str(tmp_path / "wide")}, "shape|intermediate_size"),
        ({**u, "v": str(tmp_path / "none")}, "none"),
    ):
        with pytest.raises(UsageError, match=words):
            prepare_transfer(run, experts, 2)
    assert not (run / "transfers").exists()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"scored": {}}, "no program of it has a dev score yet"),
        ({"task": "dev-only"}, "has no test questions"),
        ({"scored": {"expert-u": (3, None)}}, "'expert-u' is called as a model"),
    ],
)
def test_a_run_without_what_a_transfer_needs(make_run, models, made, words):
    with pytest.raises(UsageError, match=words):
        prepare_transfer(make_run(**made), {n: models[n] for n in ("u", "v")}, 2)


@pytest.mark.parametrize(("words", "says"), [(["--top", "0"], "--top"), ([], "not a run folder")])
def test_the_command_refuses_no_run_and_no_program(selfdev, tmp_path, words, says):
    answer = selfdev("transfer", tmp_path / "none", "--expert", "u=u", *words, "--json")
    assert answer.code == 2 and says in answer.json["error"]


def test_a_transfer_leaves_the_time_of_its_run(make_run, models):
    """It notes its looks there, and the run that was worked on last is still `last`."""
    run, others = make_run(), {n: models[n] for n in ("u", "v")}
    request = prepare_transfer(run, others, 2)
    os.utime(run / "run.db", (1_000_000, 1_000_000))
    request.folder.mkdir(parents=True)
    with Store.open(request.folder / "run.db") as store:
        store.set_setting(LOOKS, 3)
        Transfer(request, store, 0.0).count_looks()
    assert written_at(run) == 1_000_000
    with Store.read(run / "run.db") as store:
        assert looks_of(store) == 3


def test_looks_of_transfers_count_in_the_run(tmp_path):
    with Store.open(tmp_path / "run.db") as store:
        store.set_setting("test looks", 3)
        store.set_setting(LOOKS_OF_TRANSFERS, {"0123456789ab": 4, "ba9876543210": 1})
        assert looks_of(store) == 8
