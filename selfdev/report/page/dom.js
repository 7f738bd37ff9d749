// Makes elements. Text from a run only ever becomes a text node, a value or a title, never markup.
function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "onclick" || name === "onchange") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  append(made, children);
  return made;
}

function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === "") continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

const byId = (id) => document.getElementById(id);
const percent = (value, digits = 1) => (value === null ? "" : (100 * value).toFixed(digits));
const signed = (value) => (value === null ? "" : (value > 0 ? "+" : "") + (100 * value).toFixed(1));
const pText = (p) => (p === null ? "" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const number = (value, digits = 3) => (value === null || value === undefined ? "" : value.toFixed(digits));

// A list of terms. A value may be a text or a node; empty ones are left out.
function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value.length !== 0);
  return el("dl", { class: "facts" }, shown.map(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
}

function tableOf(head, rows, caption) {
  const heads = head.map((text) => el("th", { scope: "col" }, text));
  const body = rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))));
  const made = el("table", {}, caption ? el("caption", {}, caption) : null, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || head.join(", ") }, made);
}

function fold(title, content, open = false) {
  return el("details", { open }, el("summary", {}, title), content);
}

function download(name, kind, text) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: kind })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
