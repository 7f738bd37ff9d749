"""Makes the pictures of the report in docs/ from a run, with Chromium: `python docs/make_pictures.py RUN`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from selfdev_engine.selfdev.report import write_report

HERE = Path(__file__).parent
# Name, width and height in pixels, theme, and which part of the page is at the top.
PICTURES = (
    ("report-wide.png", 1200, 1100, "light", "h1"),
    ("report-narrow.png", 390, 844, "dark", "#plots-part"),
)
WORDS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")


def main(run: Path) -> None:
    """Write each picture of the run's page."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as play:
        page = write_report(run, Path(scratch) / "report.html")
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(WORDS))
        for name, width, height, theme, top in PICTURES:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme
            )
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]")
            tab.evaluate("top => document.querySelector(top).scrollIntoView()", top)
            tab.wait_for_timeout(1500)  # the plots in view are drawn
            tab.screenshot(path=HERE / name)
            print(f"{name}: {(HERE / name).stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
