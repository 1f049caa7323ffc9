// SplineExplorer, first part: splines of straight cells, their errors, and both in words.

// ---------------------------------------------------------------- the spline

/** The cell that the i-th of n equal steps ends in, and its place there, -1 to 1. */
function cellOf(i, n, cells) {
  const at = (i * cells) / n; // whole numbers first, so that edges are met exactly
  const cell = Math.min(cells - 1, Math.floor(at));
  return { cell, u: 2 * (at - cell) - 1 };
}

/** Where the i-th of n steps is read: a level for a table, then a cell and a place. */
function addressOf(i, n, { kind, cells, levels }) {
  if (kind !== "table") return cellOf(i, n, cells);
  const level = Math.round((i * (levels - 1)) / n);
  return { level, ...cellOf(level, levels - 1, cells) };
}

/** The height of a curve of points at a share of the way from its first to its last. */
function heightAt(values, share) {
  const at = share * (values.length - 1);
  const i = Math.min(values.length - 2, Math.floor(at));
  return values[i] + (at - i) * (values[i + 1] - values[i]);
}

/** The least-squares line of each cell, `[base, slope]`; of several the flattest. */
function fit(values, choices) {
  const { cells } = choices;
  const found = indices(cells).map(() => []);
  values.forEach((y, i) => {
    const { cell, u } = addressOf(i, values.length - 1, choices);
    found[cell].push([u, y]);
  });
  return found.map((points, cell) => {
    if (!points.length) return [heightAt(values, (cell + 0.5) / cells), 0];
    const [u, y] = [0, 1].map((k) => sum(points.map((point) => point[k])) / points.length);
    const spread = sum(points.map((point) => (point[0] - u) ** 2));
    if (spread < 1e-12) return [y, 0];
    const slope = sum(points.map((point) => (point[0] - u) * (point[1] - y))) / spread;
    return [y - slope * u, slope];
  });
}

/** Numbers cut to -1, 0 or 1 at half their mean size, and the scale that brings them nearest. */
function cut(numbers) {
  const threshold = (0.5 * sum(numbers.map(Math.abs))) / numbers.length;
  const ternary = numbers.map((number) => (Math.abs(number) > threshold ? Math.sign(number) : 0));
  const kept = sum(ternary.map(Math.abs));
  return { ternary, scale: sum(numbers.map((number, i) => number * ternary[i])) / Math.max(1, kept) };
}

/** What is stored: `[base, slope]` a cell, in units of the cell's scale. */
function store(lines, { kind, scale }) {
  if (kind !== "ternary") return { pairs: lines, scales: lines.map(() => 1) };
  if (scale === "cell") {
    const rows = lines.map(cut);
    return { pairs: rows.map((row) => row.ternary), scales: rows.map((row) => row.scale) };
  }
  const all = cut(lines.flat());
  return {
    pairs: lines.map((_, cell) => all.ternary.slice(2 * cell, 2 * cell + 2)),
    scales: lines.map(() => all.scale),
  };
}

const readIn = ({ pairs, scales }, cell, u) => scales[cell] * (pairs[cell][0] + pairs[cell][1] * u);

function bitsOf({ kind, cells, scale, levels }) {
  if (kind === "table") return 32 * levels;
  if (kind === "float") return 64 * cells;
  return 4 * cells + 32 * (scale === "cell" ? cells : 1);
}

/** Size and errors of a spline, and what is read at the `step`-th of `steps`. */
function measure(values, lines, choices, step, steps) {
  const stored = store(lines, choices);
  const last = values.length - 1;
  let [squares, worst, at] = [0, -1, 0];
  values.forEach((y, i) => {
    const { cell, u } = addressOf(i, last, choices);
    const error = Math.abs(readIn(stored, cell, u) - y);
    squares += error ** 2 / values.length;
    if (error > worst) [worst, at] = [error, i];
  });
  const address = addressOf(step, steps, choices);
  const here = { ...address, read: readIn(stored, address.cell, address.u) };
  here.target = heightAt(values, step / steps);
  return { bits: bitsOf(choices), squares, worst, at: at / last, here, lines, ...stored };
}

/** The lowest and the highest of a curve and of all its least-squares splines, with some spare. */
function extentOf(values, { cells: counts, scale: scales }) {
  const heights = [...values];
  for (const cells of counts) {
    const lines = fit(values, { kind: "float", cells });
    const kinds = [{ kind: "float" }, ...scales.map((scale) => ({ kind: "ternary", scale }))];
    for (const stored of kinds.map((kind) => store(lines, kind))) {
      indices(cells).forEach((cell) =>
        heights.push(readIn(stored, cell, -1), readIn(stored, cell, 1)));
    }
  }
  const [low, high] = [Math.min(...heights), Math.max(...heights)];
  const spare = 0.08 * (high - low) || 1;
  return [low - spare, high + spare];
}

// ---------------------------------------------------------------- in words

/** An error of any size in a few letters; only 0 itself is "0". */
function written(number) {
  if (number === 0) return "0";
  if (number >= 0.001 && number < 1000) return String(Number(number.toPrecision(3)));
  return scientific(number);
}

/** A way to write numbers of one axis: two decimals or three digits of its length. */
function writer([low, high]) {
  const digits = within(0, 9, 2 - Math.floor(Math.log10((high - low) / 2)));
  return (number) => {
    const text = number.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : minus(text);
  };
}

const KINDS = {
  float: "float", ternary: "ternary", table: "table", cell: "each cell", all: "all cells",
};

function sizeIn({ kind, cells, scale, levels }) {
  if (kind === "table") return `${levels} entries \u00d7\u00a032`;
  if (kind === "float") return `${cells} cells \u00d7\u00a064`;
  const scales = scale === "cell" ? `${cells} scales` : "1 scale";
  return `${cells} cells \u00d7\u00a04 + ${scales} \u00d7\u00a032`;
}

const inside = (number) => (/^\u2212/.test(number) ? `(${number})` : number);

/** The way from an input to its reading, step by step. */
function wayOf(numbers, choices, say) {
  const { here, pairs, scales } = numbers;
  const { cell, level, u } = here;
  const [place, read] = [minus(u.toFixed(2)), say(here.read)];
  const among = (count) => `of 0\u2009\u2026\u2009${count - 1}`;
  if (choices.kind === "table") {
    const [base, slope] = pairs[cell].map(say);
    return {
      address: `level ${level} ${among(choices.levels)}`,
      there: `entry ${read}, written from cell ${cell}: base ${base}, slope ${slope}`,
      read: `${read}, as it stands`,
    };
  }
  const address = `cell ${cell} ${among(choices.cells)}, at u\u00a0=\u00a0${place}`;
  if (choices.kind === "float") {
    const [base, slope] = pairs[cell].map(say);
    return {
      address,
      there: `base ${base}, slope ${slope}`,
      read: `${base} + ${inside(slope)}\u00b7${inside(place)} = ${read}`,
    };
  }
  const [base, slope] = pairs[cell].map((value) => minus(String(value)));
  const scale = say(scales[cell]);
  return {
    address,
    there: `base ${base}, slope ${slope}, scale ${scale}`,
    read: `${scale}\u00b7(${base} + ${inside(slope)}\u00b7${inside(place)}) = ${read}`,
  };
}
