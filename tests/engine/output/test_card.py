"""A model card says what was merged, and nothing in a program or a name leaves its place on the page."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from selfdev_engine.engine.output.card import model_card, span
from selfdev_engine.engine.output.origin import CardScore, Origin, digests_of
from selfdev_engine.engine.plans.plan import Plan
from selfdev_engine.engine.program import Program

BODY = "def merge_models(d, device):\n    return sum(d.values())\n"


def card(code: str = BODY, expert: str = "x", include: str = "mlp", **params: Any) -> str:
    base, other = (
        SimpleNamespace(known_as=name, hub_id=None, folder=Path("nowhere"))
        for name in ("base", expert)
    )
    selection: Any = SimpleNamespace(
        base=base, experts={expert: other}, models=(base, other), include=include
    )
    return model_card(Program(code, code, params=params), selection, Plan({}, "cafe"), "beef")


def fenced(page: str) -> str:
    """The content of the first fenced block, as CommonMark finds its end."""
    lines = page.split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("```"))
    ticks = len(lines[at]) - len(lines[at].lstrip("`"))
    ends = (
        i
        for i, line in enumerate(lines[at + 1 :], at + 1)
        if re.fullmatch(rf" {{0,3}}`{{{ticks},}}[ \t]*", line)
    )
    return "\n".join(lines[at + 1 : next(ends)])


@pytest.mark.parametrize("ticks", [3, 4, 5, 40])
@pytest.mark.parametrize("before", ["", "   ", "x = '''\n"])
def test_a_program_stays_in_its_fence(ticks: int, before: str):
    code = f"{BODY}{before}{'`' * ticks}\n# <script>alert(1)</script>\n# [x](javascript:y)"
    page = card(code)
    assert fenced(page) == code
    assert "\n" + "`" * max(4, ticks + 1) + "python\n" in page


def test_control_characters_are_escaped():
    page = card(BODY + "# \x1b[2J\x07 \u202e \x9b\r\n", expert="a\x1b]0;x\x07")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)
    assert "# \\x1b[2J\\x07 \\u202e \\x9b" in page


HOSTILE = ("a|b", "`", "``x``", "<img src=x>", "x\n# heading", "[a](b)", "", "\\", "*b*", "\ud800")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_stay_in_their_cells(text: str):
    page = card(expert=text or "x", include=text, note=text)
    rows = [line for line in page.split("\n") if line.startswith("|")]
    assert len(rows) == 4
    for row in rows:
        assert row.count("|") == 3
    page.encode()  # It can be written.
    prose = page.split("# A merged model")[1].split("````")[0]
    without_code = re.sub(r"(`+) .*? \1(?!`)|`[^`]*`", "", prose)
    assert "<" not in without_code and "[" not in without_code


@pytest.mark.parametrize("text", HOSTILE)
def test_a_span_is_one_piece_of_code(text: str):
    """Its delimiter occurs nowhere inside, so it ends where it should."""
    found = span(text)
    ticks = found[: len(found) - len(found.lstrip("`"))]
    inside = found[len(ticks) : -len(ticks)]
    assert inside and "\n" not in inside and ticks not in re.findall("`+", inside)


# ---- the hub's metadata


def head_of(page: str) -> dict[str, Any]:
    return yaml.safe_load(page.split("---")[1])


def models(tmp_path: Path, *licences: str | None, ids: tuple[str | None, ...] = ()) -> Any:
    """A selection whose models have cards with these licences; the first one is the base."""
    found = []
    for number, licence in enumerate(licences):
        folder = tmp_path / f"secret-{number}"
        folder.mkdir(parents=True)
        if licence is not None:
            (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n# A model\n")
        name = ids[number] if ids else None
        found.append(SimpleNamespace(known_as=name or folder.name, hub_id=name, folder=folder))
    experts = {f"e{number}": model for number, model in enumerate(found[1:])}
    return SimpleNamespace(base=found[0], experts=experts, models=tuple(found), include="mlp")


def page_of(selection: Any, **more: Any) -> str:
    return model_card(Program(BODY, BODY), selection, Plan({}, "cafe"), "beef", **more)


def test_the_head_is_yaml():
    head = head_of(card(expert='x: "\n- evil: ['))
    assert head["tags"] == ["merge", "selfdev-engine"]
    assert head["base_model_relation"] == "merge" and head["library_name"] == "transformers"


def test_only_hub_ids_are_base_models(tmp_path):
    selection = models(tmp_path, None, None, None, ids=("org/base", None, "org/expert"))
    head = head_of(page_of(selection))
    assert head["base_model"] == ["org/base", "org/expert"]
    selection = models(tmp_path / "more", None, None)
    page = page_of(selection)
    assert "base_model" not in head_of(page) and str(tmp_path.parent) not in page


def doubling(levels: int) -> str:
    """Lines of YAML of which each takes in the one before it twice."""
    more = (f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, levels))
    return "\n".join(["mit", "a0: &a0 {x: 1}", *more])


BOMB = doubling(40)  # 2^40 keys


@pytest.mark.parametrize(
    ("licences", "licence"),
    [
        (("apache-2.0", "apache-2.0"), "apache-2.0"),
        (("MIT", "mit"), "mit"),
        (("apache-2.0", "mit"), None),
        (("apache-2.0", None), None),
        ((None, None), None),
        (("other", "other"), None),
        (('"<script>"', '"<script>"'), None),
        (("[mit]", "[mit]"), None),
        (("mit\nx: [", "mit\nx: ["), None),
        (("!!python/object:os.system x", "!!python/object:os.system x"), None),
        ((BOMB, BOMB), None),
    ],
)
def test_the_licence_is_one_that_all_share(tmp_path, licences, licence):
    head = head_of(page_of(models(tmp_path, *licences)))
    assert head["license"] == (licence or "other")
    assert head.get("license_name") == (None if licence else "check")


def test_scores_are_a_model_index(tmp_path):
    scores = [
        CardScore("jsonl:/secret/place/mixed.jsonl", "test", 0.55, 0.49, 0.61, 300),
        CardScore("gsm8k", "dev", 0.58, 0.49, 0.67, 120),
    ]
    page = page_of(models(tmp_path, None, None), origin=Origin("demo", "i1-48", scores), seed=7)
    (index,) = head_of(page)["model-index"]
    assert index["name"] == "i1-48"
    found = {
        r["dataset"]["name"]: (r["dataset"]["split"], r["metrics"][0]) for r in index["results"]
    }
    assert found["mixed"][0] == "test" and found["mixed"][1]["value"] == 0.55
    assert found["gsm8k"][0] == "dev" and found["gsm8k"][1]["type"] == "accuracy"
    assert "secret/place" not in page and "| `mixed` | test | 0.5500 |" in page
    assert "candidate `i1-48` of the run `demo`" in page and "Seed: 7" in page
    card = ModelCard(page)
    assert card.data.eval_results and len(card.data.eval_results) == 2
    assert card.data.license_name == "check"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_of_a_run_becomes_metadata_or_markup(tmp_path, text):
    scores = [CardScore(f"jsonl:{text}\nlicense: mit", "dev", 0.5, 0.4, 0.6, 10)]
    origin = Origin(text, f"{text}\nlicense: mit", scores)
    page = page_of(models(tmp_path, None, None), origin=origin)
    head = head_of(page)
    assert head["license"] == "other" and set(head) <= {
        *("library_name", "tags", "base_model_relation", "license", "license_name", "model-index")
    }
    prose = page.split("# A merged model")[1].split("````")[0]
    without_code = re.sub(r"(`+) .*? \1(?!`)|`[^`]*`", "", prose)
    assert "<" not in without_code and "license: mit" not in without_code
    page.encode()


def test_the_command_is_one_line_that_a_shell_reads_as_it_is_meant():
    page = card(expert="a'b $(touch x); `y`", note="x y")
    line = page.split("````sh\n")[-1] if "````sh" in page else page.split("sh\n")[-1]
    words = shlex.split(line.split("\n")[0])
    assert words[:3] == ["selfdev-engine", "merge", "merge_program.py"]
    assert words[words.index("--expert") + 1] == "a'b $(touch x); `y`=a'b $(touch x); `y`"
    assert words[words.index("--param") + 1] == "note=x y"


def test_digests_are_those_of_the_files(tmp_path):
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    found = digests_of(tmp_path)
    assert (
        found == {n: hashlib.sha256(n.encode()).hexdigest() for n in sorted(found)}
        and len(found) == 2
    )
    page = page_of(models(tmp_path, None, None), digests=found)
    for name, digest in found.items():
        assert f"\n{digest}  {name}\n" in page
