"""Whatever a program, a name or a message says, nothing of it becomes markup or script in a real browser."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from selfdev_engine.engine.errors import visible
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.report import write_report
from selfdev_engine.selfdev.report.page import data_of

PAYLOADS = (
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>", "<svg><script>alert(1)</script></svg>", "<iframe src=javascript:alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>", "<body onload=alert(1)>", "<details open ontoggle=alert(1)>",
    "<a href=javascript:alert(1)>x</a>", "javascript:alert(1)", "data:text/html,<script>alert(1)</script>",
    "<math><mi xlink:href=javascript:alert(1)>", "<link rel=stylesheet href=http://evil.example/x.css>",
    "<style>@import 'http://evil.example/x.css'</style>", "<base href=http://evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>", "<form action=http://evil.example><button>",
    "<object data=http://evil.example/x>", "<embed src=http://evil.example/x>", "<video src=http://evil.example/x>",
    '" onmouseover="alert(1)" x="', "' onfocus='alert(1)' autofocus='", "`onerror=alert(1)`", "--><!--<img src=x>",
    "]]><script>alert(1)</script>", "<!--<script>", "<template><img src=x onerror=alert(1)></template>",
    "{{ 7 * 7 }}{% include 'x' %}", "${alert(1)}", "{{constructor.constructor('alert(1)')()}}", "__proto__",
    "constructor", "toString", "datum.x;alert(1)", "a.b[0]\\'\"", "=HYPERLINK(\"http://evil.example\")",
    "@SUM(1+1)*cmd|' /C calc'!A0", "&lt;script&gt;alert(1)&lt;/script&gt;", "&#x3c;img src=x&#x3e;",
    "\x1b[2J\x9b\u202egnp.exe\u2028", "'; rm -rf ~; '$(reboot)`reboot`", "--out=/etc/passwd", "%3Cscript%3E",
    "<plaintext>", "<textarea><xmp><noscript><title>",
)  # fmt: skip
TAGS = "[...document.querySelectorAll('*:not(.vega-bindings)')].map(e => e.tagName).filter(t => /^(IMG|IFRAME|OBJECT|EMBED|VIDEO|LINK|BASE|FORM|TEXTAREA|XMP|PLAINTEXT|TEMPLATE|MATH)$/i.test(t))"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A loop in which every text from outside is a payload: an arm's, an expert's, a program's, a question's."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    folder.mkdir()
    every = "\n".join(PAYLOADS)
    experts = {f"{text}{i}": text for i, text in enumerate(PAYLOADS[:4])}
    arms = {"<img src=x onerror=alert(2)>": {}}
    config = {"base": every, "task": every, "include": every, "experts": experts, "arms": arms}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    arm, names = next(iter(arms)), list(PAYLOADS)
    samples = [
        Sample(i, text, text, text, text, *([i % 2 == 0] * 3)) for i, text in enumerate(PAYLOADS)
    ]
    with Store.open(folder / "run.db") as store, store.transaction():
        rows = [{"id": "base", "source": None}]
        more = {"iteration": 1, "generator": every, "stop_reason": every, "arm": arm}
        rows += [
            {"id": text, "source": f"# {text}\n'''{text}", "params": {text: text}, **more}
            for text in names
        ]
        store.add_candidates(rows)
        for i, row in enumerate(rows):
            fill(store, i, row["id"], experts, samples, every)
        store.set_preferences(1, [(names[0], names[1], False)], arm)
        turn = dict.fromkeys(("temperature", "sampled", "unique", "updates", "valid"), 3)
        turn |= {
            "best": 0.5,
            "mean": 0.4,
            "pairs": 1,
            "dpo_steps": 2,
            "iteration": 1,
            "note": every,
        }
        turn |= {"categories": {every: 3}, "rejected": {every: 1}, "generator_fingerprint": every}
        store.set_iteration(1, {**turn, "training": {"loss": [1.0, 2.0]}}, arm)
        shown = {"id": names[0], "dev": score_of(samples, "flexible").to_json(), "test": None}
        result = {
            "base": shown,
            "experts": {every: shown},
            "baselines": {every: shown},
            "best": shown,
        }
        store.set_setting(
            "result", {**result, "verdict": every, "comparisons": [], "arm_verdict": every}
        )
    return write_report(folder)


def fill(store: Store, i: int, name: str, experts: dict, samples: list[Sample], every: str) -> None:
    if i % 5 == 4:
        return store.decide(name, status="rejected", kind=every, detail=every, line=1)
    linear = {"coefficients": dict.fromkeys(experts, i / 7), "residual": 0.1}
    store.decide(name, status="scored", linear=linear, weights_fingerprint=every, seconds=1.0)
    store.add_trace(name, "fused", every, f"{i} {every}", 0, 1.0, [])
    plan = {"plans": [{"tier": every, "reason": every}], "tensors": {every: 0}}
    store.add_plan(f"{i} {every}", json.dumps(plan).encode())
    for split in ("dev", "test"):
        store.add_score(name, "t", split, score_of(samples, "flexible"), samples, {})


def test_there_are_forty_of_them():
    assert len(set(PAYLOADS)) >= 40


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_runs_and_nothing_is_fetched(page, view, theme):
    """Every plot is drawn, and every candidate opened; each title is the id, as text."""
    seen = view(page, theme=theme)
    tab = seen.tab
    plots = tab.locator(".plot")
    for i in range(plots.count()):
        plots.nth(i).scroll_into_view_if_needed()
        tab.locator(".plot[data-drawn]").nth(i).wait_for()
        plots.nth(i).hover()
    assert plots.count() == 7
    for name in PAYLOADS:
        tab.evaluate("id => { location.hash = '#c=' + encodeURIComponent(id) }", visible(name))
        tab.locator("#panel h2", has_text=visible(name)).first.wait_for()
        tab.evaluate("document.querySelectorAll('#panel details').forEach(d => { d.open = true })")
        assert tab.locator("#panel h2").text_content() == visible(name)
        tab.evaluate("document.getElementById('panel').close()")
    assert tab.evaluate(TAGS) == []
    assert (
        tab.evaluate(
            "document.querySelectorAll('[onerror],[onload],[onmouseover],[onfocus],[ontoggle],[href],[src]').length"
        )
        == 0
    )
    assert not seen.said


def test_the_list_and_a_comparison_show_text(page, view):
    seen = view(page)
    tab = seen.tab
    boxes = tab.locator("#table input[type=checkbox]")
    boxes.nth(1).check()
    boxes.nth(2).check()
    tab.locator("#compare").click()
    assert " and " in tab.locator("#comparison h2").inner_text()
    tab.keyboard.press("Escape")
    tab.locator("#search").fill("<script>alert(1)</script>")
    assert int(re.match(r"\d+", tab.locator("#count").inner_text())[0]) >= 1
    assert tab.evaluate(TAGS) == [] and not seen.said


def test_a_spreadsheet_gets_no_formula(page, view):
    tab = view(page).tab
    with tab.expect_download() as got:
        tab.locator("#csv").click()
    import csv

    with open(got.value.path(), newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert '\'=HYPERLINK("http://evil.example")' in cells
    numbers = re.compile(r"[+-]?[\d.]+(e-?\d+)?")
    assert not [
        cell for cell in cells if cell[:1] in "=+-@" and cell and not numbers.fullmatch(cell)
    ]


def test_a_command_to_run_again_is_one_of_quoted_words(page, view):
    import shlex

    tab = view(page).tab
    for name in ("'; rm -rf ~; '$(reboot)`reboot`", "--out=/etc/passwd"):
        tab.evaluate("id => { location.hash = '#c=' + encodeURIComponent(id) }", name)
        tab.get_by_text("Run it again").click()
        line = tab.locator("#panel pre[aria-label=commands]").text_content().split("\n")[0]
        assert shlex.split(line)[-2:] == ["--", name] or shlex.split(line)[-1] == name
        tab.evaluate("document.getElementById('panel').close()")


def test_a_script_that_gets_in_does_not_run(page, view):
    """The policy is the second wall: even markup that were let through could do nothing."""
    seen = view(page)
    seen.tab.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        const image = document.createElement("img");
        image.src = "http://evil.example/x";
        image.setAttribute("onerror", "window.ran = 2");
        document.body.append(script, image);
    }""")
    seen.tab.wait_for_timeout(100)
    assert seen.tab.evaluate("window.ran === undefined")
    assert len([said for said in seen.said if "Content Security Policy" in said]) >= 2


def test_no_control_character_is_in_the_data(page):
    said = json.dumps(data_of(page.read_text()), ensure_ascii=False)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", said)
