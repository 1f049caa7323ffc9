// IslandPlane: what losses do to signatures in a plane, with tokens to read and with none.

const STEPS = 200; // of the descent
const RATE = 0.075; // of its first step, for a single row; the last one is nearly nothing
const SHORTEST = 0.6; // length of a random row, at least
const LONGEST = 1.2; // and at most
const NEAR = 0.1; // a coordinate this close to -1, 0 or 1 counts as being there
const TINY = 1e-12; // nothing is divided by less

const SIZE = 320; // side of a plane's drawing, in its own units
const HALF = 1.9; // largest coordinate in it
const UNIT = SIZE / 2 / HALF;
const CLOUD = 1.7; // where the farthest point is drawn
const DISC = 8; // radius of a signature's number

const LOSSES = ["Ternary pull", "Sparsity", "Diversity"];

// ---------------------------------------------------------------- rows and their cut

const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const sizeOf = (row) => Math.max(Math.hypot(row[0], row[1]), TINY);
const unitOf = (row) => [row[0] / sizeOf(row), row[1] / sizeOf(row)];
const nearest = (entry) => (Math.abs(entry) > 0.5 ? Math.sign(entry) : 0);

/** What a row's cut is to be multiplied with, to come closest to it: trix's row_scale. */
function scaleOf(row) {
  const kept = ternarize(row);
  return Math.max(dot(row, kept) / Math.max(dot(kept, kept), 1), TINY);
}

/** A row in units of its own scale, which has no gradient: SignatureRows.latent. */
function latentOf(row) {
  const scale = scaleOf(row);
  return row.map((entry) => entry / scale);
}

// ---------------------------------------------------------------- losses, with their gradients

/** Mean squared distance of the latent entries to the nearest of -1, 0 and 1. */
function ternaryPull(rows) {
  let value = 0;
  const gradient = rows.map((row) => {
    const scale = scaleOf(row);
    return row.map((entry) => {
      const off = entry / scale - nearest(entry / scale);
      value += off ** 2 / (2 * rows.length);
      return off / (rows.length * scale);
    });
  });
  return { value, gradient };
}

/** Mean over rows of an entry's mean size over its root mean square. */
function sparsity(rows) {
  let value = 0;
  const gradient = rows.map((row) => {
    const scale = scaleOf(row);
    const latent = row.map((entry) => entry / scale);
    const mean = (Math.abs(latent[0]) + Math.abs(latent[1])) / 2;
    const root = Math.max(Math.sqrt(dot(latent, latent) / 2), TINY);
    value += mean / root / rows.length;
    return latent.map((entry) =>
      (Math.sign(entry) - (mean * entry) / root ** 2) / (2 * root * rows.length * scale));
  });
  return { value, gradient };
}

/** Mean squared cosine between different rows. */
function diversity(rows) {
  const units = rows.map(unitOf);
  const pairs = rows.length * (rows.length - 1);
  let value = 0;
  const gradient = units.map((unit, i) => {
    const pull = [0, 0];
    units.forEach((other, j) => {
      if (i === j) return;
      const cosine = dot(unit, other);
      value += cosine ** 2 / pairs;
      pull[0] += (4 * cosine * (other[0] - cosine * unit[0])) / pairs;
      pull[1] += (4 * cosine * (other[1] - cosine * unit[1])) / pairs;
    });
    return pull.map((entry) => entry / sizeOf(rows[i]));
  });
  return { value, gradient };
}

/** Which of the units `[x, y, x, y, …]` has the largest cosine; of equal ones the first. */
function winnerOf(x, y, units) {
  let best = 0;
  let top = -Infinity;
  for (let i = 0; i < units.length; i += 2) {
    const cosine = x * units[i] + y * units[i + 1];
    if (cosine > top) {
      best = i;
      top = cosine;
    }
  }
  return best / 2;
}

/** Minus the mean, over directions `[x, y, x, y, …]`, of the largest cosine with a row. */
function task(rows, directions) {
  const units = rows.map(unitOf);
  const flat = Float64Array.from(units.flat()); // the loop below is where the time goes
  const pull = rows.map(() => [0, 0]);
  for (let at = 0; at < directions.length; at += 2) {
    const won = pull[winnerOf(directions[at], directions[at + 1], flat)];
    won[0] -= directions[at];
    won[1] -= directions[at + 1];
  }
  const count = Math.max(directions.length / 2, 1);
  const value = sum(pull.map((total, i) => dot(total, units[i]) / count));
  const gradient = pull.map((total, i) => {
    const along = dot(total, units[i]);
    return total.map((entry, axis) =>
      (entry - along * units[i][axis]) / (count * sizeOf(rows[i])));
  });
  return { value, gradient };
}

const measure = (rows, directions) =>
  [task(rows, directions), ternaryPull(rows), sparsity(rows), diversity(rows)];

/** Rows after so many of the `STEPS` steps down the task plus the weighted losses. */
function descend(start, directions, weights, taken = STEPS) {
  let rows = start;
  for (let step = 0; step < taken; step++) {
    const rate = RATE * rows.length * (1 - step / STEPS);
    const losses = measure(rows, directions);
    const factors = [1, ...weights];
    rows = rows.map((row, i) => row.map((entry, axis) =>
      entry - rate * sum(losses.map(({ gradient }, n) => factors[n] * gradient[i][axis]))));
  }
  return rows;
}

/** Random rows: any direction, lengths from SHORTEST to LONGEST. The generator is mulberry32. */
function randomRows(count, seed) {
  let state = seed >>> 0;
  function uniform() {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
  return Array.from({ length: count }, () => {
    const [angle, length] = [2 * Math.PI * uniform(), SHORTEST + (LONGEST - SHORTEST) * uniform()];
    return [length * Math.cos(angle), length * Math.sin(angle)];
  });
}

/** Shares of entries near -1, 0 or 1 and near 0, and one minus the mean size of the cosine. */
function statisticsOf(rows) {
  const entries = rows.flat();
  const share = (holds) => entries.filter(holds).length / entries.length;
  const units = rows.map(unitOf);
  const cosines = units.flatMap((unit, i) =>
    units.slice(i + 1).map((other) => Math.abs(dot(unit, other))));
  return {
    ternary: share((entry) => Math.abs(entry - nearest(entry)) <= NEAR),
    zeros: share((entry) => Math.abs(entry) <= NEAR),
    diversity: 1 - sum(cosines) / cosines.length,
  };
}

const beforeAndAfter = (rows) =>
  [statisticsOf(rows.map(latentOf)), statisticsOf(rows.map(ternarize))];

// ---------------------------------------------------------------- making elements

const written = ({ ternary, zeros, diversity: spread }) =>
  [percent(ternary), percent(zeros), spread.toFixed(2)];
const place = ([x, y]) => [x * UNIT, -y * UNIT].map((number) => Number(number.toFixed(2)));
const line = (from, to) => `M${place(from).join(" ")}L${place(to).join(" ")}`;

// ---------------------------------------------------------------- a plane and its table

/** The sectors that the cut takes to a diagonal, and rings at the nine ternary points. */
function makeGround() {
  const signs = [-1, 1].flatMap((x) => [-1, 1].map((y) => [x, y]));
  const corners = [[0, 0], [HALF, HALF / 3], [HALF, HALF], [HALF / 3, HALF]];
  const sectors = signs.map(([x, y]) => shape("polygon", {
    class: "trix-ip-sector", points: corners.map(([a, b]) => place([x * a, y * b])).join(" "),
  }));
  const rings = [-1, 0, 1].flatMap((x) => [-1, 0, 1].map((y) => {
    const [cx, cy] = place([x, y]);
    return shape("circle", { class: "trix-ip-target", cx, cy, r: NEAR * UNIT });
  }));
  return shape("g", {}, ...sectors, ...rings);
}

/** Where the numbers of arrows stand: beyond the tip, and clear of one another. */
function placeNumbers(tips) {
  const taken = [];
  const steps = Array.from({ length: 13 }, (_, i) => i / 2 - 3);
  for (const tip of tips) {
    const [[u, v], [x, y]] = [unitOf(tip), place(tip)];
    const [gap, edge] = [2 * DISC + 1, SIZE / 2 - DISC - 2];
    const spots = steps.slice(6).flatMap((out) => steps.map((aside) => [Math.hypot(out, aside), [
      x + (DISC + 5 + out * gap) * u + aside * gap * v,
      y - (DISC + 5 + out * gap) * v + aside * gap * u,
    ]])).sort(([near], [far]) => near - far).map(([, spot]) => spot);
    taken.push(spots.find(([a, b]) => Math.max(Math.abs(a), Math.abs(b)) <= edge
      && taken.every(([c, d]) => Math.hypot(a - c, b - d) >= gap - 0.01)) ?? spots[0]);
  }
  return taken;
}

/** The drawing of one plane: points in the colour of what reads them, starts, ends and numbers. */
function makePlane(palette, points, directions) {
  const coloured = (tag, attributes = {}) => palette.map((colour, i) =>
    shape(tag, { ...attributes, "data-signature": i, style: `--tile: ${colour}` }));
  const clouds = coloured("path", { class: "trix-ip-points" });
  const starts = coloured("path", { class: "trix-ip-start" });
  const shafts = coloured("path", { class: "trix-ip-end" });
  const heads = coloured("path", { class: "trix-ip-head", d: "M0 0L-9 -4.5L-9 4.5Z" });
  const numbers = coloured("g");
  numbers.forEach((number, i) => number.append(
    shape("circle", { class: "trix-ip-disc", r: DISC }),
    shape("text", { class: "trix-ip-number" }, String(i))));
  const picture = shape("svg", {
    class: "trix-ip-plane", role: "img", viewBox: `${-SIZE / 2} ${-SIZE / 2} ${SIZE} ${SIZE}`,
  }, makeGround(), ...clouds, ...starts, ...shafts, ...heads, ...numbers);
  const dots = points.map((point) => `M${place(point).join(" ")}h0`);

  function update(start, rows) {
    const [from, to, units] = [start.map(latentOf), rows.map(latentOf), rows.flatMap(unitOf)];
    const readers = dots.map((_, n) => winnerOf(directions[2 * n], directions[2 * n + 1], units));
    const spots = placeNumbers(to);
    to.forEach((tip, i) => {
      clouds[i].setAttribute("d", dots.filter((_, n) => readers[n] === i).join(""));
      starts[i].setAttribute("d", line([0, 0], from[i]));
      shafts[i].setAttribute("d", line([0, 0], tip));
      const turn = turnOf(place(tip));
      heads[i].setAttribute("transform", `translate(${place(tip).join(" ")}) rotate(${turn})`);
      numbers[i].setAttribute("transform", `translate(${spots[i].join(" ")})`);
    });
    const cuts = rows.map((row, i) => `${i} to ${ternarize(row).join(" ").replace(/-/g, "\u2212")}`);
    picture.setAttribute("aria-label",
      `The plane. After training, the cut takes signature ${cuts.join(", ")}.`);
  }
  return { picture, update };
}

/** Three statistics in rows; trained and random signatures, before and after the cut, in columns. */
function makeTable(name) {
  const cells = [0, 1, 2].map(() => [0, 1, 2, 3].map(() => element("td")));
  const group = (text) => element("th", { scope: "colgroup", colspan: 2 }, text);
  const table = element("table", { class: "trix-ip-table" },
    element("caption", { class: "kit-hidden" }, `Statistics, ${name}`),
    element("thead", {},
      element("tr", {}, element("td"), group("trained"), group("random start")),
      element("tr", {}, element("td"), ...["before", "after", "before", "after"].map((text) => {
        const more = element("span", { class: "kit-hidden" }, " the cut");
        return element("th", { scope: "col" }, text, more);
      }))),
    element("tbody", {}, ...["ternary", "zeros", "diversity"].map((text, i) =>
      element("tr", {}, element("th", { scope: "row" }, text), ...cells[i]))));

  function update(columns) {
    columns.map(written).forEach((column, at) =>
      column.forEach((text, i) => (cells[i][at].textContent = text)));
  }
  return { table, update };
}

// ---------------------------------------------------------------- controls and legend

/** The three weights, the random start, and the way back. */
function makeControls({ weigh, draw, reset }) {
  const sliders = LOSSES.map(() => element("input", { type: "range", min: 0, max: 1, step: 0.01 }));
  sliders.forEach((slider, i) =>
    slider.addEventListener("input", () => weigh(i, Number(slider.value))));
  const values = LOSSES.map(() => element("strong"));
  const seed = element("strong");
  const bar = element("div", { class: "trix-ip-controls" },
    ...sliders.map((slider, i) => makeField(LOSSES[i], slider, values[i], "trix-ip-field")),
    element("div", { class: "trix-ip-buttons" }, makeButton("New random start", draw),
      makeButton("Reset", reset), element("span", {}, "seed ", seed)));

  function update(weights, chosen) {
    weights.forEach((weight, i) => {
      sliders[i].value = weight;
      sliders[i].setAttribute("aria-valuetext", weight.toFixed(2));
      values[i].textContent = weight.toFixed(2);
    });
    seed.textContent = chosen;
  }
  return { bar, update };
}

/** What the marks stand for. */
function makeLegend() {
  const sample = (name, ...marks) => makeKey(name, "0 0 30 18", ...marks);
  return element("div", { class: "kit-legend" },
    sample("random start", shape("path", { class: "trix-ip-start", d: "M1 9H29" })),
    sample("trained", shape("path", { class: "trix-ip-end", d: "M1 9H22" }),
      shape("path", { class: "trix-ip-head", d: "M29 9L20 4.5L20 13.5Z" })),
    sample("ternary point", shape("circle", { class: "trix-ip-target", cx: 15, cy: 9, r: 7 })),
    sample("cut to a diagonal", shape("rect", {
      class: "trix-ip-sector", x: 1, y: 1, width: 28, height: 16 })));
}

// ---------------------------------------------------------------- the figure

/** The points, scaled to fit the drawing, and their directions. */
function readPoints(view) {
  const points = pairsIn(view);
  const far = points.reduce((most, [x, y]) => Math.max(most, Math.abs(x), Math.abs(y)), TINY);
  return {
    points: points.map((point) => point.map((entry) => (CLOUD * entry) / far)),
    directions: Float64Array.from(points.flatMap(unitOf)),
  };
}

function render(view) {
  const { model } = view;
  const palette = model.get("palette");
  const { points, directions } = readPoints(model.get("points"));
  const controls = makeControls({
    weigh: (i, to) => choose({
      weights: model.get("weights").map((weight, n) => (n === i ? to : weight)),
    }),
    draw: () => choose({ seed: (model.get("seed") + 1) % 2 ** 32 }),
    reset: () => choose(model.get("start")),
  });
  const sides = [
    { name: "With data", points, directions },
    { name: "No data", points: [], directions: new Float64Array() },
  ].map((side) => ({
    ...side,
    plane: makePlane(palette, side.points, side.directions),
    ...makeTable(side.name.toLowerCase()),
  }));
  const figure = makeFigure(view, { kind: "trix-ip" },
    controls.bar,
    element("div", { class: "trix-ip-sides" }, ...sides.map(({ name, plane, table }) =>
      element("div", { class: "trix-ip-side" },
        element("p", { class: "trix-ip-heading" }, name), plane.picture, table))),
    makeLegend(),
    element("p", { class: "trix-ip-note" }, "Before and after the cut to \u22121, 0 and 1. Ternary: "
      + "share of coordinates within 0.1 of one of the three. Zeros: share within 0.1 of 0. "
      + "Diversity: one minus the mean size of the cosine between signatures. Arrows and "
      + "coordinates are in units of each signature\u2019s own scale."));

  function update() {
    const [weights, seed] = [model.get("weights"), model.get("seed")];
    const start = randomRows(palette.length, seed);
    const untrained = beforeAndAfter(start);
    const results = sides.map((side) => {
      const rows = descend(start, side.directions, weights);
      const trained = beforeAndAfter(rows);
      side.plane.update(start, rows);
      side.update([...trained, ...untrained]);
      return { rows, losses: measure(rows, side.directions).map(({ value }) => value), trained };
    });
    controls.update(weights, seed);
    figure.root.dataset.numbers = JSON.stringify({ start, untrained, results });
  }

  function choose(changes) {
    figure.choose(changes);
    figure.say(() => {
      const { results } = JSON.parse(figure.root.dataset.numbers);
      return sides.map(({ name }, i) => {
        const [ternary, zeros, spread] = written(results[i].trained[0]);
        return `${name}, before the cut: ${ternary} ternary, ${zeros} zeros, diversity ${spread}.`;
      }).join(" ");
    });
  }

  return figure.start(["weights", "seed"], update);
}

export { descend, measure, randomRows }; // for the tests
export default { render };
