"""The report stands alone, says what the run holds, and shows hostile text as text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import yaml
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.report import write_report
from selfdev_engine.selfdev.report.page import data_of

HOSTILE = "</pre><script>alert(1)</script><img src=http://x/y>\x1b[2J &amp; \u202e"
CONFIG = {"base": "b", "experts": {"x": "dir"}, "task": "jsonl:t", "include": "mlp"}


class Page(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def samples(right: int, n: int = 20) -> list[Sample]:
    return [Sample(i, "q", "q", "r", "r", i < right, i < right, i < right) for i in range(n)]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    with Store.open(tmp_path / "run.db") as store, store.transaction():
        rows = [("good", "return a"), ("same", "return a "), ("bad", HOSTILE), ("waits", "...")]
        store.add_candidates({"id": i, "source": s, "iteration": 1} for i, s in rows)
        store.decide("good", status="scored", linear={"coefficients": {"x": 1.0}, "residual": 0.0})
        store.add_trace("good", "fused", None, "cafe", 0, 1.0, [0.5])
        store.decide("same", status="duplicate", duplicate_of="good")
        store.decide("bad", status="rejected", kind="syntax", detail=HOSTILE, line=3)
        store.add_score(
            "good", "jsonl:t", "dev", score_of(samples(13), "flexible"), samples(13), {}
        )
    return tmp_path


def test_a_page_of_its_own_with_every_candidate(run):
    page = Page(write_report(run).read_text())
    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "base")]
    assert not [v for _, a in page.tags for k, v in a.items() if k in ("src", "href")]
    shown = data_of(write_report(run).read_text())["candidates"]
    assert shown["id"] == ["good", "same", "bad", "waits"]
    assert shown["dev"] == [0.65, 0.65, None, None] and shown["kind"] == [
        None,
        None,
        "syntax",
        None,
    ]
    assert shown["twin_of"] == [None, 0, None, None] and shown["tier"][0] == "fused"
    assert "good" in page.text and "65.0 %" in page.text


def test_what_a_program_says_is_shown_not_obeyed(run):
    data = data_of(write_report(run).read_text())
    texts = [*data["sources"], *data["details"]]
    assert sum("<script>alert(1)</script>" in text for text in texts) == 2  # source and reason
    assert all("\\x1b[2J &amp; \\u202e" in text for text in texts if "script" in text)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", json.dumps(data, ensure_ascii=False))


PAYLOADS = {
    "markup": "</pre></td><script>alert(1)</script>",
    "attribute": '" onmouseover="alert(1)" x="',
    "quote": "' autofocus onfocus='alert(1)",
    "link": "javascript:alert(1)",
    "entity": "&lt;b&gt; &#x3c;i&#x3e;",
    "template": "{{ 7 * 7 }}{% include 'x' %}",
    "comment": "--><!-- <![CDATA[",
    "control": "\x1b[2J\x00\x9b\u202e\u2028",
    "half a pair": "\ud800",
}


def hostile_run(folder, text: str):
    """A run in which every text that comes from outside is the payload."""
    # No file holds half a pair.
    stored = text.encode("utf-8", "backslashreplace").decode()
    words = {"base": stored, "task": stored, "include": stored, "experts": {stored: stored}}
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, **words}))
    with Store.open(folder / "run.db") as store, store.transaction():
        row = {"id": stored, "source": text, "iteration": 1, "params": {"x": text}}
        store.add_candidates([row, {**row, "id": "second"}, {**row, "id": "third"}])
        store.decide(stored, status="scored", linear={"coefficients": {text: 1.0}, "residual": 0.0})
        store.decide("second", status="duplicate", duplicate_of=stored)
        store.decide("third", status="rejected", kind="syntax", detail=stored, line=3)
        store.add_trace(stored, "fused", text, stored, 0, 1.0, [0.5])
        store.add_score(stored, "t", "dev", score_of(samples(13), "flexible"), samples(13), {})
        known = {"id": text, "dev": {"score": 0.5, "low": 0.4, "high": 0.6}, "test": None}
        store.set_setting(
            "result",
            {"base": known, "experts": {text: known}, "baselines": {text: known}, "best": known},
        )
        turn = dict.fromkeys(("temperature", "sampled", "unique", "valid", "best", "mean"), 0.0)
        turn |= {"iteration": 1, "pairs": 0, "dpo_steps": 0, "training": None}
        store.set_iteration(1, {**turn, "rejected": {text: 1}, "generator_fingerprint": text})


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_text_becomes_markup(tmp_path, name: str):
    """Whatever is put into names and texts, the page has the tags and attributes that it has anyway."""
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    pages = []
    for folder, text in ((plain, "harmless"), (hostile, PAYLOADS[name])):
        folder.mkdir()
        hostile_run(folder, text)
        text = write_report(folder).read_text()
        pages.append(Page(text))
        said = json.dumps(data_of(text), ensure_ascii=False)
        for words in (said, "".join(pages[-1].texts), repr(pages[-1].tags)):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", words)
    shapes = [[(tag, sorted(attributes)) for tag, attributes in page.tags] for page in pages]
    assert shapes[0] == shapes[1]
    names = {k for _, attributes in pages[1].tags for k in attributes}
    assert not [k for k in names if k.startswith("on") or k in ("href", "src", "action", "style")]


def test_an_unsafe_run_says_so(run):
    assert "--unsafe-sandbox" not in write_report(run).read_text()
    with Store.open(run / "run.db") as store:
        store.set_setting("unsafe_sandbox", True)
    assert "--unsafe-sandbox" in write_report(run).read_text()


def test_the_head_has_the_runs_name_and_note(run):
    assert "first try" not in write_report(run).read_text()
    with Store.open(run / "run.db") as store:
        store.set_setting("name", "first try")
        store.set_setting("note", HOSTILE)
    page = Page(write_report(run).read_text())
    assert "first try: </pre><script>alert(1)</script>" in page.text and "\x1b" not in page.text
