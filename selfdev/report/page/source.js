// Python source with line numbers and colours, and the difference of two sources.
const WORDS = "and|as|assert|async|await|break|class|continue|def|del|elif|else|except|False|finally|for|from|global|if|import|in|is|lambda|None|nonlocal|not|or|pass|raise|return|True|try|while|with|yield";
const TOKEN = new RegExp(`(#[^\\n]*)|("""[^]*?"""|'''[^]*?'''|"(?:\\\\.|[^"\\\\\\n])*"|'(?:\\\\.|[^'\\\\\\n])*')|\\b(${WORDS})\\b|\\b(\\d[\\w.]*)`, "g");
const CLASSES = ["comment", "string", "word", "number"];

// The lines of a text, each a list of [text, class or null].
function highlighted(text) {
  const lines = [[]];
  const put = (part, kind) => part.split("\n").forEach((piece, k) => {
    if (k) lines.push([]);
    if (piece) lines[lines.length - 1].push([piece, kind]);
  });
  let end = 0;
  for (const found of text.matchAll(TOKEN)) {
    put(text.slice(end, found.index), null);
    put(found[0], CLASSES[found.slice(1).findIndex((group) => group !== undefined)]);
    end = found.index + found[0].length;
  }
  put(text.slice(end), null);
  return lines;
}

const spans = (line) => line.map(([text, kind]) => (kind ? el("span", { class: `py-${kind}` }, text) : text));

function sourceBlock(text, fault) {
  const lines = highlighted(text.replace(/\n$/, ""));
  const body = lines.map((line, k) => el("li", { class: k + 1 === fault ? "fault" : null }, el("code", {}, spans(line), "\u200b")));
  return el("div", { class: "code", tabindex: "0", role: "region", "aria-label": "source" }, el("ol", { class: "source" }, body));
}

function textBlock(text, label) {
  return el("pre", { class: "code", tabindex: "0", role: "region", "aria-label": label }, text);
}

const MOST_LINES = 1500;

// [sign, line] of the second text against the first, by the longest common subsequence.
function lineDiff(first, second) {
  const a = first.split("\n").slice(0, MOST_LINES), b = second.split("\n").slice(0, MOST_LINES);
  const width = b.length + 1, best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  const found = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { found.push([" ", a[i]]); i++; j++; }
    else if (j === b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) found.push(["-", a[i++]]);
    else found.push(["+", b[j++]]);
  }
  return found;
}

function diffBlock(first, second) {
  const kinds = { "-": "gone", "+": "new", " ": null };
  const body = lineDiff(first, second).map(([sign, line]) => el("div", { class: kinds[sign] }, `${sign} ${line}`));
  return el("div", { class: "code diff", tabindex: "0", role: "region", "aria-label": "difference of the sources" }, body);
}
