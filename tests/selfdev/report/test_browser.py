"""The page in a real Chromium: both themes, narrow and wide, by mouse and by keyboard, with hostile texts."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from selfdev_engine.engine.records.compare import compare_candidates
from selfdev_engine.engine.records.store import Store
from selfdev_engine.selfdev.report import write_report

AXE = Path(__file__).parent / "axe" / "axe.min.js"
ALL_PLOTS = {"histogram", "best-candidates", "best-time", "dev-test", "outcomes", "map", "training"}
WIDE = "document.documentElement.scrollWidth"
MOST_ROWS, MOST_BYTES = 400, 12e6


@pytest.fixture(scope="module")
def page(loop, tmp_path_factory) -> Path:
    return write_report(loop, tmp_path_factory.mktemp("page") / "report.html")


def shown_ids(tab) -> list[str]:
    return tab.locator("#table button[data-i]").all_inner_texts()


def show_all(tab) -> set[str]:
    """Scroll until every plot is drawn; their ids."""
    plots = tab.locator(".plot")
    for i in range(plots.count()):
        plots.nth(i).scroll_into_view_if_needed()
        tab.locator(".plot[data-drawn]").nth(i).wait_for()
    return {id.removeprefix("plot-") for id in plots.evaluate_all("all => all.map(p => p.id)")}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_in_both_themes_and_asks_for_nothing(page, view, width, theme):
    seen = view(page, width, theme)
    assert show_all(seen.tab) == ALL_PLOTS
    assert seen.tab.evaluate(WIDE) <= width
    color = seen.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", color)[:3])) / 3
    assert brightness < 60 if theme == "dark" else brightness > 200
    seen.tab.locator("#table button[data-i]").first.click()
    assert seen.tab.evaluate(WIDE) <= width
    assert not seen.said


def test_plots_below_the_window_are_drawn_too(page, view, expect):
    tab = view(page).tab
    expect(tab.locator(".plot[data-drawn]")).to_have_count(len(ALL_PLOTS))
    assert tab.evaluate("scrollY") == 0


def test_the_button_changes_the_theme(page, view):
    tab = view(page).tab
    button, body = tab.locator("#theme"), "getComputedStyle(document.body).backgroundColor"
    colors = []
    for _ in range(3):
        button.press("Enter")
        colors.append((button.inner_text(), tab.evaluate(body)))
    light, dark, auto = colors
    assert (light[0], dark[0], auto[0]) == ("Theme: light", "Theme: dark", "Theme: auto")
    assert light[1] == auto[1] != dark[1]


def test_a_screening_has_the_plots_that_apply(screening, view):
    seen = view(write_report(screening))
    assert show_all(seen.tab) == ALL_PLOTS - {"dev-test", "training"}
    tab = seen.tab
    tab.locator("#map-x").select_option(label="math")
    tab.locator("#plot-map svg").get_by_text("math", exact=True).wait_for()
    assert not seen.said


def test_rows_are_sorted_by_keyboard(page, view):
    tab = view(page).tab
    devs = [
        float(text)
        for text in tab.locator("#table [tabulator-field=dev] span").all_inner_texts()
        if text
    ]
    assert devs == sorted(devs, reverse=True) and len(devs) > 10
    tab.locator("#table .tabulator-col[tabulator-field=id]").press("Enter")
    assert shown_ids(tab)[:3] == ["base", "expert-x", "expert-y"]
    tab.locator("#table .tabulator-col[tabulator-field=id]").press("Enter")
    assert shown_ids(tab)[0] == "ties-0.3"
    tab.locator("#sort").select_option("residual")
    tab.locator("#direction").select_option("asc")
    assert shown_ids(tab)[0] == "base"


def test_rows_are_found(page, view):
    tab = view(page).tab
    count = tab.locator("#count")
    assert count.inner_text() == "28 rows"
    tab.locator("#filter-arm").select_option("=no_learning")
    tab.locator("#filter-iteration").select_option("=2")
    assert count.inner_text() == "6 of 28 rows"
    assert all(name.startswith("i2-") and name.endswith("@no_learning") for name in shown_ids(tab))
    tab.locator("#filter-status").select_option("=rejected")
    assert shown_ids(tab) == ["i2-5@no_learning"]
    tab.locator("#clear").click()
    tab.locator("#residual").fill("0.005")
    assert len(shown_ids(tab)) == 5  # the first of each iteration, and the base: k is 0
    tab.locator("#clear").click()
    tab.locator("#search").fill("NO_LEARNING return")
    assert count.inner_text() == "12 of 28 rows"
    tab.locator("#search").fill("nowhere")
    assert tab.get_by_text("No candidate fits.").is_visible()


def test_a_candidate_opens_by_keyboard(loop, page, view, expect):
    seen = view(page)
    tab = seen.tab
    tab.locator("#search").fill("i2-")
    tab.locator("#sort").select_option("id")
    tab.locator("#direction").select_option("asc")
    tab.locator("#table button[data-i]").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
        tab.keyboard.press(key)
    name = tab.evaluate("document.activeElement.textContent")
    assert name == shown_ids(tab)[2]
    tab.keyboard.press("Enter")
    panel = tab.locator("#panel")
    assert panel.locator("h2").inner_text() == name and f"#c={name.replace('@', '%40')}" in tab.url
    with Store.read(loop / "run.db") as store:
        found, source = compare_candidates(store, name, "base"), store.candidate(name).source
    text = panel.inner_text()
    assert (
        f"{found.only_first} won and {found.only_second} lost against base, p {found.p:.3f}" in text
    )
    assert [
        line.rstrip("\u200b") for line in panel.locator(".source code").all_text_contents()
    ] == source.rstrip("\n").split("\n")
    assert panel.locator(".py-word").first.inner_text() == "def"
    tab.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    # A dialog tells of its end a moment later.
    expect(tab).not_to_have_url(re.compile("#c="))
    assert not seen.said


def test_a_panel_shows_what_is_known(page, view):
    tab = view(page).tab
    tab.locator("#search").fill("i1-")
    tab.locator("#table").get_by_role("button", name="i1-1", exact=True).click()
    panel = tab.locator("#panel")
    assert "duplicate of i1-0" in panel.inner_text()
    panel.get_by_text("Preference pairs (2)").click()
    assert panel.get_by_text("rejected for").count() == 2
    panel.get_by_text("Run it again").click()
    assert (
        "selfdev-engine export" in panel.inner_text()
        and "--expert x=models/x" in panel.inner_text()
    )
    panel.locator("dd").get_by_role("button", name="i1-0", exact=True).click()
    assert panel.locator("h2").inner_text() == "i1-0"


def test_an_address_names_a_candidate(page, view):
    tab = view(f"{page.as_uri()}#c=i1-5").tab
    assert tab.locator("#panel h2").inner_text() == "i1-5"
    assert tab.locator("#panel li.fault").inner_text().startswith("    # main")  # line 2


def test_two_are_compared(loop, page, view):
    seen = view(page)
    tab = seen.tab
    for name in ("i1-3", "i2-4"):
        tab.get_by_label(f"compare {name}", exact=True).press("Space")
    tab.locator("#compare").press("Enter")
    dialog = tab.locator("#comparison")
    with Store.read(loop / "run.db") as store:
        found = compare_candidates(store, "i1-3", "i2-4")
    assert dialog.locator("h2").inner_text() == "i1-3 and i2-4"
    assert (
        f"{found.only_first} won and {found.only_second} lost against i2-4" in dialog.inner_text()
    )
    gone, new = (dialog.locator(f".diff .{kind}").all_inner_texts() for kind in ("gone", "new"))
    assert gone == ["-     return 0.6 * d['x'] + 0.2 * d['y']"]
    assert new == ["+     return 0.8 * d['x'] + 0.4 * d['y']"]
    tab.keyboard.press("Escape")
    tab.get_by_label("compare base", exact=True).check()
    assert tab.get_by_label("compare i1-3", exact=True).is_checked() is False
    assert not seen.said


def test_what_is_shown_is_downloaded(page, view):
    tab = view(page).tab
    tab.locator("#filter-arm").select_option("=no_learning")
    with tab.expect_download() as got:
        tab.locator("#csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(got.value.path()).read_text())))
    assert got.value.suggested_filename == "loop.csv" and len(rows) == 12
    assert {row["arm"] for row in rows} == {"no_learning"} and "coefficient x" in rows[0]
    with tab.expect_download() as got:
        tab.locator("#json").click()
    found = json.loads(Path(got.value.path()).read_text())["candidates"]
    assert [c["id"] for c in found] == [row["id"] for row in rows]
    assert found[0]["coefficients"].keys() == {"x", "y"} and "merge_models" in found[0]["source"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, view, theme):
    tab = view(page, 1280, theme).tab
    show_all(tab)
    tab.evaluate(AXE.read_text())
    assert serious(tab) == []
    tab.locator("#table button[data-i]").first.click()
    assert serious(tab) == []


def serious(tab) -> list[tuple[str, str]]:
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        (rule["id"], rule["nodes"][0]["html"][:200] + str(rule["nodes"][0]["any"])[:300])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def test_ten_thousand_candidates_are_few_rows(large, view):
    assert large.stat().st_size < MOST_BYTES
    seen = view(large)
    tab = seen.tab
    rows = "document.querySelectorAll('.tabulator-row').length"
    assert tab.locator("#count").inner_text() == "10001 rows"
    assert tab.evaluate(rows) <= MOST_ROWS
    tab.locator("#table button[data-i]").first.press("End")
    assert tab.evaluate(rows) <= MOST_ROWS
    tab.locator("#search").fill("program-0712")
    assert tab.locator("#count").inner_text() == "10 of 10001 rows"
    assert not seen.said
