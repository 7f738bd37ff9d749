"""A run belongs to contents: what moved is accepted, what is another is named, before anything is scored."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from selfdev_engine.engine.errors import Rejected, UsageError
from selfdev_engine.engine.records.compare import compare_candidates
from selfdev_engine.engine.records.inputs import WEIGHTS
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.engine.screening import contents_reader, identity
from selfdev_engine.engine.screening.contents_reader import ContentReader
from selfdev_engine.engine.screening.folder import (
    add_programs,
    check_texts,
    comparable,
    completed,
    open_folder,
)
from selfdev_engine.engine.screening.inputs import open_selection, open_task
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.selfdev.export import prepare_export
from selfdev_engine.selfdev.screen import prepare_screen

PROGRAM = "def merge_models(d, device):\n    return sum(d.values())\n"


class Lab:
    """Copies of two experts, a base and a task; a run that was begun with them, without an engine."""

    def __init__(self, models: Path, root: Path) -> None:
        self.models, self.run = root / "models", root / "run"
        shutil.copytree(models, self.models)

    def settings(self, **more) -> ScreenSettings:
        return ScreenSettings(
            base=str(self.models / "base"),
            experts={"x": str(self.models / "x"), "y": str(self.models / "y")},
            task=f"jsonl:{self.models / 'task.jsonl'}",
            engine="transformers",
            **more,
        )

    def inputs(self, **more):
        settings = self.settings(**more)
        return identity.inputs_of(settings, open_selection(settings), open_task(settings))

    def begin(self, read: bool = True) -> None:
        with open_folder(self.run, comparable(self.settings()), "resume", completed):
            pass
        with Store.open(self.run / "run.db") as store:
            identity.record_inputs(store, self.inputs(), self.run)
            with ContentReader(store) as reader:
                if read:
                    reader.finish()
            store.add_candidates([{"id": "p", "source": PROGRAM}])

    def go_on(self, **more) -> Store:
        """What a later command does first; a store to look into."""
        identity.check_existing_screening(self.settings(**more), self.run)
        with open_folder(self.run, comparable(self.settings()), "resume", completed):
            pass
        with Store.open(self.run / "run.db") as store:
            accept = bool(more.get("accept_engine"))
            identity.record_inputs(store, self.inputs(), self.run, accept)
        return Store.read(self.run / "run.db")


@pytest.fixture
def lab(small_models, tmp_path):
    return Lab(small_models, tmp_path)


def change(path: Path, by: float = 1e-3) -> None:
    tensors = load_file(path)
    tensors[next(iter(tensors))].add_(by)
    save_file(tensors, path, {"format": "pt"})


def edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_run_that_a_full_disk_ended_before_its_tables_goes_on(lab):
    with open_folder(lab.run, comparable(lab.settings()), "resume", completed):
        (lab.run / "run.db").touch()
    with lab.go_on() as store:
        assert "base" in store.inputs()


CHANGES = {  # what is done to the models, what the one line names
    "base": (lambda m: change(m / "base/model.safetensors"), "base .*weights are others"),
    "expert": (lambda m: change(m / "y/model.safetensors"), "expert y .*weights are others"),
    "config": (lambda m: edit_json(m / "base/config.json", rope_theta=5.0), "config.json differs"),
    "tokenizer": (lambda m: (m / "base/tokenizer_config.json").unlink(), "tokenizer_config.json"),
    "ends": (
        lambda m: (m / "base/generation_config.json").write_text('{"eos_token_id": [1, 4]}'),
        "generation_config.json differs",
    ),
    "answer": (lambda m: edit(m / "task.jsonl", '"0"', '"7"'), "task has changed"),
    "question": (lambda m: edit(m / "task.jsonl", "5+6", "5+7"), "task has changed"),
    "swap": (lambda m: swap(m / "x", m / "y"), "expert x .*weights are others"),
}


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_another_is_named(lab, name):
    lab.begin()
    done, words = CHANGES[name]
    done(lab.models)
    with pytest.raises(UsageError, match=words):
        lab.go_on()


def test_what_no_engine_reads_of_generation_config_is_not_part_of_a_run(lab):
    lab.begin()
    edit_json(lab.models / "base/generation_config.json", temperature=0.3, top_k=5)
    lab.go_on().close()


def test_an_expert_s_companions_are_not_part_of_a_run(lab):
    lab.begin()
    edit_json(lab.models / "x/config.json", note="mine")
    lab.go_on().close()


def test_the_same_contents_elsewhere_are_accepted(lab, tmp_path):
    """Moved, copied, saved anew in two shards: the tensors are the same."""
    lab.begin()
    lab.models = shutil.copytree(lab.models, tmp_path / "moved")
    shutil.rmtree(tmp_path / "models")
    tensors = load_file(lab.models / "x/model.safetensors")
    (lab.models / "x/model.safetensors").unlink()
    for i in range(2):
        part = {n: t for k, (n, t) in enumerate(tensors.items()) if k % 2 == i}
        save_file(part, lab.models / "x" / f"part-{i}.safetensors", {"note": "again"})
    with lab.go_on() as store:
        assert store.inputs()["expert x"].place == str(lab.models / "x")
        assert {e.role for e in store.inputs().values() if e.files} == {
            "base",
            "expert x",
            "expert y",
        }
        assert all(found.is_read for found in store.inputs().values())


def test_times_that_were_set_back_hide_nothing(lab):
    lab.begin()
    path = lab.models / "x/model.safetensors"
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UsageError, match="expert x"):
        lab.go_on()


def test_what_nobody_read_cannot_be_told_from_another(lab):
    """A run that was cut off before its contents were read: files that look the same are the same."""
    lab.begin(read=False)
    with Store.open(lab.run / "run.db") as store:
        for found in store.inputs().values():
            parts = {k: v for k, v in found.parts.items() if k != WEIGHTS}
            store.set_input(type(found)(found.role, found.place, found.files, parts))
    lab.go_on().close()
    os.utime(lab.models / "x/model.safetensors")
    with pytest.raises(UsageError, match="nobody can tell"):
        lab.go_on()


def test_contents_recorded_by_another_digest_are_not_compared(lab):
    """A run of an earlier version: files that look as before are read anew, others cannot be told."""
    lab.begin()
    with Store.open(lab.run / "run.db") as store:
        known = {role: found for role, found in store.inputs().items() if found.files}
        assert all(found.parts[WEIGHTS].startswith("nh-") for found in known.values())
        for found in known.values():
            parts = {**found.parts, WEIGHTS: "0123456789abcdef"}
            store.set_input(type(found)(found.role, found.place, found.files, parts))
    lab.go_on().close()
    path = lab.models / "x/model.safetensors"
    os.utime(path)
    with pytest.raises(UsageError, match=r"recorded its contents by another digest, so nobody can"):
        lab.go_on()
    with Store.open(lab.run / "run.db") as store:
        found = store.inputs()["expert x"]
        store.set_input(type(found)(found.role, found.place, lab.inputs()[1].files, found.parts))
        with ContentReader(store) as reader:
            reader.finish()
        assert {r: f.parts[WEIGHTS] for r, f in store.inputs().items() if f.files} == {
            role: found.parts[WEIGHTS] for role, found in known.items()
        }


def test_a_model_that_changes_while_it_is_scored_is_named(lab):
    lab.begin()
    with Store.open(lab.run / "run.db") as store, ContentReader(store) as reader:
        os.utime(lab.models / "x/model.safetensors")
        reader.finish()  # only its time
        change(lab.models / "x/model.safetensors")
        with pytest.raises(UsageError, match=r"expert x .* was changed while the run went on"):
            reader.finish()


def test_reading_is_bounded_while_others_work(monkeypatch):
    waited = []
    pace = contents_reader.Pace(100)
    monkeypatch.setattr(pace._hurry, "wait", waited.append)
    pace(50)
    pace.hurry()
    pace(1000)
    assert waited == [0.5]
    pace.stop()
    with pytest.raises(contents_reader.Stopped):
        pace(1)


def test_another_engine_is_accepted_only_if_told_so(lab, monkeypatch):
    lab.begin()
    monkeypatch.setattr(identity, "installed_engine", lambda name: f"{name} 99")
    with pytest.raises(UsageError, match=r"transformers 99 is installed.*--accept-engine"):
        lab.go_on()
    with lab.go_on(accept_engine=True) as store:
        kinds = [row["kind"] for row in store._db.execute("SELECT kind FROM events")]
        assert "engine accepted" in kinds
    lab.go_on().close()  # it is the run's engine now


def test_another_grader_is_named(lab, monkeypatch):
    lab.begin()
    monkeypatch.setattr(identity, "grader_of", lambda grading: "by dice")
    with pytest.raises(UsageError, match=r"graded by .*'by dice'"):
        lab.go_on()


# ---- compare and export


def test_a_program_that_was_edited_is_another(lab):
    """Its score stays that of the first text: the same name with another one is refused, before torch."""
    lab.begin()
    settings, texts = lab.settings(), [("p", PROGRAM)]
    with Store.open(lab.run / "run.db") as store:
        add_programs(store, texts, settings, lab.run)
        for again in (texts, [*texts, ("q", PROGRAM + "# more\n")]):
            assert check_texts(store, again, lab.run).keys() == {"base", "p"}
        with pytest.raises(
            UsageError, match="program 'p' has another text there; give it another name"
        ):
            check_texts(store, [("p", PROGRAM + "# edited\n")], lab.run)
    file = lab.run.parent / "p.py"
    file.write_text(PROGRAM + "# edited\n")
    with pytest.raises(UsageError, match="another text there"):
        prepare_screen(file, settings, lab.run)


def test_compare_pairs_questions_not_positions(tmp_path):
    """One candidate was asked a question twice, and the other in another order."""

    def samples(*asked):
        rows = enumerate(asked)
        return [Sample(i, q, q, "", None, right, right, right) for i, (q, right) in rows]

    with Store.open(tmp_path / "run.db") as store:
        for name, found in {
            "one": samples(("a", True), ("b", False), ("a", False)),
            "two": samples(("b", True), ("c", True), ("a", True)),
        }.items():
            store.add_candidates([{"id": name, "source": name}])
            store.add_score(name, "t", "dev", score_of(found, "strict"), found, {})
        found = compare_candidates(store, "one", "two")
    assert (found.n, found.both, found.only_first, found.only_second) == (2, 1, 0, 1)


def test_an_export_takes_models_where_they_are_now(lab, tmp_path):
    lab.begin()
    moved, out = shutil.copytree(lab.models, tmp_path / "moved"), tmp_path / "out"
    shutil.rmtree(lab.models)
    with pytest.raises(
        UsageError, match=r"no such model folder; .* its base there: say with --base DIR"
    ):
        prepare_export(lab.run, "p", out)
    with pytest.raises(UsageError, match="has no such expert; it has x, y"):
        prepare_export(lab.run, "p", out, experts={"z": "here"})
    places = {name: str(moved / name) for name in ("y", "x")}
    wanted = prepare_export(lab.run, "p", out, base=str(moved / "base"), experts=places)
    assert not wanted.unchecked
    with Store.open(lab.run / "run.db") as store:
        kept = store.inputs()
        store._db.execute("DELETE FROM inputs WHERE role = 'base'")
    again = prepare_export(lab.run, "p", out, base=str(moved / "base"), experts=places)
    assert again.unchecked == ["base"]
    with Store.open(lab.run / "run.db") as store:
        store.set_input(kept["base"])
    assert list(wanted.experts) == ["x", "y"]
    change(moved / "x/model.safetensors")
    with pytest.raises(UsageError, match=r"expert x .*weights are others"):
        prepare_export(lab.run, "p", out, base=str(moved / "base"), experts=places)


def test_an_export_says_which_expert_is_another_and_what_to_do(lab, tmp_path):
    lab.begin()
    other = shutil.copytree(lab.models / "x", tmp_path / "other")
    change(other / "model.safetensors")
    x, y = lab.models / "x", lab.models / "y"
    for place, said in ((other, ""), (y, "they are those of its expert y; ")):
        with pytest.raises(UsageError) as caught:
            prepare_export(lab.run, "p", tmp_path / "out", experts={"x": str(place)})
        text = str(caught.value)
        assert f"expert x ({place}) is another model than the run's: its weights are others" in text
        assert text.endswith(
            f"{said}put back what was there ({x}), or say with --expert x=DIR where it is now"
        )
    change(y / "model.safetensors")
    with pytest.raises(UsageError, match=r"expert y .*has changed .*with --expert y=DIR where it"):
        prepare_export(lab.run, "p", tmp_path / "out")


def test_what_was_rejected_is_not_exported(lab):
    lab.begin()
    with Store.open(lab.run / "run.db") as store:
        store.decide("p", status="rejected", kind="timeout", detail="took too long", line=2)
    with pytest.raises(Rejected, match="timeout: took too long"):
        prepare_export(lab.run, "p", lab.run.with_name("out"))


def test_digests_are_those_of_the_live_weights(lab):
    """So the base's digest is the fingerprint that its score has."""
    from selfdev_engine.engine.weights.checkpoint import Checkpoint
    from selfdev_engine.engine.weights.contents import contents_fingerprint
    from selfdev_engine.engine.weights.fingerprint import TensorPrint, weights_fingerprint

    checkpoint = Checkpoint.open(str(lab.models / "base"))
    prints = {name: TensorPrint.of(checkpoint.tensor(name)) for name in checkpoint.names}
    assert contents_fingerprint(checkpoint) == weights_fingerprint(prints)
    assert torch.is_tensor(checkpoint.tensor(checkpoint.names[0]))
