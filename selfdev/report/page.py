"""Puts the page together: template, styles, scripts and data in one file that may load nothing else.

The policy in its head names the scripts by their hashes, so a script that gets in by a text does not run, and
nothing may be fetched. The libraries are in vendor/, as they were published.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from ...engine.errors import visible
from ..verdict import p_text

HERE = Path(__file__).parent
VENDOR = HERE / "vendor"
LIBRARIES = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.js", "tabulator.min.js")
PARTS = ("dom", "data", "source", "charts", "table", "panel", "main")
# The interpreter is published as a module only. In a page it takes from `vega` what it imports elsewhere.
MODULE = {
    "import { ascending, isString, DisallowedObjectProperties } from 'vega-util';": (
        "const expressionInterpreter = (() => {\n"
        "const { ascending, isString, DisallowedObjectProperties } = vega;"
    ),
    "export { expression as expressionInterpreter };": "return expression; })();",
}
# Level 9 takes twice as long for 2 % less.
GZIP_LEVEL = 6


def page_of(facts: Mapping[str, Any], data: Mapping[str, Any], watch: str = "") -> str:
    """The page. `facts` are the template's words, `data` what its scripts show.

    `watch` is the version of what is shown, where a server has newer ones.
    """
    # It takes time to load, and only this needs it.
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, finalize=shown, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": percent, "signed": signed, "p": p_short, "score": score_text, "margin": margin_text,
    }  # fmt: skip
    template = environment.from_string((HERE / "page" / "page.html.jinja").read_text())
    scripts, styles = scripts_and_styles()
    policy = policy_of(scripts, styles, bool(watch))
    return template.render(
        **facts, policy=policy, scripts=scripts, styles=styles, data=packed(data), watch=watch
    )


@cache
def scripts_and_styles() -> tuple[list[str], list[str]]:
    """The texts of all scripts and styles, libraries first."""
    scripts = [as_script((VENDOR / name).read_text()) for name in LIBRARIES]
    own = "\n".join((HERE / "page" / f"{name}.js").read_text() for name in PARTS)
    scripts.append(f'(() => {{\n"use strict";\n{own}\n}})();\n')
    styles = [(VENDOR / "tabulator.min.css").read_text(), (HERE / "page" / "page.css").read_text()]
    return scripts, styles


def as_script(library: str) -> str:
    """A library's text for a script of the page. One that is a module gets its names as that tells."""
    for module, script in MODULE.items():
        library = library.replace(module, script)
    # There is no map of the sources beside the page.
    return library.replace("//# sourceMappingURL=", "// map: ")


def policy_of(scripts: list[str], styles: list[str], watch: bool) -> str:
    """The content security policy: these scripts and styles, and nothing from elsewhere."""
    run, look = (" ".join(map(hash_of, texts)) for texts in (scripts, styles))
    ask = " connect-src 'self';" if watch else ""
    return (
        f"default-src 'none'; script-src {run}; style-src {look};{ask} "
        "base-uri 'none'; form-action 'none'"
    )


def hash_of(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def packed(data: Mapping[str, Any]) -> str:
    """The data as base64 of gzip of JSON; equal data give an equal text."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), GZIP_LEVEL, mtime=0)).decode()


def data_of(page: str) -> dict[str, Any]:
    """The data in a page, as `packed` put them there."""
    start = page.index('id="data">') + len('id="data">')
    return json.loads(gzip.decompress(base64.b64decode(page[start : page.index("<", start)])))


def shown(value: Any) -> Any:
    """A value of the page: text with its control characters escaped."""
    return visible(value) if type(value) is str else value


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is there: a run of an older version lacks some, and null is none."""
    return isinstance(value, int | float)


def percent(value: float | None) -> str:
    return f"{100 * value:.1f}" if is_number(value) else ""


def signed(value: float | None) -> str:
    """A difference in points, with its sign."""
    return f"{100 * value:+.1f}" if is_number(value) else ""


def p_short(value: float | None) -> str:
    return p_text(value) if is_number(value) else ""


def score_text(score: Mapping[str, float]) -> str:
    """A score with its interval, in percent."""
    return f"{percent(score['score'])} % [{percent(score['low'])}, {percent(score['high'])}]"


def margin_text(training: Mapping[str, Any]) -> str:
    """The margin of a stage's holdout with its interval; empty where it was not measured."""
    margin, low, high = training.get("holdout_margin_nats") or (None, None, None)
    if margin is None:
        return ""
    return (
        f"{margin:.2f}" if low is None or high is None else f"{margin:.2f} [{low:.2f}, {high:.2f}]"
    )
