"""Parameters: what methods declare is what they take; what is unknown or out of range is one line."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest
from selfdev_engine.engine.errors import UsageError
from selfdev_engine.selfdev.cli.options import parse_params
from selfdev_engine.selfdev.methods import (
    FOLDER,
    describe,
    describe_methods,
    load_method,
    method_names,
    read_program,
)
from selfdev_engine.selfdev.parameters import check_params, signature_of

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


@pytest.mark.parametrize("name", method_names())
def test_what_is_declared_is_what_the_function_takes(name):
    """Read from the text, and from the function itself."""
    space: dict = {}
    exec(compile(load_method(name), name, "exec"), space)
    given = list(inspect.signature(space["merge_models"]).parameters.values())[2:]
    found = signature_of(load_method(name), is_ours=True)
    assert {p.name: p.default for p in given} == {n: p.default for n, p in found.declared.items()}
    assert set(space.get("PARAMETERS", {})) == set(found.names)
    assert all(p.about and p.wanted for p in found.declared.values())


def test_the_page_of_methods_names_every_parameter():
    rows = {row.split("|")[1].strip(): row for row in DOCS.read_text().splitlines() if "|" in row}
    for method in describe_methods():
        for parameter in method["parameters"]:
            assert parameter["name"] in rows[method["name"]]


WRONG = [  # method, --param words, experts, what the one line says
    ("ties", "densty=0.3", 3, "did you mean 'density'? it has density, weights, scale"),
    ("ties", "lambda=0.3", 3, "no such parameter; it has density"),
    ("model_stock", "density=0.3", 3, "it has none"),
    ("ties", "density=7", 3, "density=7: ties wants a number over 0, at most 1 (share of entries"),
    ("ties", "density=0", 3, "over 0, at most 1"),
    ("ties", "density=-0.1", 3, "over 0, at most 1"),
    ("ties", "density=abc", 3, "density=abc: ties wants a number"),
    ("ties", "density=nan", 3, "wants a number"),
    ("ties", "density=true", 3, "wants a number"),
    ("ties", "density=", 3, "wants a number"),
    ("ties", f"density={'9' * 400}", 3, "wants a number"),
    ("task_arithmetic", "scale=inf", 3, "wants a number"),
    ("breadcrumbs", "gamma=1", 3, "at least 0, below 1"),
    ("dare_linear", "rescale=yes", 3, "wants true or false"),
    ("dare_linear", "rescale=1", 3, "wants true or false"),
    ("linear", "normalize=0.5", 3, "wants true or false"),
    ("della", "density=0.9", 3, "epsilon=0.15: around density=0.9"),
    ("della", "epsilon=0.6", 3, "at most 0.5"),
    ("linear", "weights=1,2", 3, "2 numbers for 3 experts"),
    ("linear", "weights=1,b,2", 3, "wants numbers, with commas"),
    ("linear", "weights=1,,2", 3, "wants numbers"),
    ("linear", "weights=1;2;3", 3, "wants numbers"),
    ("linear", "weights=0,0,0", 3, "add up to 0, and linear divides by their sum; give others, or give --param normalize=false"),
    ("linear", "weights=1,-0.5,-0.5", 3, "weights=1,-0.5,-0.5: the weights add up to 0"),
    ("nuslerp", "weights=1,-1", 2, "add up to 0, and nuslerp divides by their sum; give others"),
    ("nuslerp", "weights=1,2", 3, "nuslerp: merges 2 experts; 3 are given"),
    ("tis", "density=0.3", 3, "no method; did you mean 'ties'?"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "word", "experts", "words"), WRONG)
def test_what_does_not_fit_is_said(method, word, experts, words):
    with pytest.raises(UsageError, match=re.escape(words)) as error:
        read_program(method, parse_params((word,)), experts)
    assert len(str(error.value)) < 300


RIGHT = [
    ("ties", ("density=1",), {"density": 1.0}),
    ("ties", ("density=5e-1", "weights=1,2,3"), {"density": 0.5, "weights": "1,2,3"}),
    ("linear", ("normalize=FALSE",), {"normalize": False}),
    ("linear", ("weights=",), {"weights": ""}),
    ("della", ("density=0.9", "epsilon=0.1"), {"density": 0.9, "epsilon": 0.1}),
]


@pytest.mark.parametrize(("method", "words", "params"), RIGHT)
def test_what_fits_is_given_in_its_type(method, words, params):
    found = dict(read_program(method, parse_params(words), 3).params)
    assert found == params
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in params.items()}


def test_weights_that_add_up_to_0_are_taken_where_nothing_is_divided():
    params = {"weights": "1,-1", "normalize": False}
    assert read_program("linear", params, 2).params == params
    assert read_program("task_arithmetic", {"weights": "0,0"}, 2).params == {"weights": "0,0"}


def test_one_number_is_a_list_for_one_expert():
    assert read_program("linear", parse_params(("weights=0.5",)), 1).params == {"weights": "0.5"}


def test_a_program_of_the_user_has_the_names_in_its_signature(tmp_path):
    """Its values are its own: nobody runs it to ask."""
    path = tmp_path / "mine.py"
    path.write_text("PARAMETERS = 7\ndef merge_models(d, device, alpha=[], *, beta=1):\n    pass\n")
    assert read_program(str(path), {"alpha": "abc", "beta": 7}).params == {
        "alpha": "abc",
        "beta": 7,
    }
    with pytest.raises(UsageError, match=r"mine\.py has no such parameter; did you mean 'alpha'"):
        read_program(str(path), {"alpa": 1})
    with pytest.raises(UsageError, match=r"beta=abc: mine\.py wants a number \(1 unless given\)"):
        read_program(str(path), {"beta": "abc"})
    path.write_text("def merge_models(d, device, **more):\n    pass\n")
    assert read_program(str(path), {"anything": 1}).params == {"anything": 1}


def test_a_parameter_that_no_program_of_many_has_is_said():
    texts = [
        "def merge_models(d, device, a=1): pass",
        "def merge_models(d, device): pass",
        "broken(",
    ]
    check_params(texts, {"a": 2})
    with pytest.raises(UsageError, match="each of 3 programs has no such parameter; it has a"):
        check_params(texts, {"b": 2})
    check_params([*texts, "merge_models = len"], {"b": 2})
    with pytest.raises(UsageError, match="a=abc: each of 3 programs wants a number"):
        check_params(texts, {"a": "abc"})
    check_params([*texts, "def merge_models(d, device, a='x'): pass"], {"a": "abc"})


def test_a_parameter_is_given_once():
    with pytest.raises(UsageError, match="density: the parameter is given twice"):
        parse_params(("density=1", "density=2"))


def test_the_command_lists_them(selfdev):
    found = {m["name"]: m for m in selfdev("methods", "--json").json["methods"]}
    assert set(found) == {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    (density, *_) = found["ties"]["parameters"]
    assert (density["name"], density["type"], density["default"]) == ("density", "number", 0.2)
    assert density["range"] == "over 0, at most 1"
    assert all(method["example"] and method["about"] for method in found.values())
    shown = selfdev("methods").stdout
    assert re.search(r"density=0\.2 +number over 0, at most 1: share of entries kept", shown)


@pytest.mark.parametrize("name", method_names())
def test_the_example_of_a_method_fits_it(name):
    words = shlex.split(describe(name)["example"])
    params = [words[i + 1] for i, word in enumerate(words) if word == "--param"]
    assert words[:3] == ["selfdev-engine", "merge", name]
    assert dict(read_program(name, parse_params(params), 2).params).keys() == {
        word.split("=")[0] for word in params
    }


def test_the_command_shows_one_method(selfdev):
    told = selfdev("methods", "ties", "--json").json
    assert [m["name"] for m in told["methods"]] == ["ties"] and told["refused"] == {}
    shown = selfdev("methods", "ties").stdout
    assert "Trimming is per tensor" in shown and "density=0.2" in shown
    assert (
        "example: selfdev-engine merge ties --param density=0.2 --param weights=1,1 --base" in shown
    )
    for name, says in (
        ("tis", "tis: no such method; did you mean 'ties'?"),
        ("slerp", "slerp: is not offered here: it interpolates whole weights"),
    ):
        answer = selfdev("methods", name)
        assert answer.code == 2 and says in answer.stderr
