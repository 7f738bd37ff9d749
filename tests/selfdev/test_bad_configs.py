"""What `run` would refuse, `run --plan` refuses, too, in the same words, before an engine is up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.engine.resident.runnable import check_tokenizer
from selfdev_engine.engine.screening.place import LOCK
from selfdev_engine.engine.screening.settings import ScreenSettings
from selfdev_engine.selfdev import train
from selfdev_engine.selfdev.config import load_config
from selfdev_engine.selfdev.inputs import prepare_run
from selfdev_engine.selfdev.screen import prepare_screen
from selfdev_engine.selfdev.sizes import parse_bytes

# Changes the folder, or the config.
Change = Callable[[Path, dict], object]


def drop(name: str) -> Change:
    return lambda folder, config: (folder / name).unlink()


def put(name: str, text: str) -> Change:
    return lambda folder, config: (folder / name).write_text(text)


def say(**values) -> Change:
    return lambda folder, config: config.update(values)


def only_test(folder: Path, config: dict) -> None:
    row = {"question": "1+1=", "answer": "2", "split": "test"}
    (folder / "task.jsonl").write_text(json.dumps(row) + "\n")


def an_earlier_run(folder: Path, config: dict) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("base: x\n")
    (folder / "run" / LOCK).touch()


def files_of_others(folder: Path, config: dict) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "thesis.tex").write_text("mine")


def a_file(folder: Path, config: dict) -> None:
    (folder / "run").write_text("mine")


def prompt_inside(folder: Path, config: dict) -> None:
    an_earlier_run(folder, config)
    (folder / "run" / "prompt.txt").write_text("write def merge_models(")
    config["generation"] = {"prompt": "run/prompt.txt"}


def own_generator(folder: Path, config: dict) -> None:
    shutil.copytree(folder / "x", folder / "writer")
    for path in (folder / "writer").glob("tokenizer*"):
        path.unlink()
    config["generator"] = "writer"


# What is wrong, and what the one line says.
BAD: dict[str, tuple[Change, str]] = {
    "base": (say(base="./nowhere"), r"nowhere: no such model folder"),
    "somebody's base": (say(base="~nobody-of-that-name/base"), r"no home is known for its first"),
    "somebody's task": (say(task="jsonl:~nobody-of-that-name/t.jsonl"), r"no home is known"),
    "absolute base": (say(base="/no/such/base"), r"/no/such/base: no such model folder"),
    "expert": (say(experts={"x": "./nowhere"}), r"nowhere: no such model folder"),
    "an expert called base": (say(experts={"base": "x"}), r"experts: 'base' names something else"),
    "an expert called best": (say(experts={"best": "x"}), r"experts: 'best' names something else"),
    "an expert called as a sample": (
        say(experts={"i1-0": "x"}),
        r"experts: 'i1-0' names something",
    ),
    "an expert without a name": (say(experts={"": "x"}), r"experts: '' names something else"),
    "an expert called as a baseline": (
        say(experts={"ties": "x", "y": "y"}, baselines=["ties"]),
        r"experts: 'ties' is a baseline, too",
    ),
    "a billion iterations": (say(iterations=10**9), r"iterations: .*less than or equal to 10000"),
    "a seed below zero": (say(seed=-1), r"seed: "),
    "a large seed": (say(seed=1 << 32), r"seed: "),
    "an infinite temperature": (
        say(temperature={"initial": float("inf")}),
        r"temperature.initial: ",
    ),
    "no experts": (say(experts={}), r"experts: "),
    "generator": (say(generator="./nowhere"), r"nowhere: no such model folder"),
    "generator's tokenizer": (own_generator, r"writer: has no tokenizer"),
    "base's tokenizer": (drop("base/tokenizer.json"), r"base: has no tokenizer"),
    "weights": (drop("y/model.safetensors"), r"y: holds no \*\.safetensors"),
    "config.json": (drop("base/config.json"), r"config\.json: no such file"),
    "task": (say(task="jsonl:nowhere.jsonl"), r"nowhere\.jsonl: no such file"),
    "task's name": (say(task="gsm9k"), r"gsm9k: no such task"),
    "task's line": (put("task.jsonl", "{}\n"), r"task\.jsonl:1: lacks 'question'"),
    "dev split": (only_test, r"has no dev questions; it has 1 test questions"),
    "empty prompt": (
        lambda folder, config: (
            say(generation={"prompt": "p.txt"})(folder, config)
            or put("p.txt", " \n")(folder, config)
        ),
        r"generation\.prompt: .*p\.txt: is empty",
    ),
    "prompt": (say(generation={"prompt": "nowhere.txt"}), r"generation\.prompt: .*nowhere\.txt"),
    "memory": (say(engine={"memory": "lots"}), r"engine\.memory: .*lots: write a size"),
    "no memory": (say(engine={"memory": "0GiB"}), r"engine\.memory: "),
    "little memory": (say(engine={"memory": "1MiB"}), r"--memory: "),
    "context": (say(engine={"max_model_len": 9999}), r"engine\.max_model_len: 9999 tokens"),
    "include": (say(include="(["), r"--include"),
    "no tensor": (say(include="nothing_here"), r"selects no tensor"),
    "key": (say(sample=3), r"unknown key 'sample'; did you mean 'samples'"),
    "value": (say(samples=0), r"samples: "),
    "a word as a number": (say(samples=True), r"samples: write a whole number, not True"),
    "a text as a number": (say(seed="3"), r"seed: write a whole number, not '3'"),
    "a fraction as a number": (say(samples=3.0), r"samples: write a whole number, not 3\.0"),
    "a number as a switch": (
        say(trace={"eager_tier": 0}),
        r"trace\.eager_tier: write true or false",
    ),
    "a number as a section": (say(test=15), r"test: write a mapping of settings, not 15"),
    "nothing as a section": (say(dpo=None), r"dpo: write a mapping of settings, not None"),
    "a number as a place": (say(base=5), r"base: write a text, not 5"),
    "a number as a name": (say(experts={1: "x"}), r"experts\.1: write a text, not 1"),
    "a text as a list": (say(baselines="ties"), r"baselines: write a list, not 'ties'"),
    "half a worker": (
        say(cluster={"workers": 2.5}),
        r"cluster\.workers: write 'auto' or a whole number from 1, not 2\.5",
    ),
    "more samples than there can be": (say(samples=10**12), r"samples: .*less than"),
    "an empty base": (say(base=" "), r"base: is empty"),
    "an empty expert": (say(experts={"x": ""}), r"experts\.x.*: is empty"),
    "an empty include": (say(include=""), r"include: is empty"),
    "shares that overlap": (
        say(preferences={"chosen_percent": 60, "rejected_percent": 41}),
        r"preferences: chosen_percent and rejected_percent overlap: together they are 101",
    ),
    "a warm-up that never ends": (
        say(dpo={"warmup_steps": 6, "max_steps": 5}),
        r"dpo: warmup_steps: 6 are more than max_steps \(5\)",
    ),
    "answers that fill the generator's context": (
        say(generation={"max_new_tokens": 64}),
        r"generation\.max_new_tokens: 64 leave no room for the prompt in the context of the generator \(64 tokens\)",
    ),
    "answers that fill the context": (
        say(engine={"max_model_len": 64}, generation={}),
        r"generation\.max_new_tokens: 1024 leave no room in engine\.max_model_len \(64\)",
    ),
    "memory without a unit": (say(engine={"memory": 5}), r"engine\.memory: .*such as 5GiB"),
    "baseline": (say(baselines=["tie"]), r"baselines: tie: .*did you mean 'ties'"),
    "baseline twice": (say(baselines=["ties", "ties"]), r"baselines: 'ties' is given twice"),
    "experts of nuslerp": (
        lambda folder, config: config.update(baselines=["nuslerp"], experts={"x": "x"}),
        r"nuslerp merges 2 experts; the config has 1",
    ),
    "a grid of many experts": (
        say(experts={f"e{i}": "x" for i in range(40)}, baselines=["ties"]),
        r"baselines: ties is tuned for 10 experts at most: of 40 its grid has 3\^40 settings",
    ),
    "an arm with a grid of many experts": (
        say(
            experts={f"e{i}": "x" for i in range(40)}, baselines=[], arms={"a": {"writer": "grid"}}
        ),
        r"arms\.a\.writer: grid is for 10 experts at most",
    ),
    "a run that is there": (an_earlier_run, r"holds a run of `screen`, which `run` cannot"),
    "files that are no run": (files_of_others, r"holds files, but no run"),
    "a file": (a_file, r"is a file; a run is a folder"),
    "many workers": (say(cluster={"workers": 999_999}), r"--workers 999999: each takes"),
    "a prompt in the run": (prompt_inside, r"holds a run|holds an input: the prompt"),
}


@pytest.fixture
def place(small_models, tmp_path) -> Path:
    return shutil.copytree(small_models, tmp_path / "here")


def write(folder: Path, change: Change) -> Path:
    config: dict = {
        "base": "base",
        "experts": {"x": "x", "y": "y"},
        "task": "jsonl:task.jsonl",
        "generation": {"max_new_tokens": 32},
    }
    change(folder, config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


@pytest.mark.parametrize("offline", [True, False], ids=["plan", "run"])
@pytest.mark.parametrize("name", BAD)
def test_a_plan_refuses_what_a_run_would(place, monkeypatch, name, offline):
    """Both prepare alike, but that a plan downloads nothing; nothing is left in the run's place."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    change, words = BAD[name]
    path = write(place, change)
    before = sorted(place.rglob("*"))
    with pytest.raises(UsageError, match=words):
        prepare_run(load_config(path), place / "run", offline=offline)
    assert sorted(place.rglob("*")) == before


# Those of a run that a screening has, too.
SCREENED = (
    *(
        "base",
        "absolute base",
        "expert",
        "no experts",
        "base's tokenizer",
        "weights",
        "config.json",
    ),
    *("task", "task's name", "task's line", "dev split", "little memory", "include", "no tensor"),
    *("context", "files that are no run", "a file", "many workers"),
)


@pytest.mark.parametrize("plan", [True, False], ids=["plan", "screen"])
@pytest.mark.parametrize("name", [*SCREENED, ""])
def test_a_screenings_plan_refuses_what_the_screening_would(place, monkeypatch, name, plan):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    change, words = BAD.get(name, (lambda folder, config: None, ""))
    config: dict = {"base": "base", "experts": {"x": "x", "y": "y"}, "task": "jsonl:task.jsonl"}
    change(place, config)
    (place / "p.py").write_text("def merge_models(d, device):\n    return sum(d.values())\n")
    monkeypatch.chdir(place)
    memory = parse_bytes(config.get("engine", {}).get("memory"))
    settings = ScreenSettings(
        config["base"],
        config["experts"],
        config["task"],
        include=config.get("include", "mlp"),
        workers=config.get("cluster", {}).get("workers", 1),
        memory_bytes=memory,
        max_model_len=config.get("engine", {}).get("max_model_len"),
    )
    before = sorted(place.rglob("*"))
    with (
        pytest.raises(UsageError, match=words.replace("experts: ", "no exp"))
        if name
        else nullcontext()
    ):
        prepare_screen(("p.py",), settings, Path("run"), plan)
    assert sorted(place.rglob("*")) == before


FEW = "--workers 5: each takes a GPU, and --gpus 4xH100 has 4"


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        ("run", ("--workers", 1), 1),
        ("run", ("--workers", 3, "--gpus", "4xH100"), 3),
        ("screen", ("--gpus", "4xH100"), 4),
        ("run", ("--workers", 5, "--gpus", "4xH100"), FEW),
        ("screen", ("--workers", 5, "--gpus", "4xH100"), FEW),
        ("run", ("--workers", 999_999), "--workers 999999: each takes"),
        ("screen", ("--workers", 999_999), "--workers 999999: each takes"),
    ],
)
def test_a_plan_is_for_as_many_workers_as_are_asked_for(selfdev, place, command, words, says):
    path = write(place, lambda folder, config: None)
    asked = ("run", path) if command == "run" else screen_words(place)
    answer = selfdev(*asked, "--run", place / "run", "--plan", *words, "--json")
    if isinstance(says, str):
        assert answer.code == 2 and says in answer.json["error"]
    else:
        assert answer.code == 0, answer.stderr
        assert answer.json["plan"]["workers"] == says
        assert len(answer.json["plan"]["devices"]) == says


def screen_words(place: Path) -> tuple[object, ...]:
    (place / "p.py").write_text("def merge_models(d, device):\n    return sum(d.values())\n")
    models = ("--base", place / "base", "--expert", f"x={place / 'x'}")
    return ("screen", place / "p.py", *models, "--task", f"jsonl:{place / 'task.jsonl'}")


@pytest.mark.parametrize("offline", [True, False], ids=["plan", "run"])
def test_a_good_config_is_prepared(place, offline):
    path = write(place, lambda folder, config: None)
    request = prepare_run(load_config(path), place / "run", offline=offline)
    assert request.existing == "refuse" and not (place / "run").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("base: base\nseed: 1\nbase: x\n", r"config\.yaml: not YAML: base is there twice .*line 3"),
        ("dpo: {beta: 1, beta: 2}\n", "beta is there twice"),
        ("on: 1\n", "unknown key 'True'"),
        ("7: 1\n", "unknown key '7'"),
        ("dpo: {1: 2}\n", "dpo"),
        ("seed: 010\n", "seed: write a whole number, not '010'"),
        ("seed: 1:30\n", "seed: write a whole number, not '1:30'"),
        ("samples: yes\n", "samples: write a whole number, not True"),
    ],
)
def test_a_key_is_a_word_and_there_once(place, text, says):
    path = write(place, lambda folder, config: None)
    path.write_text(text if text.startswith("base") else path.read_text() + text)
    with pytest.raises(UsageError, match=says):
        load_config(path)


def test_numbers_as_people_write_them(place):
    path = write(place, lambda folder, config: None)
    path.write_text(path.read_text() + "dpo: {learning_rate: 1e-6, beta: 1}\nsamples: 3_000\n")
    config = load_config(path)
    assert (config.dpo.learning_rate, config.dpo.beta, config.samples) == (1e-6, 1.0, 3000)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--memory", "5"), "--memory 5: write the unit, too, such as 5GiB"),
        (("--memory", "9" * 400 + "TiB"), "--memory 9999"),
        (("--memory", "9" * 25 + "TiB"), "no machine has so much"),
        (("--include", ""), "--include: is empty"),
        (("--base", ""), "an empty path to a model"),
        (("--base", "~nobody-of-that-name/base"), "no home is known"),
        (("--expert", "x=~nobody-of-that-name/x"), "no home is known"),
        (("--out", "~nobody-of-that-name/out"), "home"),
        (("--out", "x" * 240), "the name has 240 bytes"),
    ],
)
def test_options_that_say_nothing(selfdev, place, words, says):
    given = {"--base": "base", "--expert": "x=x", "--out": "out", **dict([words])}
    options = [word for pair in given.items() for word in pair]
    answer = selfdev("merge", "linear", *options, "--json", cwd=place)
    assert answer.code == 2 and says in answer.json["error"]


def test_what_is_asked_of_the_folder_must_make_sense(place):
    config = load_config(write(place, lambda folder, config: None))
    with pytest.raises(UsageError, match=r"--resume: .*run holds no run; leave --resume out"):
        prepare_run(config, place / "run", resume=True)
    with pytest.raises(UsageError, match="give one of them"):
        prepare_run(config, place / "run", resume=True, overwrite=True)


def test_an_extra_that_is_needed_at_the_end_is_missed_at_once(place, monkeypatch):
    config = load_config(write(place, lambda folder, config: None))
    find = train.importlib.util.find_spec
    monkeypatch.setattr(
        train.importlib.util, "find_spec", lambda n: None if n == "trl" else find(n)
    )
    with pytest.raises(UsageError, match=r"trl is not installed: .*pip install"):
        prepare_run(config, place / "run", offline=True)


def test_models_on_the_hub_are_not_downloaded_for_a_plan(place, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = say(base="org/model", experts={"x": "org/expert"}, generator="org/writer", task="gsm8k")
    prepare_run(load_config(write(place, hub)), place / "run", offline=True)


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (("--plan",), "no dev questions"),
        ((), "no dev questions"),
        (("--plan", "--resume"), "holds no run"),
        (("--resume",), "holds no run"),
        (("--memory", "lots"), "--memory lots"),
    ],
)
def test_the_commands_refuse_alike(selfdev, place, words, culprit):
    path = write(place, only_test)
    answer = selfdev("run", path, "--run", place / "run", *words, "--json")
    assert answer.code == 2, answer.stderr
    assert culprit in answer.json["error"]
    assert not (place / "run").exists()


@pytest.mark.parametrize("name", ["nodir/x.jsonl", "base", "/proc/x.jsonl", "run/samples.jsonl"])
def test_a_log_that_cannot_be_written_is_said_before_the_questions(selfdev, place, name):
    task = f"jsonl:{place / 'task.jsonl'}"
    (place / "run").mkdir()
    (place / "run" / "run.db").touch()
    words = ("eval", place / "base", "--task", task, "--log-samples", place / name, "--json")
    answer = selfdev(*words)
    assert answer.code == 2, answer.stderr
    assert "--log-samples" in answer.json["error"]


def test_two_results_want_two_files(selfdev, place):
    task = f"jsonl:{place / 'task.jsonl'}"
    words = ("eval", place / "base", "--task", task, "--output", place / "both")
    answer = selfdev(*words, "--log-samples", place / "base" / ".." / "both", "--json")
    assert answer.code == 2 and "is the file of --log-samples, too" in answer.json["error"]


def test_an_empty_path_is_a_variable_that_is_unset(selfdev, place):
    words = ("--base", place / "base", "--expert", f"x={place / 'x'}", "--out", "")
    answer = selfdev("merge", "linear", *words, "--overwrite", "--json", cwd=place)
    assert answer.code == 2 and "--out" in answer.json["error"]
    assert "empty path" in answer.json["error"]


def test_a_tokenizer_without_words_is_one(tmp_path, small_models):
    """A byte tokenizer has none; only its config says so."""

    folder = shutil.copytree(small_models / "base", tmp_path / "bytes")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    check_tokenizer(folder)
