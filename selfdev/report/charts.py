"""The plots of the page as Vega-Lite specs: plain dicts, which notebooks draw as well.

A spec names its data: `candidates` are rows that the page makes of its columns, all other tables are in `tables`.
`{"data": {"values": rows}, **spec}` is a spec that stands alone. Fields have names of ours; names from a
run are values or titles, which Vega draws as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import pvariance
from typing import Any

from ...engine.records.candidate import MAIN

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
BINS = 25
# Above so many marks a plot is drawn on a canvas.
MOST_SVG_MARKS = 1000
SCORED = "isValid(datum.dev)"
SAMPLED = f"{SCORED} && isValid(datum.turn)"
SHARE = {"format": ".0%"}
WHOLE = {"tickMinStep": 1, "format": ",d"}
OUTCOMES = ("success", "duplicate", "no_function", "not_executable", "timeout")
OUTCOME_COLORS = ("#2f7fc1", "#8db8dc", "#e2a03f", "#c8553d", "#7b5aa6")


def charts_of(
    candidates: Mapping[str, Sequence[Any]],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    experts: Sequence[str],
) -> list[dict[str, Any]]:
    """All plots for which the run has data: {id, title, about, data, spec, marks}, in the order of the page."""
    dev = [value for value in candidates["dev"] if value is not None]
    # Those of the run's own loop, then those of each control.
    turns = list(dict.fromkeys(turn for turn in candidates["turn"] if turn is not None))
    sampled = sorted(turns, key=lambda turn: (not turn.startswith(f"{MAIN}, "), turn))
    linear = [row for row in candidates["coefficients"] if row]
    found = [
        histogram(sampled) if dev else None,
        best_over_candidates(bool(sampled)) if dev else None,
        best_over_time(bool(sampled)) if dev else None,
        dev_against_test() if tables["tested"] else None,
        outcomes(tables["outcomes"]) if tables["outcomes"] else None,
        coefficient_map(linear, experts) if linear and len(experts) > 1 else None,
        training() if tables["training"] else None,
    ]
    counts = {"candidates": len(dev), **{name: len(rows) for name, rows in tables.items()}}
    return [
        {**chart, "canvas": counts[chart["spec"]["data"]["name"]] > MOST_SVG_MARKS}
        for chart in found
        if chart
    ]


def chart(name: str, title: str, about: str, data: str, body: Spec) -> dict[str, Any]:
    spec = {"$schema": SCHEMA, "data": {"name": data}, "description": f"{title}. {about}", **body}
    return {"id": name, "title": title, "about": about, "spec": spec}


def share_axis(title: str, **more: Any) -> Spec:
    return {"type": "quantitative", "title": title, "axis": SHARE, **more}


def colored_by(field: str, title: str) -> Spec:
    return {"field": field, "type": "nominal", "title": title, "legend": {"orient": "top"}}


def histogram(turns: Sequence[str]) -> dict[str, Any]:
    """How many programs have which dev score, a panel for each iteration of an arm."""
    score = {"field": "dev", "bin": {"maxbins": BINS}, **share_axis("dev score")}
    bars = {
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {"x": score, "y": {"aggregate": "count", "title": "programs", "axis": WHOLE}},
    }
    if not turns:
        body = {"transform": [{"filter": SCORED}], "height": 180, **bars}
        return chart("histogram", "Dev scores", "Programs by their dev score.", "candidates", body)
    header = {"labelAngle": 0, "labelAnchor": "start", "labelOrient": "top", "title": None}
    body = {
        "transform": [{"filter": SAMPLED}],
        "facet": {"row": {"field": "turn", "header": header, "sort": turns, "title": None}},
        "spec": {"height": 70, **bars},
        "spacing": 12,
    }
    about = "Programs that ran by their dev score, for each iteration of each arm (figure 4 of the paper)."
    return chart("histogram", "Dev score per iteration", about, "candidates", body)


def best_over_candidates(sampled: bool) -> dict[str, Any]:
    """The best dev score so far, by how many programs were scored."""
    about = "How the best dev score rose with each scored program. It was picked on these questions, so it flatters."
    steps = [{"op": "row_number", "as": "count"}]
    x = {"field": "count", "type": "quantitative", "title": "scored programs", "axis": WHOLE}
    body = best_so_far(steps, x, sampled)
    return chart("best-candidates", "Best so far, by programs", about, "candidates", body)


def best_over_time(sampled: bool) -> dict[str, Any]:
    """The best dev score so far, by the seconds that its programs took."""
    about = "The same by the time that was spent on the arm's programs: trace, swap and questions, summed. A score that another arm had paid for cost nothing."
    steps = [{"op": "sum", "field": "seconds", "as": "spent"}]
    x = {"field": "minutes", "type": "quantitative", "title": "minutes of scoring"}
    body = best_so_far(steps, x, sampled)
    body["transform"].append({"calculate": "datum.spent / 60", "as": "minutes"})
    return chart("best-time", "Best so far, by time", about, "candidates", body)


def best_so_far(steps: Sequence[Spec], x: Spec, sampled: bool) -> Spec:
    window = {
        "window": [{"op": "max", "field": "dev", "as": "best"}, *steps],
        "sort": [{"field": "i", "order": "ascending"}],
        "groupby": ["arm"],
        "frame": [None, 0],
    }
    color = {"color": colored_by("arm", "arm")} if sampled else {}
    y = {"field": "best", **share_axis("best dev score", scale={"zero": False})}
    return {
        "transform": [{"filter": SAMPLED if sampled else SCORED}, window],
        "height": 220,
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {"x": x, "y": y, **color},
    }


def dev_against_test() -> dict[str, Any]:
    """Dev and test scores of all that was tested, with the diagonal where both are equal."""
    about = "What was scored on both (figures 7 and 8 of the paper). Below the diagonal, test is worse than dev."
    scale = {"zero": False, "nice": True}
    x, y = (
        {"field": split, **share_axis(f"{split} score", scale=scale)} for split in ("dev", "test")
    )
    tips = [{"field": key} for key in ("id", "what", "dev", "test")]
    points = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.85},
        "encoding": {"x": x, "y": y, "color": colored_by("what", "model"), "tooltip": tips},
    }
    low = [{"aggregate": [{"op": "min", "field": f, "as": f"low_{f}"} for f in ("dev", "test")]
            + [{"op": "max", "field": f, "as": f"high_{f}"} for f in ("dev", "test")]},
           {"calculate": "[min(datum.low_dev, datum.low_test), max(datum.high_dev, datum.high_test)]", "as": "ends"},
           {"flatten": ["ends"]}]  # fmt: skip
    line = {
        "transform": low,
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "#888", "tooltip": False},
        "encoding": {
            "x": {"field": "ends", "type": "quantitative"},
            "y": {"field": "ends", "type": "quantitative"},
        },
    }
    body = {"height": 300, "layer": [line, points]}
    return chart("dev-test", "Dev against test", about, "tested", body)


def outcomes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the samples of each iteration ended; for a screening, how its programs did."""
    names = list(dict.fromkeys(row["outcome"] for row in rows))
    color = colored_by("outcome", "outcome")
    if set(names) <= set(OUTCOMES):
        color["scale"] = {"domain": list(OUTCOMES), "range": list(OUTCOME_COLORS)}
    body = {
        "height": 28 * len({row["turn"] for row in rows}),
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": {"field": "turn", "type": "nominal", "title": None, "sort": None},
            "x": {"field": "count", "type": "quantitative", "title": "samples", "axis": WHOLE},
            "color": color,
            "order": {"field": "rank", "type": "quantitative"},
        },
    }
    about = "How each sample ended (figure 9 of the paper for a loop)."
    return chart("outcomes", "Outcomes", about, "outcomes", body)


def coefficient_map(
    linear: Sequence[Sequence[float | None]], experts: Sequence[str]
) -> dict[str, Any]:
    """Candidates by two coefficients of their linear equivalents; at first the two of largest variance."""
    columns = [[c for c in column if c is not None] for column in zip(*linear, strict=True)]
    spread = [pvariance(column) if column else -1.0 for column in columns]
    x, y = sorted(range(len(experts)), key=lambda i: -spread[i])[:2]
    axis = {"type": "quantitative", "scale": {"zero": False}}
    color = {"field": "dev", **share_axis("dev", scale={"scheme": "viridis"}, legend=SHARE)}
    del color["axis"]
    tips = [{"field": key} for key in ("id", "dev", "residual")]
    body = {
        "transform": [{"filter": f"{SCORED} && isValid(datum.residual)"}],
        "height": 320,
        "mark": {"type": "circle", "size": 45, "opacity": 0.8},
        "encoding": {
            "x": {"field": f"c{x}", **axis, "title": experts[x]},
            "y": {"field": f"c{y}", **axis, "title": experts[y]},
            "color": color,
            "tooltip": tips,
        },
    }
    about = "Each program at the weights of the plain sum that comes nearest to its update, coloured by its dev score."
    found = chart("map", "Map of the candidates", about, "candidates", body)
    return {**found, "axes": {"x": x, "y": y}}


def training() -> dict[str, Any]:
    """Loss and margin of each training stage, by step."""
    header = {"labelAngle": 0, "labelAnchor": "start", "labelOrient": "top", "title": None}
    body = {
        "facet": {"row": {"field": "curve", "header": header, "sort": None, "title": None}},
        "spec": {
            "height": 120,
            "mark": {"type": "line", "point": {"size": 20}, "tooltip": True},
            "encoding": {
                "x": {"field": "step", "type": "quantitative", "title": "step"},
                "y": {"field": "value", "type": "quantitative", "title": None},
                "color": colored_by("stage", "stage"),
            },
        },
        "resolve": {"scale": {"y": "independent"}},
    }
    about = "Training of the generator: loss, margin on its pairs, and the loss on the holdout that it never saw."
    return chart("training", "Training curves", about, "training", body)
