"""Runs for the tests of the report, made through the Store; and a browser."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from selfdev_engine.bench.synthetic_run import make_run
from selfdev_engine.engine.records.score import Sample, score_of
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.report import write_report

CHROMIUM = shutil.which("chromium")
WORDS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SOURCE = "def merge_models(d, device):\n    # {}\n    return {} * d['x'] + {} * d['y']\n"
TURN = {
    "categories": {
        "success": 6,
        "duplicate": 1,
        "no_function": 1,
        "not_executable": 4,
        "timeout": 0,
    },
    "sampled": 12,
    "unique": 11,
    "texts": 11,
    "updates": 5,
    "valid": 6,
    "rejected": {"syntax": 4},
    "best": 0.8,
    "mean": 0.6,
    "pairs": 2,
    "dpo_steps": 10,
    "temperature": 1.0,
}
TRAINING = {
    "loss": [0.7, 0.5], "margin_nats": [0.1, 0.9], "holdout_loss": [[10, 0.6]],
    "holdout_margin_nats": [0.8, 0.2, 1.4],
}  # fmt: skip


def samples(bits: str, secret: str = "") -> list[Sample]:
    """A sample for each character, right where it is 1. `secret` is in its question."""
    return [
        Sample(i, f"{secret}question {i}?", f"{secret}Q{i}", "r", "r", *([bit == "1"] * 3))
        for i, bit in enumerate(bits)
    ]


def score(store: Store, name: str, bits: str, split: str = "dev", secret: str = "") -> None:
    found = samples(bits, secret)
    store.add_score(name, "jsonl:t", split, score_of(found, "flexible"), found, {"engine": "e 1"})


def make_loop(folder: Path) -> Path:
    """A finished loop of two iterations and two arms, in which the search lost on test."""
    config = {
        "base": "models/base", "experts": {"x": {"model": "models/x"}, "y": {"model": "models/y"}},
        "task": "jsonl:t", "include": "mlp", "arms": ["no_learning"], "baselines": ["ties"],
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with Store.open(folder / "run.db") as store, store.transaction():
        known = [("base", None), ("expert-x", "x"), ("expert-y", "y"), ("ties-0.3", "t")]
        rows = [{"id": name, "source": source} for name, source in known]
        for arm in ("main", "no_learning"):
            for turn in (1, 2):
                tail = "" if arm == "main" else f"@{arm}"
                rows += [
                    {"id": f"i{turn}-{k}{tail}", "source": SOURCE.format(arm, k / 5, turn / 5),
                     "arm": arm, "iteration": turn}
                    for k in range(6)
                ]  # fmt: skip
        store.add_candidates(rows)
        for i, row in enumerate(rows):
            fill(store, i, row)
        for arm in ("main", "no_learning"):
            for turn in (1, 2):
                more = {"training": TRAINING} if (arm, turn) == ("main", 1) else {}
                store.set_iteration(turn, {**TURN, "iteration": turn, **more}, arm)
        store.set_preferences(1, [("i1-4", "i1-1", False), ("i1-3", "i1-1", True)])
        finish(store)
    return folder


def fill(store: Store, i: int, row: dict) -> None:
    """Decide a candidate: the second of an iteration is a twin of the first, the last is rejected."""
    name, k = row["id"], i % 6
    if i >= 4 and name.split("@")[0].endswith("-5"):
        return store.decide(name, status="rejected", kind="syntax", detail="it ends early", line=2)
    if i >= 4 and name.split("@")[0].endswith("-1"):
        return store.decide(name, status="duplicate", duplicate_of=rows_first(name))
    linear = {"coefficients": {"x": k / 5, "y": i / 30}, "residual": k / 100}
    store.decide(name, status="scored", linear=linear, seconds=0.5, weights_fingerprint=f"nh-{i}")
    if i:
        store.add_trace(name, "fused" if k else "hybrid", None, f"cafe{i}", 0, 1.0, [])
    score(store, name, "".join("1" if (j * 7 + i * 3) % 11 < 5 + k else "0" for j in range(20)))


def rows_first(name: str) -> str:
    return name.replace("-1", "-0", 1)


def finish(store: Store) -> None:
    """Test scores whose questions must stay out of the page, and the result of the run."""
    for name, bits in (
        ("base", "1" * 11),
        ("expert-x", "1" * 9),
        ("expert-y", "1" * 10),
        ("ties-0.3", "1" * 12),
        ("i2-4", "1" * 8),
    ):
        score(store, name, bits.ljust(20, "0"), "test", "SECRET ")

    def shown(name: str) -> dict:
        splits = {split: store.score(name, split) for split in ("dev", "test")}
        return {"id": name, **{split: s and s.to_json() for split, s in splits.items()}}

    store.set_setting("result", {
        "base": shown("base"), "experts": {n: shown(f"expert-{n}") for n in "xy"},
        "baselines": {"ties": shown("ties-0.3")}, "best": shown("i2-4"), "tested": [shown("i2-4")],
    })  # fmt: skip


@pytest.fixture(scope="session")
def loop(tmp_path_factory) -> Path:
    return make_loop(tmp_path_factory.mktemp("report") / "loop")


@pytest.fixture(scope="session")
def screening(tmp_path_factory) -> Path:
    """A small screening, of the same make as the large one."""
    return make_run(tmp_path_factory.mktemp("report") / "screening", 300, questions=30)


@pytest.fixture(scope="session")
def large(tmp_path_factory) -> Path:
    """The page of a screening of 10,000 programs with 20 questions each."""
    folder = make_run(tmp_path_factory.mktemp("report") / "large", 10_000, questions=20)
    page = write_report(folder)
    (folder / "run.db").unlink()
    return page


@pytest.fixture(scope="session")
def browser():
    """A real Chromium. Where it is missing the tests skip, and say how to get it."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="pip install playwright, apt install chromium"
    )
    if not CHROMIUM:
        pytest.skip("no Chromium: apt install chromium")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=list(WORDS))
        yield found
        found.close()


@pytest.fixture
def expect(browser):
    """Playwright's assertion that waits. It asks from outside: `wait_for_function` evaluates a text in the
    page at its second look, and the page's policy forbids that."""
    return pytest.importorskip("playwright.sync_api").expect


@pytest.fixture
def view(browser):
    """view(page, width=, theme=) opens a page; its `said` has all that went wrong or was asked for."""
    contexts = []

    def look(page: Path | str, width: int = 1280, theme: str = "light", wait: bool = True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, accept_downloads=True
        )
        contexts.append(context)
        tab, said = context.new_page(), []
        tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: said.append(f"error: {error}"))
        tab.on(
            "dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        url = page if isinstance(page, str) else page.as_uri()
        tab.on("request", lambda asked: asked.url.split("#")[0] != url and said.append(asked.url))
        tab.goto(url)
        if wait:
            tab.wait_for_selector("html[data-ready]")
        return SimpleNamespace(tab=tab, said=said)

    yield look
    for context in contexts:
        context.close()
