"""`report`: the page of a screening of 10,000 programs with 100 questions each, which never ran.

The figure is the CPU seconds that building it takes. Where there is a Chromium (and playwright), the
page is opened in it: how soon it can be used, how long a filter takes, how many rows are in it.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...selfdev.report import write_report
from ..registry import Row
from ..synthetic_run import make_run

CANDIDATES, QUESTIONS = 10_000, 100
MOST_CPU_S, MOST_BYTES, MOST_ROWS, MOST_USABLE_MS, MOST_FILTER_MS = 10.0, 12e6, 400, 2000.0, 100.0
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WORDS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
)
READY, ROWS = "html[data-ready]", "document.querySelectorAll('.tabulator-row').length"
OPENINGS = 3
SEARCHES = ("program-07", "damped where", "timeout")


def measure(zoo: Path, update: Callable[[int, int], None]) -> Row:
    """CPU seconds of building the page, with its bytes, and with what a browser says of it."""
    with tempfile.TemporaryDirectory(prefix="bench-report-") as scratch:
        run = make_run(Path(scratch) / "run", CANDIDATES, QUESTIONS)
        update(1, 3)
        began = time.process_time()
        page = write_report(run)
        cpu_s, num_bytes = time.process_time() - began, page.stat().st_size
        update(2, 3)
        seen = look(page)
        update(3, 3)
    met = cpu_s < MOST_CPU_S and num_bytes < MOST_BYTES
    if seen:
        met = met and seen["rows"] <= MOST_ROWS and seen["usable_ms"] < MOST_USABLE_MS
        met = met and max(seen["filter_ms"]) < MOST_FILTER_MS
    more = {"candidates": CANDIDATES, "questions": QUESTIONS, "bytes": num_bytes, **seen}
    note = "" if seen else "no Chromium or no playwright: the page was not opened"
    return Row(
        "report", cpu_s, "CPU s", "limit s", MOST_CPU_S, MOST_CPU_S / cpu_s,
        "reading a million answers", met, more, note=note,
    )  # fmt: skip


def look(page: Path) -> dict[str, Any]:
    """Open the page in a browser: {usable_ms, filter_ms, rows}; empty where there is none.

    Milliseconds are the least of three openings: others share the machine. Rows are the most.
    """
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not path or not importlib.util.find_spec("playwright"):
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(WORDS))
        found = [opened(browser.new_page(), page) for _ in range(OPENINGS)]
        browser.close()
    usable, filters, rows = zip(*found, strict=True)
    fastest = [min(times) for times in zip(*filters, strict=True)]
    return {"usable_ms": min(usable), "filter_ms": fastest, "rows": max(rows)}


def opened(tab: Any, page: Path) -> tuple[float, list[float], int]:
    """Open the page in a tab and search in it: (ms until it can be used, ms of each search, rows)."""
    tab.goto(page.as_uri())
    tab.wait_for_selector(READY)
    usable, rows, filters = said(tab, "data-ready"), tab.evaluate(ROWS), list[float]()
    for words in SEARCHES:
        tab.wait_for_timeout(500)
        tab.locator("#search").fill(words)
        filters.append(said(tab, "data-filter-ms"))
        rows = max(rows, tab.evaluate(ROWS))
    tab.close()
    return usable, filters, rows


def said(tab: Any, attribute: str) -> float:
    """Milliseconds that the page has measured itself."""
    return float(tab.locator("html").get_attribute(attribute) or "inf")
