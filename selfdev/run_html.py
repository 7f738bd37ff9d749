"""A run as a small table for notebooks. Every text in it is hostile, and is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..engine.errors import in_one_line
from ..engine.records.score import Score

COLUMNS = ("candidate", "status", "dev", "95 %", "linear residual")
MOST = 200  # characters of a text that are shown
Row = tuple[str, str | None, Score | None, float | None]


def rows_html(words: str, rows: Sequence[Row], verdict: str | None) -> str:
    """Return a table of candidates (id, status, dev score, residual) under some words."""
    head = "".join(f"<th>{cell(name)}</th>" for name in COLUMNS)
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    said = f"<p>{cell(verdict)}</p>" if verdict else ""
    return (
        f"<div><p>{cell(words)}</p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{said}</div>"
    )


def cells(row: Row) -> str:
    """Return the cells of one candidate."""
    name, status, score, residual = row
    texts = [
        name,
        status or "not decided",
        f"{score.score:.3f}" if score else "-",
        f"[{score.low:.3f}, {score.high:.3f}]" if score else "-",
        "-" if residual is None else f"{residual:.2g}",
    ]
    return "".join(f"<td>{cell(text)}</td>" for text in texts)


def cell(text: str) -> str:
    """Return a text in which nothing is markup, nor hidden, nor long."""
    return escape(in_one_line(text[:MOST]))
