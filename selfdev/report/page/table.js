// The table of all candidates: only the rows in view are in the page.
let table = null;
const marked = [];
const FILTERS = ["arm", "iteration", "status", "kind", "tier"];
const SORTS = ["dev", "difference", "p", "test", "residual", "seconds", "id"];
let haystacks = null;

const textCell = (show) => (cell) => el("span", {}, show(cell.getRow().getData()));

function idCell(cell) {
  const row = cell.getRow().getData();
  const button = el("button", { type: "button", class: "link", "data-i": row.i, title: row.id, onclick: () => openPanel(row.id) }, row.id);
  return button;
}

function markCell(cell) {
  const row = cell.getRow().getData();
  const box = el("input", { type: "checkbox", "aria-label": `compare ${row.id}`, onchange: () => mark(row.i, box.checked) });
  box.checked = marked.includes(row.i);
  return box;
}

function mark(i, on) {
  const at = marked.indexOf(i);
  if (at >= 0) marked.splice(at, 1);
  if (on) marked.push(i);
  // Two can be compared: a third takes the place of the first.
  if (marked.length > 2) {
    const left = table.getRow(marked.shift());
    if (left) left.reformat();
  }
  const button = byId("compare");
  button.disabled = marked.length !== 2;
  button.textContent = marked.length === 2 ? `Compare ${marked.map((k) => rows[k].id.slice(0, 24)).join(" and ")}` : "Compare two";
}

function columnsOf() {
  const some = (name) => rows.some((row) => row[name] !== null && row[name] !== "");
  const numeric = { sorter: "number", sorterParams: { alignEmptyValues: "bottom" }, hozAlign: "right", headerHozAlign: "right" };
  const all = [
    { title: "id", field: "id", sorter: "alphanum", formatter: idCell, frozen: true, width: innerWidth < 500 ? 120 : 180 },
    { title: "pick", field: "i", formatter: markCell, headerSort: false, width: 52, hozAlign: "center" },
    { title: "dev, %", field: "dev", ...numeric, formatter: textCell((r) => percent(r.dev)), width: 92, headerSortStartingDir: "desc" },
    { title: "95 %", field: "low", ...numeric, formatter: textCell((r) => (r.dev === null ? "" : `${percent(r.low)} to ${percent(r.high)}`)), width: 112 },
    { title: "vs base", field: "difference", ...numeric, formatter: textCell((r) => signed(r.difference)), width: 100, headerSortStartingDir: "desc" },
    { title: "p", field: "p", ...numeric, formatter: textCell((r) => pText(r.p)), width: 78 },
    some("test") ? { title: "test, %", field: "test", ...numeric, formatter: textCell((r) => percent(r.test)), width: 96, headerSortStartingDir: "desc" } : null,
    { title: "status", field: "status", formatter: textCell(statusText), minWidth: 160, widthGrow: 2 },
    some("turn") ? { title: "arm", field: "arm", formatter: textCell((r) => r.arm), width: 110 } : null,
    some("turn") ? { title: "iteration", field: "iteration", ...numeric, formatter: textCell((r) => (r.iteration === null ? "" : r.iteration)), width: 108 } : null,
    { title: "tier", field: "tier", formatter: textCell((r) => r.tier || ""), width: 76 },
    { title: "nearest plain sum", field: "linear", formatter: textCell((r) => r.linear), minWidth: 220, widthGrow: 3 },
    { title: "residual", field: "residual", ...numeric, formatter: textCell((r) => number(r.residual)), width: 104 },
    { title: "seconds", field: "seconds", ...numeric, formatter: textCell((r) => number(r.seconds, 2)), width: 104 },
  ];
  return all.filter(Boolean);
}

function statusText(row) {
  if (row.twin_of !== null) return `${row.status} of ${rows[row.twin_of].id}`;
  return row.kind ? `${row.status}: ${row.kind}${row.line ? `, line ${row.line}` : ""}` : row.status;
}

function startTable() {
  table = new Tabulator("#table", {
    data: rows,
    index: "i",
    [rows.length > 15 ? "height" : "maxHeight"]: "34rem",
    layout: "fitColumns",
    rowHeight: 34,
    // It would make all rows anew when it comes into view, and take the focus away.
    autoResize: false,
    columnDefaults: { resizable: false, headerTooltip: false },
    columns: columnsOf(),
    initialSort: [{ column: "dev", dir: "desc" }],
    placeholder: "No candidate fits.",
  });
  table.on("tableBuilt", () => {
    keyboardHeads();
    count();
    // The first search would take its time.
    if (window.requestIdleCallback) requestIdleCallback(() => rows.length && haystack(0));
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  });
  table.on("dataFiltered", (_, found) => count(found.length));
  byId("table").addEventListener("keydown", moveInTable);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) table.redraw(true);
    width = innerWidth;
  });
  startTools();
}

// The heads are sorted by a click; Enter on a focused one does the same.
function keyboardHeads() {
  // The ids in the rows take the focus. A place for it without a role is not allowed in a grid.
  document.querySelector("#table .tabulator-tableholder").removeAttribute("tabindex");
  for (const column of table.getColumns()) {
    if (column.getDefinition().headerSort === false) continue;
    const head = column.getElement();
    head.tabIndex = 0;
    head.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      head.click();
    });
  }
}

function moveInTable(event) {
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 14, PageUp: -14, Home: -Infinity, End: Infinity }[event.key];
  const button = event.target.closest("button[data-i]");
  if (!step || !button) return;
  event.preventDefault();
  const shown = table.getData("active");
  const at = shown.findIndex((row) => row.i === Number(button.dataset.i));
  const to = Math.max(0, Math.min(shown.length - 1, at + step));
  const row = table.getRow(shown[to].i);
  if (focusRow(row)) return;
  // It is far away: its place is scrolled to first. The rows there are made twice, the last time a frame later.
  const frames = (count, then) => (count ? requestAnimationFrame(() => frames(count - 1, then)) : then());
  table.scrollToRow(row, "center", true).catch(() => {}).then(() => frames(3, () => focusRow(row)));
}

// Focus the id in a row. False where the row is not in the page.
function focusRow(row) {
  const found = document.querySelector(`#table button[data-i="${row.getIndex()}"]`);
  if (found) found.focus();
  return Boolean(found);
}

function startTools() {
  for (const name of FILTERS) {
    const values = [...new Set(rows.map((row) => row[name]).filter((v) => v !== null && v !== ""))];
    const select = byId(`filter-${name}`);
    for (const value of values.sort()) select.append(el("option", { value: `=${value}` }, value));
    select.closest("label").hidden = values.length < 2;
    select.addEventListener("change", filter);
  }
  for (const name of SORTS) {
    if (rows.some((row) => row[name] !== null)) byId("sort").append(el("option", { value: name }, name === "difference" ? "vs base" : name));
  }
  byId("sort").addEventListener("change", sort);
  byId("direction").addEventListener("change", sort);
  byId("search").addEventListener("input", filter);
  byId("residual").addEventListener("input", filter);
  byId("clear").addEventListener("click", clearFilters);
  byId("compare").addEventListener("click", () => openComparison(rows[marked[0]], rows[marked[1]]));
  byId("csv").addEventListener("click", () => download(`${run.name}.csv`, "text/csv", csvText()));
  byId("json").addEventListener("click", () => download(`${run.name}.json`, "application/json", jsonText()));
}

function sort() {
  table.setSort(byId("sort").value, byId("direction").value);
}

function clearFilters() {
  byId("search").value = byId("residual").value = "";
  for (const name of FILTERS) byId(`filter-${name}`).value = "";
  filter();
}

function haystack(i) {
  if (!haystacks) haystacks = rows.map((row) => [row.id, row.status, row.kind, row.linear, detailOf(row), sourceOf(row)].join("\n").toLowerCase());
  return haystacks[i];
}

function filter() {
  const began = performance.now();
  const wanted = FILTERS.map((name) => [name, byId(`filter-${name}`).value]).filter(([, value]) => value);
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const most = byId("residual").value === "" ? null : Number(byId("residual").value);
  const fits = (row) =>
    wanted.every(([name, value]) => `=${row[name]}` === value) &&
    (most === null || (row.residual !== null && row.residual <= most)) &&
    words.every((word) => haystack(row.i).includes(word));
  table.setFilter(fits);
  document.documentElement.dataset.filterMs = (performance.now() - began).toFixed(1);
}

function count(shown = rows.length) {
  byId("count").textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
}

const EXPORTED = ["id", "arm", "iteration", "status", "kind", "line", "dev", "low", "high", "n", "difference", "p", "test", "tier", "residual", "seconds", "fingerprint", "weights_fingerprint"];

// A cell that a spreadsheet would take for a formula begins with a quote.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function csvText() {
  const heads = [...EXPORTED, ...run.experts.map((name) => `coefficient ${name}`), "twin_of", "source"];
  const lines = table.getData("active").map((row) => [
    ...EXPORTED.map((name) => row[name]),
    ...run.experts.map((_, k) => (row.coefficients ? row.coefficients[k] : null)),
    row.twin_of === null ? null : rows[row.twin_of].id, sourceOf(row),
  ]);
  return [heads, ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function jsonText() {
  const found = table.getData("active").map((row) => ({
    ...Object.fromEntries(EXPORTED.map((name) => [name, row[name]])),
    coefficients: row.coefficients && Object.fromEntries(run.experts.map((name, k) => [name, row.coefficients[k]])),
    params: row.params, twin_of: row.twin_of === null ? null : rows[row.twin_of].id, detail: detailOf(row), source: sourceOf(row),
  }));
  return JSON.stringify({ run: run.name, candidates: found }, null, 1);
}
