// Draws the plots when they come into view, the rest when the page is idle: Vega-Lite specs from the run, evaluated without eval.
const drawn = new Map();
const CHART_FIELDS = ["i", "id", "arm", "turn", "dev", "test", "seconds", "residual"];

function chartRows() {
  return rows.filter((row) => row.dev !== null).map((row) => {
    const point = {};
    for (const field of CHART_FIELDS) point[field] = row[field];
    (row.coefficients || []).forEach((value, k) => { point[`c${k}`] = value; });
    return point;
  });
}

function chartConfig() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => resolved(style.getPropertyValue(name).trim());
  const text = color("--text"), faint = color("--line"), soft = color("--soft-text");
  return {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { labelColor: soft, titleColor: text, gridColor: faint, domainColor: faint, tickColor: faint, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, labelOverlap: "greedy", labelSeparation: 8 },
    legend: { labelColor: text, titleColor: text, labelFontSize: 12, labelLimit: 220, columns: 2 },
    header: { labelColor: text, labelFontSize: 12, labelPadding: 2 },
    bar: { color: color("--accent") }, line: { color: color("--accent") },
    range: { category: ["#3b82c4", "#e08a2e", "#4aa564", "#c8553d", "#8b6bb8", "#3aa6a6", "#c46a9c", "#8c7a5b"] },
  };
}

// Canvas knows no light-dark(): let the browser say which colour it is.
function resolved(color) {
  const probe = el("span", { hidden: true });
  probe.style.color = color;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function sized(chart, width) {
  const spec = structuredClone(chart.spec);
  if (spec.facet) {
    spec.spec.width = Math.max(160, width - 70);
  } else {
    spec.width = width;
    spec.autosize = { type: "fit-x", contains: "padding" };
  }
  return spec;
}

async function draw(chart, box) {
  const width = Math.floor(box.clientWidth);
  if (width < 50) return;
  const before = drawn.get(chart.id);
  const spec = vegaLite.compile(sized(chart, width), { config: chartConfig() }).spec;
  const view = new vega.View(vega.parse(spec, null, { ast: true }), {
    renderer: chart.canvas ? "canvas" : "svg",
    container: box,
    expr: expressionInterpreter,
    hover: true,
    logLevel: vega.Error,
  });
  const name = chart.spec.data.name;
  view.data(name, name === "candidates" ? chartRows() : structuredClone(run.tables[name]));
  view.addEventListener("click", (_, item) => {
    if (item && item.datum && rowOf.has(item.datum.id)) openPanel(item.datum.id);
  });
  drawn.set(chart.id, { view, width, box, chart });
  if (before) before.view.finalize();
  await view.runAsync();
  box.dataset.drawn = "yes";
}

function figureOf(chart) {
  const box = el("div", { class: "plot", id: `plot-${chart.id}` });
  const parts = [el("h3", {}, chart.title), el("p", { class: "faint" }, chart.about)];
  if (chart.axes) parts.push(axisChoice(chart, box));
  const figure = el("section", { class: "figure" }, parts, box);
  return { figure, box };
}

function axisChoice(chart, box) {
  const choose = (axis, words) => {
    const id = `map-${axis}`;
    const options = run.experts.map((name, k) => el("option", { value: k, selected: k === chart.axes[axis] }, name));
    const select = el("select", { id, onchange: () => {
      chart.spec.encoding[axis].field = `c${select.value}`;
      chart.spec.encoding[axis].title = run.experts[Number(select.value)];
      draw(chart, box);
    } }, options);
    return el("label", { for: id }, words, " ", select);
  };
  return el("div", { class: "tools" }, choose("x", "across"), choose("y", "up"));
}

function startCharts() {
  const place = byId("plots");
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) show(entry.target);
  }, { rootMargin: "200px" });
  const waiting = new Set();
  const show = (box) => {
    seen.unobserve(box);
    if (!waiting.delete(box)) return;
    draw(box.chart, box);
    resized.observe(box);
  };
  // The rest is drawn when nothing else is to do, so that paper and pictures of the whole page show it.
  const showRest = () => {
    for (const box of waiting) {
      show(box);
      return void requestIdleCallback(showRest);
    }
  };
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const known = drawn.get(target.chart.id);
      if (known && known.width !== Math.floor(target.clientWidth)) draw(target.chart, target);
    }
  });
  for (const chart of run.charts) {
    const { figure, box } = figureOf(chart);
    box.chart = chart;
    place.append(figure);
    waiting.add(box);
    seen.observe(box);
  }
  requestIdleCallback(showRest);
  byId("plots-part").hidden = !run.charts.length;
}

function redrawCharts() {
  for (const { chart, box } of [...drawn.values()]) draw(chart, box);
}
