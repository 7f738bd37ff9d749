"""Writes report.html: one page that loads no other file, from run.db and config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...engine.errors import visible
from ...engine.output.file import check_file, write_file
from ...engine.output.owned import CONFIG, DATABASE
from ...engine.records.store import Store
from ...engine.screening.folder import NAME, NOTE, read_config
from ..experts import place_of
from ..names import arms_of
from .page import margin_text

__all__ = ["is_report", "margin_text", "report_text", "write_report"]


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write RUN/report.html, or `out`, and return its path. It may be called while the run goes on."""
    out = out or folder / "report.html"
    check_file("--out", out, is_report)
    write_file("--out", out, report_text(folder), is_report)
    return out


def is_report(start: str) -> bool:
    return "selfdev-engine report</title>" in start


def report_text(folder: Path, watch: str = "") -> str:
    """The page of a run. UsageError where the folder is damaged."""
    from .facts import facts_of
    from .page import page_of

    config: Mapping[str, Any] = read_config(folder)
    arms = arms_of(config)
    with Store.read(folder / DATABASE) as store:
        facts = facts_of(store, arms)
        data = run_data(store, folder, config, arms)
        labels = [text for key in (NAME, NOTE) if (text := store.setting(key, "text"))]
    raw = (folder / CONFIG).read_text(errors="replace")
    words = {"run": name_of(folder), "labels": labels, "config": config, "raw": raw}
    return page_of({**facts, **words}, data, watch)


def name_of(folder: Path) -> str:
    return folder.resolve().name


def run_data(
    store: Store, folder: Path, config: Mapping[str, Any], arms: list[str]
) -> dict[str, Any]:
    """What the scripts of the page show: candidates with their texts, small tables, plots."""
    from .charts import charts_of
    from .data import candidates_of, plain
    from .tables import tables_of

    experts = list(config.get("experts") or ())
    found = candidates_of(store, experts)
    columns = found["candidates"]
    tables = tables_of(store, arms, columns)
    again = {
        "base": config.get("base"),
        "experts": {name: place_of(one) for name, one in (config.get("experts") or {}).items()},
        "include": config.get("include"),
    }
    names = [visible(str(name)) for name in experts]
    return {
        "name": visible(name_of(folder)),
        "folder": visible(str(folder)),
        "experts": names,
        "again": plain(again),
        **found,
        "tables": plain(tables),
        "charts": charts_of(columns, tables, names),
    }
