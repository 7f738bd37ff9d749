"""Settings of the documentation site: `make docs`, or `python -m sphinx -W -b html docs build/docs`.

Nothing is fetched: the theme, the fonts of the system and all pages are local.
"""

from __future__ import annotations

import importlib.metadata
import re

from sphinx.application import Sphinx

project = "selfdev-engine"
author = "the authors of selfdev-engine"
version = release = importlib.metadata.version("selfdev-engine")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = f"selfdev-engine {release}"
html_show_sourcelink = html_copy_source = False
html_static_path: list[str] = []
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Pages of the repository that are read in the repository.
exclude_patterns = ["Thumbs.db", ".DS_Store"]
# An indented block is a command more often than Python.
highlight_language = "text"
# A link to a file or folder beside docs/: the site has the pages only.
OUTSIDE = re.compile(r"\[([^\]\n]+)\]\(\.\./([^)\s#]*)[^)\s]*\)")


def name_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Write the path of a file of the repository in place of a link to it."""
    source[0] = OUTSIDE.sub(shown, source[0])


def shown(link: re.Match[str]) -> str:
    text, path = link[1], link[2]
    return f"`{path}`" if text.strip("`/") == path.strip("/") else f"{text} (`{path}`)"


def setup(app: Sphinx) -> None:
    app.connect("source-read", name_outside)
