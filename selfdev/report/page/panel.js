// One candidate's page, and two of them side by side; both are dialogs, closed by Escape.
const MOST_LISTED = 200;
let address = "";

function openDialog(dialog, title, content) {
  const close = el("button", { type: "button", class: "close", "aria-label": "close", onclick: () => dialog.close() }, "\u00d7");
  const heading = el("h2", { id: `${dialog.id}-title`, tabindex: "-1" }, title);
  dialog.replaceChildren(el("header", {}, heading, close), el("div", { class: "content" }, content));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  heading.focus();
}

function openPanel(id) {
  const row = rowOf.get(id);
  if (!row) return;
  byId("comparison").close();
  openDialog(byId("panel"), row.id, panelOf(row));
  history.replaceState(null, "", `#c=${encodeURIComponent(id)}`);
  address = location.hash;
}

function idLink(row) {
  return el("button", { type: "button", class: "link", onclick: () => openPanel(row.id) }, row.id);
}

function listed(items) {
  const shown = items.slice(0, MOST_LISTED).flatMap((item, k) => (k ? [", ", item] : [item]));
  if (items.length > MOST_LISTED) shown.push(` and ${items.length - MOST_LISTED} more`);
  return shown;
}

const shown = (score, low, high) => (score === null ? null : `${percent(score)} % [${percent(low)}, ${percent(high)}]`);

function panelOf(row) {
  const own = originalOf(row);
  const parts = [
    facts([
      ["status", statusText(row)], ["why", detailOf(row)],
      ["dev", shown(row.dev, row.low, row.high)],
      ["against base, dev", row.difference === null ? null : `${signed(row.difference)} points, p ${pText(row.p)} (picked on dev: it flatters)`],
      ["test", shown(row.test, row.test_low, row.test_high)],
      ["nearest plain sum", row.residual === null ? null : `${row.linear}; residual ${number(row.residual)}`],
      ["parameters", row.params ? JSON.stringify(row.params) : null],
      ["from", row.turn], ["tier", row.tier], ["seconds", number(row.seconds, 2)],
      ["twins", listed(rows.filter((other) => other !== row && originalOf(other) === own).map(idLink))],
      ["fingerprint of the plan", row.fingerprint], ["of the live weights", own.weights_fingerprint],
      ["of its generator", row.generator], ["its text ended by", row.stop_reason],
      ["held out", row.held_out ? "yes: training never saw it" : null],
    ]),
  ];
  if (row.source !== null) parts.push(fold("Source", sourceBlock(sourceOf(row), row.line), true));
  const base = rowOf.get("base");
  if (base && base !== row) parts.push(questionsPart(paired(row, base), "base"));
  const pairs = pairsWith(row.id);
  if (pairs.length) parts.push(fold(`Preference pairs (${pairs.length})`, pairTable(row, pairs)));
  if (own.plan !== null) parts.push(fold("Plan: what was computed", textBlock(run.plans[own.plan], "plan")));
  parts.push(fold("Run it again", textBlock(againText(row), "commands")), compareChoice(row));
  return parts;
}

function pairTable(row, pairs) {
  const lines = pairs.slice(0, MOST_LISTED).map((pair) => {
    const won = pair.chosen === row.id;
    const other = rowOf.get(won ? pair.rejected : pair.chosen);
    return [pair.turn, won ? "chosen over" : "rejected for", other ? idLink(other) : won ? pair.rejected : pair.chosen, other ? percent(other.dev) : "", pair.held_out ? "held out" : "trained"];
  });
  return tableOf(["iteration", "it was", "other", "its dev, %", ""], lines, "preference pairs");
}

function questionsPart(found, other) {
  if (!found) return null;
  const list = (title, which, open) => which.length
    ? fold(`${title} (${which.length})`, el("ol", { class: "questions" }, which.slice(0, MOST_LISTED).map((k) => el("li", { value: k + 1 }, run.questions[k]))), open)
    : el("p", { class: "faint" }, `${title}: none`);
  return el("section", {}, el("h3", {}, `Dev questions against ${other}`),
    el("p", {}, `Of ${found.n} questions ${found.both.length + found.first.length} right; ${found.first.length} won and ${found.second.length} lost against ${other}, p ${pText(found.p)} (McNemar).`),
    list("Right, wrong for the other", found.first), list("Wrong, right for the other", found.second), list("Wrong for both", found.neither), list("Right for both", found.both));
}

function compareChoice(row) {
  const input = el("input", { id: "compare-with", list: "all-ids", autocomplete: "off", placeholder: "an id" });
  const say = el("span", { role: "status" });
  const go = el("button", { type: "button", onclick: () => {
    const other = rowOf.get(input.value);
    if (other) openComparison(row, other);
    else say.textContent = "There is no candidate of this id.";
  } }, "Compare");
  return el("p", { class: "tools" }, el("label", { for: "compare-with" }, "Compare with "), input, go, say);
}

function openComparison(first, second) {
  byId("panel").close();
  openDialog(byId("comparison"), `${first.id} and ${second.id}`, comparisonOf(first, second));
}

function comparisonOf(first, second) {
  const line = (name, show) => [name, show(first), show(second)];
  const lines = [
    line("status", statusText), line("dev, %", (r) => percent(r.dev)),
    line("95 %", (r) => (r.dev === null ? "" : `${percent(r.low)} to ${percent(r.high)}`)),
    line("against base", (r) => signed(r.difference)), line("test, %", (r) => percent(r.test)),
    ...run.experts.map((name, k) => line(`weight of ${name}`, (r) => (r.coefficients ? number(r.coefficients[k]) : ""))),
    line("residual", (r) => number(r.residual)), line("plan", (r) => r.fingerprint || ""), line("seconds", (r) => number(r.seconds, 2)),
  ];
  const parts = [tableOf(["", idLink(first), idLink(second)], lines, "side by side"), questionsPart(paired(first, second), second.id)];
  if (first.source !== null && second.source !== null) {
    parts.push(el("h3", {}, "Sources"), first.source === second.source ? el("p", {}, "Both have the same text.") : diffBlock(sourceOf(first), sourceOf(second)));
  }
  return parts;
}

function startPanels() {
  // The event comes later than the close: by then the address may name another candidate.
  const close = () => { if (!byId("panel").open && location.hash === address) history.replaceState(null, "", "#"); };
  byId("panel").addEventListener("close", close);
  const follow = () => { if (location.hash.startsWith("#c=")) openPanel(decode(location.hash.slice(3))); };
  window.addEventListener("hashchange", follow);
  for (const dialog of [byId("panel"), byId("comparison")]) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  // The list of ids is made when it is first needed: it is long.
  byId("panel").addEventListener("focusin", (event) => {
    if (event.target.id === "compare-with" && !byId("all-ids").childElementCount) {
      byId("all-ids").append(...rows.filter((row) => row.dev !== null).slice(0, 300).map((row) => el("option", { value: row.id })));
    }
  });
  follow();
}

function decode(text) {
  try { return decodeURIComponent(text); } catch { return ""; }
}
