// The run as the page holds it: `run` is the inflated object, `rows` are its candidates.
let run = null;
let rows = [];
const rowOf = new Map();
let pairsOf = null;

async function inflate(text) {
  const packed = atob(text.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function take(data) {
  run = data;
  const columns = Object.entries(data.candidates);
  rows = data.candidates.id.map((_, i) => {
    const row = Object.create(null);
    row.i = i;
    for (const [name, values] of columns) row[name] = values[i];
    row.kind = row.kind || "";
    row.status = row.status || "undecided";
    row.linear = row.residual === null ? "" : linearText(row);
    return row;
  });
  rows.forEach((row) => rowOf.set(row.id, row));
}

function linearText(row) {
  const parts = row.coefficients.map((c, k) => (c === null ? null : `${c.toFixed(2)} ${run.experts[k]}`));
  return parts.filter(Boolean).join(" + ");
}

const originalOf = (row) => (row.twin_of === null ? row : rows[row.twin_of]);
const sourceOf = (row) => (row.source === null ? "" : run.sources[row.source]);
const detailOf = (row) => (row.detail === null ? "" : run.details[row.detail]);

// Right (true), wrong (false) or not asked (null) for each dev question; null without answers.
function answersOf(row) {
  const own = originalOf(row);
  if (own.right === null) return null;
  const right = BigInt("0x" + own.right);
  const asked = own.asked === null ? null : BigInt("0x" + own.asked);
  return run.questions.map((_, k) => {
    const bit = 1n << BigInt(k);
    return asked !== null && !(asked & bit) ? null : Boolean(right & bit);
  });
}

function paired(first, second) {
  const found = { n: 0, both: [], first: [], second: [], neither: [] };
  const mine = answersOf(first), theirs = answersOf(second);
  if (!mine || !theirs) return null;
  mine.forEach((right, k) => {
    if (right === null || theirs[k] === null) return;
    found.n += 1;
    found[right ? (theirs[k] ? "both" : "first") : theirs[k] ? "second" : "neither"].push(k);
  });
  return found.n ? { ...found, p: mcnemar(found.first.length, found.second.length) } : null;
}

// The exact two-sided p of McNemar's test: how likely is so unequal a split of a fair coin?
function mcnemar(one, other) {
  const total = one + other, fewer = Math.min(one, other);
  let log = -total * Math.LN2, sum = 0;
  for (let i = 0; i <= fewer; i++) {
    sum += Math.exp(log);
    log += Math.log(total - i) - Math.log(i + 1);
  }
  return Math.min(1, 2 * sum);
}

function pairsWith(id) {
  if (!pairsOf) {
    pairsOf = new Map();
    for (const pair of run.tables.pairs) {
      for (const name of [pair.chosen, pair.rejected]) {
        if (!pairsOf.has(name)) pairsOf.set(name, []);
        pairsOf.get(name).push(pair);
      }
    }
  }
  return pairsOf.get(id) || [];
}

// A word for a shell. Single quotes keep all of it as it is.
function quoted(word) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) && !word.startsWith("-") ? word : "'" + word.replaceAll("'", "'\\''") + "'";
}

function againText(row) {
  const name = row.id.startsWith("-") ? `-- ${quoted(row.id)}` : quoted(row.id);
  const lines = [`selfdev-engine export ${quoted(run.folder)} --out merged ${name}`];
  if (row.source !== null) {
    const experts = Object.entries(run.again.experts).map(([key, place]) => `--expert ${quoted(`${key}=${place}`)}`);
    const params = Object.entries(row.params || {}).map(([key, value]) => `--param ${quoted(`${key}=${value}`)}`);
    const words = ["selfdev-engine merge program.py", `--base ${quoted(run.again.base)}`, ...experts];
    lines.push("# or, with the source above in program.py:");
    lines.push([...words, `--include ${quoted(run.again.include)}`, ...params, "--out merged"].join(" "));
  }
  return lines.join("\n");
}
