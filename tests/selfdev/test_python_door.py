"""`import selfdev_engine as sd`: types, errors and what is shown, on runs that older versions left."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import inspect
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import selfdev_engine as sd
from selfdev_engine.engine.errors import MissingExtra, in_one_line
from selfdev_engine.engine.given import in_python
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev import open_run as open_run_module
from selfdev_engine.selfdev.watching import UNSEEN

RUNS = Path(__file__).parents[1] / "engine" / "records" / "runs" / "v5"
SUM = "def merge_models(model_dict, device):\n    return sum(model_dict.values())\n"


@pytest.fixture(params=["screen", "loop"])
def folder(request, tmp_path) -> Path:
    """A run that an older version left."""
    return unpacked(request.param, tmp_path)


def unpacked(kind: str, place: Path) -> Path:
    run = place / kind
    run.mkdir()
    shutil.copy(RUNS / kind / "config.yaml", run)
    (run / "run.db").write_bytes(gzip.decompress((RUNS / kind / "run.db.gz").read_bytes()))
    return run


# ---- results


def test_an_opened_run_says_what_its_database_says(folder):
    run = sd.open_run(folder)
    assert run.kind == {"screen": "screen", "loop": "run"}[folder.name]
    with Store.read(folder / "run.db") as store:
        known = store.candidates()
        scores = {c.id: store.score(c.id) for c in known}
        best = store.best()
    assert [c.id for c in run] == [c.id for c in known] and len(run) == len(known)
    for found, row in zip(run, run.records(), strict=True):
        assert row["id"] == found.id and row["source"] == found.source
        score = scores[found.id]
        assert row["score"] == (score.score if score else None)
        assert (found.dev is None) == (score is None)
    assert run.best.id == best and run["best"] == run.best and run.base.id == "base"
    top = [c.dev.score for c in run.top() if c.dev]
    assert top == sorted(top, reverse=True) and len(top) == len(run.top())
    json.dumps(run.records(), allow_nan=False)


def test_the_best_in_python_are_those_of_the_command(folder, selfdev):
    run = sd.open_run(folder)
    for words, arm in (([], None), (["--arm", "main"], "main")):
        told = selfdev("top", folder, "--n", 1000, *words, "--json").json["candidates"]
        assert [row["id"] for row in told] == [c.id for c in run.top(1000, arm)]
        assert told and "base" not in {row["id"] for row in told}
        # Experts and baselines are no arm's; a screening has none.
        assert any(row["known"] for row in told) == (run.kind == "run" and arm is None)
    text = selfdev("top", folder, "--n", 1000).stdout
    assert ("(known before the run)" in text) == (run.kind == "run")
    with pytest.raises(
        sd.UsageError, match="has no arm 'mian'; there are main; did you mean 'main'"
    ):
        run.top(3, "mian")


def test_the_best_is_no_program_that_is_called_so(folder):
    with Store.open(folder / "run.db") as store:
        store.add_candidates([{"id": "best", "source": SUM}])
    run = sd.open_run(folder)
    assert run["best"].id == "best" and run.best.id != "best" and run.best.dev is not None


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(AttributeError, match="'scren'; did you mean 'screen'"):
        sd.scren  # pyright: ignore  # noqa: B018


def test_iterations_are_those_of_the_loop(tmp_path):
    run = sd.open_run(unpacked("loop", tmp_path))
    with Store.read(run.folder / "run.db") as store:
        turns = store.iterations()
    assert [turn.iteration for turn in run.iterations] == list(turns) and turns
    for turn in run.iterations:
        assert (turn.sampled, turn.best) == (
            turns[turn.iteration]["sampled"],
            turns[turn.iteration]["best"],
        )


def test_a_comparison_is_that_of_the_command(folder, selfdev):
    found = sd.open_run(folder).compare("best", "base")
    told = selfdev("compare", folder, "best", "base", "--json").json
    assert found.n > 0 and told["first"] == sd.open_run(folder).best.id
    assert {**told, **found.to_json()} == told
    run = sd.open_run(folder)
    assert run.compare(run.best, run.base) == run.compare("best", run.base) == found
    with pytest.raises(
        sd.UsageError, match="second: give a candidate of the run, or its name, not 3"
    ):
        run.compare(run.best, 3)  # pyright: ignore
    with pytest.raises(sd.UsageError, match=r"both are .*; give two candidates"):
        run.compare("best", run.best)


def test_the_newest_run_is_last(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sd.UsageError, match="there is no run in"):
        sd.open_run("last")
    (tmp_path / "runs").mkdir()
    shutil.copytree(folder, tmp_path / "runs" / "one")
    assert sd.open_run("last").folder == Path("runs/one")


def test_results_cannot_be_changed(folder):
    run = sd.open_run(folder)
    for thing, name in ((run, "kind"), (run.best, "id"), (run.best.dev, "score")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, "other")


def test_a_table_has_a_column_for_each_coefficient(folder):
    pandas = pytest.importorskip("pandas")
    run = sd.open_run(folder)
    table = run.to_pandas()
    assert isinstance(table, pandas.DataFrame) and list(table["id"]) == [c.id for c in run]
    experts = run.best.linear.coefficients
    best = table[table["id"] == run.best.id].iloc[0]
    assert {n: best[f"coefficient.{n}"] for n in experts} == experts


def test_without_pandas_the_install_line_is_said(folder, monkeypatch):
    monkeypatch.setattr(open_run_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pandas is not installed: .* -m pip install .*pandas"):
        sd.open_run(folder).to_pandas()


# ---- errors


MODELS = {"base": "base", "experts": {"x": "x"}}
SCREENED = {**MODELS, "task": "jsonl:t.jsonl", "run": "r"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sd.merge("ties", out="o"), "base is missing: add base=DIR, the model"),
        (lambda: sd.merge("ties", base="b", out="o"), 'no expert is given: add experts={"NAME": DIR}'),
        (lambda: sd.merge("ties", **MODELS, out="o", params={"density": 7}), 'params={"density": 7}: ties'),
        (lambda: sd.merge("ties", **MODELS, out="o", memory="3"), "memory 3: write the unit, too"),
        (lambda: sd.screen("p", **SCREENED, race="sure"), "race sure: say for how many with top=K"),
        (lambda: sd.screen("p", **SCREENED, top=1), "give race='sure' or race='likely', too"),
        (lambda: sd.screen("p", **SCREENED, gpu_memory="q"), "gpu_memory q: write a size"),
        (lambda: sd.evaluate_model("m", "x", "dev", engine="q"), "engine: give one of auto"),
    ],
)  # fmt: skip
def test_an_error_speaks_of_arguments_and_not_of_options(call, says):
    with pytest.raises(sd.UsageError, match=re.escape(says)) as found:
        call()
    assert "--" not in str(found.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sd.evaluate_model("m", task_name="x", split="dev"), "'task_name'; did you mean 'task'?"),
        (lambda: sd.merge("ties", expert={}, out="o"), "'expert'; did you mean 'experts'?"),
        (lambda: sd.open_run("r", zzz=1), "open_run() got an unexpected keyword argument 'zzz'; it takes folder"),
    ],
)  # fmt: skip
def test_an_argument_that_there_is_none_of_is_told_the_nearest(call, says):
    with pytest.raises(TypeError, match=re.escape(says)):
        call()


def test_every_option_of_an_error_is_an_argument():
    @in_python(other="another")
    def function(base=None, experts=None, overwrite=False, memory_bytes=None, *, words: str):
        raise sd.NoRun(words)

    for words, says in (
        ("--out x: give --overwrite to replace", "--out x: give overwrite=True to replace"),
        ("--expert y=DIR, --expert 'z': --base DIR", "experts={\"y\": DIR}, experts 'z': base=DIR"),
        ("--memory: too small; --other is not --memories", "memory_bytes: too small; another is not --memories"),
    ):  # fmt: skip
        with pytest.raises(sd.NoRun) as found:
            function(words=words)
        assert str(found.value) == says


@pytest.mark.parametrize("kind", [FileNotFoundError, sd.UsageError])
def test_a_run_that_is_not_there_raises(tmp_path, kind):
    with pytest.raises(kind, match="nowhere: not a run folder"):
        sd.open_run(tmp_path / "nowhere")
    with pytest.raises(kind, match=re.escape("not a run folder (it holds no run.db)")):
        sd.open_run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_candidate_that_is_not_there_raises(folder):
    with pytest.raises(sd.UsageError, match="has no candidate 'nobody'"):
        sd.open_run(folder)["nobody"]


def test_a_name_is_in_a_run_where_it_finds_a_candidate(folder):
    run = sd.open_run(folder)
    assert run.candidates[0].id in run and "best" in run
    assert "no such name" not in run and 3 not in run and None not in run
    with pytest.raises(sd.UsageError, match="name: give a candidate's name, as str, not 3"):
        run[3]


def test_a_text_is_no_leave_to_overwrite(tmp_path):
    with pytest.raises(sd.UsageError, match="overwrite: give True or False, not 'no'"):
        sd.merge("ties", base="b", experts={"x": "y"}, out=tmp_path, overwrite="no")
    with pytest.raises(sd.UsageError, match="overwrite: give True or False, not 'no'"):
        sd.run({}, overwrite="no")


def test_a_damaged_run_is_a_usage_error(folder):
    (folder / "run.db").write_bytes(b"no database" * 100)
    with pytest.raises(sd.UsageError, match=r"run\.db"):
        sd.open_run(folder)


SCREEN = {"base": "nowhere", "experts": {"a": "b"}, "task": "gsm8k", "run": "r"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sd.merge("ties", experts={"a": "b"}, out="o"), "base is missing"),
        (lambda: sd.merge("ties", base="b", out="o"), "no expert is given"),
        (lambda: sd.merge("tis", base="b", experts={"a": "b"}, out="o"), "did you mean 'ties'"),
        (lambda: sd.merge(SUM, base="nowhere", experts={"a": "b"}, out="o"), "nowhere"),
        (lambda: sd.merge(SUM, base="b", experts={"a": "b"}, params={"x": 1}, out="o"), "x"),
        (lambda: sd.merge(SUM, base="b", experts={"a": "b"}, memory=0, out="o"), "memory 0"),
        (lambda: sd.merge("c.yml", base="b", out="o"), "base: c.yml names models"),
        (lambda: sd.merge("c.yml", experts={"a": "b"}, out="o"), "experts: c.yml names models"),
        (lambda: sd.merge("c.yml", params={"a": 1}, out="o"), "params: c.yml names models"),
        (lambda: sd.screen({}, **SCREEN), "no programs are given"),
        (lambda: sd.screen({"base": SUM}, **SCREEN), "is the base's own id"),
        (lambda: sd.screen({"p": 3}, **SCREEN), "give its id and its text"),
        (lambda: sd.screen({"p": SUM}, **SCREEN), "nowhere: no such model folder"),
        (lambda: sd.screen({"p": SUM}, **SCREEN, race="fast"), "race fast: write one of"),
        (lambda: sd.screen({"p": SUM}, **SCREEN, top=3), "top 3: is for a race only"),
        (lambda: sd.screen("nowhere.py", **SCREEN), "nowhere.py"),
        (lambda: sd.run({"base": "x", "task": "t", "experts": {"a": "b"}, "sed": 1}), "the config: unknown key 'sed'; did you mean 'seed'"),
        (lambda: sd.run({"base": "x", "task": "gsm8k"}), "the config: lacks the key 'experts'"),
        (lambda: sd.run("nowhere.yaml"), "nowhere.yaml: no such file"),
        (lambda: sd.merge(3, base="b", experts={"a": "b"}, out="o"), "program: give a file"),
        (lambda: sd.merge("ties", base="b", experts=["a"], out="o"), "experts: give a dict, such as"),
        (lambda: sd.merge("ties", base="b", experts={"a": 3}, out="o"), "experts['a']: give a folder or hub id"),
        (lambda: sd.merge("ties", base=3, experts={"a": "b"}, out="o"), "base: give a folder or hub id"),
        (lambda: sd.merge("ties", base="b", experts={"a": "b"}, params="density=1", out="o"), "params: give a dict, such as"),
        (lambda: sd.merge("ties", base="b", experts={"a": "b"}, out=5), "out: give a path, as str or Path, not 5"),
        (lambda: sd.merge("ties", base="b", experts={"a": "b"}, seed="a", out="o"), "seed: give a whole number"),
        (lambda: sd.screen([], **SCREEN), "no programs are given"),
        (lambda: sd.screen(None, **SCREEN), "programs: give files and folders"),
        (lambda: sd.screen({"p": SUM}, **{**SCREEN, "run": None}), "run: give a path"),
        (lambda: sd.screen({"p": SUM}, **SCREEN, seed=-1), "seed: give a whole number, at least 0"),
        (lambda: sd.screen({"p": SUM}, **SCREEN, workers=True), "workers: give a whole number"),
        (lambda: sd.run(None), "config: give a path, as str or Path, or a dict of settings, or a RunConfig, not None"),
        (lambda: sd.run("nowhere.yaml", workers=0), "workers: give a whole number, at least 1, not 0"),
        (lambda: sd.open_run(None), "folder: give a path, as str or Path, not None"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_usage_error(call, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sd.UsageError) as caught:
        call()
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("progress", [3, "bar", {"stage": 1}])
def test_a_watcher_that_cannot_be_told_is_refused_before_the_work(progress):
    with pytest.raises(sd.UsageError, match="progress: give True, or an object with stage, update"):
        sd.run({}, progress=progress)


def test_a_count_that_is_none_is_refused(folder):
    run = sd.open_run(folder)
    for count in (-3, "3", 2.0):
        with pytest.raises(sd.UsageError, match="count: give a whole number, at least 0"):
            run.top(count)
    assert run.top(0) == []


def test_a_program_without_merge_models_is_rejected():
    with pytest.raises(sd.Rejected) as caught:
        sd.merge("x = 1\n", base="b", experts={"a": "b"}, out="o")
    assert caught.value.rejection.kind == "no_function"


# ---- the types of arguments

# Arguments of the right type; nothing is there.
RIGHT = {
    **dict.fromkeys(("base", "model", "out", "run", "folder", "path", "config"), "nowhere"),
    "experts": {"a": Path("nowhere")},
    "programs": {"p": SUM},
    "places": ["nowhere.py"],
    "program": "ties",
    "text": SUM,
    "task": "gsm8k",
    "split": "dev",
}
FUNCTIONS = {
    name: getattr(sd, name) for name in sd.__all__ if inspect.isfunction(getattr(sd, name))
}
ARGUMENTS = [
    (name, one) for name, f in FUNCTIONS.items() for one in inspect.signature(f).parameters
]


def right_ones(name: str) -> dict:
    """What a function must be given."""
    needed = [
        p.name
        for p in inspect.signature(FUNCTIONS[name]).parameters.values()
        if p.default is p.empty
    ]
    own = {
        "merge_to_folder": {"program": sd.extract(SUM)},
        "screen_programs": {
            "programs": [("p", SUM)],
            "settings": sd.ScreenSettings("b", {"a": "b"}, "gsm8k"),
            "bar": UNSEEN,
        },
    }
    return {one: {**RIGHT, **own.get(name, {})}[one] for one in needed}


@pytest.mark.parametrize("wrong", [object(), b"bytes", 2.5j])
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_each_argument_of_each_function_is_checked(name, argument, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sd.UsageError) as caught:
        FUNCTIONS[name](**{**right_ones(name), argument: wrong})
    assert str(caught.value).startswith(f"{argument}: give ")
    assert in_one_line(repr(wrong))[:60] in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sd.extract(3), "text: give a text, as str, not 3"),
        (lambda: sd.extract(SUM, [1]), "params: give a dict, such as"),
        (lambda: sd.extract(SUM, {"weights": [1, 2]}), "params['weights']: give a finite number, True"),
        (lambda: sd.extract(SUM, {"x": float("nan")}), "params['x']: give a finite number"),
        (lambda: sd.merge_to_folder("ties", base="b", experts={"a": "b"}, out="o"), "program: give a Program, as sd.extract returns it, not 'ties'"),
        (lambda: sd.evaluate_model("b", None, "dev"), "task: give a text, as str, not None"),
        (lambda: sd.evaluate_model("b", "gsm8k", "dev", progress=True), "progress: give a function"),
        (lambda: sd.ScreenSettings("b", ["a"], "t"), "experts: give a dict"),
        (lambda: sd.ScreenSettings("b", {}, "t", seed="x"), "seed: give a whole number"),
        (lambda: sd.Program(3, "x"), "text: give a text"),
        (lambda: sd.Store.read(3), "path: give a path, as str or Path, not 3"),
        (lambda: sd.read_programs(None), "places: give files and folders, as str or Path, not None"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_told_what_is_wanted(call, says):
    with pytest.raises(sd.UsageError) as caught:
        call()
    assert str(caught.value).startswith(says)


def test_a_missing_or_misspelt_argument_is_told_in_pythons_words():
    with pytest.raises(TypeError, match=r"merge_to_folder\(\) missing .* 'base'"):
        sd.merge_to_folder(sd.extract(SUM), experts={}, out="o")
    with pytest.raises(TypeError, match=r"extract\(\) got an unexpected keyword argument 'parms'"):
        sd.extract(SUM, parms={})


def test_paths_are_str_or_path(tmp_path, folder):
    text = "base: b\nexperts: {a: e}\ngenerator: g\ntask: gsm8k\n"
    (tmp_path / "c.yaml").write_text(text)
    (tmp_path / "p.py").write_text(SUM)
    for kind in (str, Path):
        assert sd.load_config(kind(tmp_path / "c.yaml")).task == "gsm8k"
        assert sd.read_programs(kind(tmp_path / "p.py")) == [("p", SUM)]
        with sd.Store.read(kind(folder / "run.db")) as store:
            assert store.ids()
        settings = sd.ScreenSettings(kind("b"), {"a": kind("e")}, "t", data=kind("d"))
        assert (settings.base, settings.experts, settings.data) == ("b", {"a": "e"}, "d")


# ---- what notebooks show


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = set[str](), [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


HOSTILE = "<script>alert(1)</script>&<img src=x onerror=y>\"'\x1b[2J\u202e"


def test_nothing_in_a_run_becomes_markup(folder):
    run = sd.open_run(folder)
    worst = dataclasses.replace(run.best, id=HOSTILE, status="scored")
    result = {"verdict": HOSTILE} if run.kind == "run" else None
    shown = dataclasses.replace(
        run, folder=Path(HOSTILE.replace("/", "")), candidates=(worst,), result=result
    )
    page = Tags(shown._repr_html_())
    assert page.tags == {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert not page.attributes and "<script>alert(1)" in page.text
    assert "\x1b" not in page.text and "\u202e" not in page.text


def test_the_table_shows_the_best(folder):
    run = sd.open_run(folder)
    page = Tags(run._repr_html_())
    assert run.top()[0].id in page.text and f"{run.top()[0].dev.score:.3f}" in page.text


def test_reading_a_run_loads_no_torch(folder):
    code = (
        "import sys, selfdev_engine as sd; run = sd.open_run(sys.argv[1]); run.records(); "
        "run._repr_html_(); sd.merge; sd.screen; sd.run; "
        "assert not {'torch', 'pandas', 'vllm', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(folder)], check=True)


def test_a_screening_gives_the_threads_back():
    """A notebook goes on with as many as it had, also after an error."""
    import torch
    from selfdev_engine.engine.screen import few_threads

    before = torch.get_num_threads(), sys.getswitchinterval()
    torch.set_num_threads(2)
    try:
        with contextlib.suppress(ValueError), few_threads():
            assert torch.get_num_threads() == 1 and sys.getswitchinterval() < 0.001
            raise ValueError
        assert (torch.get_num_threads(), sys.getswitchinterval()) == (2, before[1])
    finally:
        torch.set_num_threads(before[0])
