// SplineExplorer: a curve, and a spline of straight cells to lay over it by hand.
//
// One self-contained module, because it is loaded from a blob: in a notebook by anywidget, on a
// page with no kernel by static-widgets.js. The model's traits are described in spline_explorer.py.
// What the reader chooses goes through the model, so that all views of it agree.

const SVG = "http://www.w3.org/2000/svg";
const HEAD = 20; // above the plot: the numbers of the cells, in CSS pixels
const HEIGHT = 260; // of the plot
const FOOT = 20; // below the plot: the numbers of the inputs
const RIGHT = 16;
const GRASP = 16; // how near a pointer takes a handle
const DISC = 7; // largest radius of a handle
const KEYS = 60; // steps of an arrow key from the bottom to the top

const indices = (count) => Array.from({ length: count }, (_, i) => i);
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const within = (low, high, value) => Math.min(high, Math.max(low, value));

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

const SMALL = { "-": "\u207b", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3" };
const raised = (power) =>
  [...String(power)].map((c) => SMALL[c] ?? String.fromCharCode(0x2070 + Number(c))).join("");
const minus = (text) => text.replace("-", "\u2212");

/** An error of any size in a few letters; only 0 itself is "0". */
function written(number) {
  if (number === 0) return "0";
  if (number >= 0.001 && number < 1000) return String(Number(number.toPrecision(3)));
  const [digits, power] = number.toExponential(1).split("e");
  return `${digits}\u00d710${raised(Number(power))}`;
}

/** A way to write numbers of one axis: two decimals or three digits of its length. */
function writer([low, high]) {
  const digits = within(0, 9, 2 - Math.floor(Math.log10((high - low) / 2)));
  return (number) => {
    const text = number.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : minus(text);
  };
}

const NAMES = {
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

// ---------------------------------------------------------------- making elements

function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const pathThrough = (points) =>
  points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");

const words = (x, y, text, anchor, kind = "") =>
  shape("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, class: kind }, text);

/** Round numbers from low to high, `most` steps or fewer. */
function ticks(low, high, most) {
  const rough = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((times) => times * unit >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const first = Math.ceil(low / step - 1e-9);
  return indices(Math.floor(high / step + 1e-9) - first + 1)
    .map((i) => [(first + i) * step, minus(((first + i) * step).toFixed(digits))]);
}

// ---------------------------------------------------------------- the plot

/** A picture with axes, cells and handles. What is drawn on it stands in its parts. */
function makePlot() {
  const id = `trix-sp-${Math.random().toString(36).slice(2)}`;
  const window = shape("rect", { y: HEAD, height: HEIGHT });
  const part = (kind) => shape("path", { class: `trix-sp-${kind}` });
  const cell = shape("rect", { class: "trix-sp-cell", y: 0, height: HEAD + HEIGHT });
  const [raw, read, target] = ["raw", "read", "target"].map(part);
  const [drop, reading] = [part("drop"), shape("circle", { class: "trix-sp-here", r: 5 })];
  const frame = shape("g", { "aria-hidden": "true" });
  const handles = shape("g");
  const inside = shape("g", { "clip-path": `url(#${id})`, "aria-hidden": "true" },
    raw, read, target, drop, reading);
  const picture = shape("svg", { class: "trix-sp-picture", height: HEAD + HEIGHT + FOOT },
    shape("clipPath", { id }, window), cell, frame, inside, handles);

  let [left, across, bounds, extent] = [40, 0, [0, 1], [0, 1]];
  const x = (share) => left + share * across;
  const y = (value) => HEAD + ((extent[1] - value) / (extent[1] - extent[0])) * HEIGHT;

  /** Axes for a width, inputs, heights and a number of cells. */
  function setFrame(width, inputs, heights, cells) {
    [bounds, extent] = [inputs, heights];
    const marks = ticks(...extent, 5);
    left = 12 + 7 * Math.max(...marks.map(([, name]) => name.length));
    across = Math.max(1, width - left - RIGHT);
    furnish(window, { x: left - 1, width: across + 2 }, []);
    const [from, to] = [x(0), x(1)];
    const shareOf = (input) => (input - bounds[0]) / (bounds[1] - bounds[0]);
    const edges = indices(cells + 1).map((i) => x(i / cells));
    frame.replaceChildren(
      shape("path", {
        class: "trix-sp-grid",
        d: marks.map(([at]) => pathThrough([[from, y(at)], [to, y(at)]])).join(""),
      }),
      shape("path", {
        class: "trix-sp-edges",
        d: edges.map((at) => pathThrough([[at, HEAD - 4], [at, HEAD + HEIGHT]])).join(""),
      }),
      ...marks.map(([at, name]) => words(from - 6, y(at) + 4, name, "end")),
      ...ticks(...bounds, across < 300 ? 4 : 8).map(([at, name]) =>
        words(x(shareOf(at)), HEAD + HEIGHT + 15, name, "middle")),
      ...indices(cells).map((i) =>
        words(x((i + 0.5) / cells), HEAD - 7, String(i), "middle", "trix-sp-number")),
    );
    return left;
  }

  const shareAt = (px) => within(0, 1, (px - left) / across);
  const valueAt = (py) => extent[1] - ((py - HEAD) / HEIGHT) * (extent[1] - extent[0]);
  const parts = { cell, raw, read, target, drop, reading, handles, frame };
  return { picture, parts, x, y, setFrame, shareAt, valueAt };
}

/** Both ends of each cell's line: half discs, so that those at one edge stand side by side. */
function makeHandles(cells) {
  return indices(2 * cells).map((i) => {
    const side = i % 2 ? "right" : "left";
    const handle = shape("g", {
      class: "trix-sp-handle", role: "slider", tabindex: -1, "aria-orientation": "vertical",
      "aria-label": `Cell ${Math.floor(i / 2)}, ${side} end`, "data-handle": i,
    });
    handle.append(
      shape("circle", { class: "trix-sp-grasp", r: GRASP }),
      shape("path", { class: "trix-sp-halo" }),
      shape("path", { class: "trix-sp-half" }),
    );
    return handle;
  });
}

/** Half a disc with its flat side on the edge: to the right of it, or (`way` -1) to the left. */
const half = (radius, way) =>
  `M0 ${-radius}A${radius} ${radius} 0 0 ${way > 0 ? 1 : 0} 0 ${radius}Z`;

// ---------------------------------------------------------------- controls

function makeControls(names, choices) {
  const id = `spline-${Math.random().toString(36).slice(2)}`;
  const radios = {};

  function group(name, title) {
    radios[name] = choices[name].map((value) =>
      element("input", { type: "radio", name: `${id}-${name}`, value }));
    return element("div", { class: "trix-sp-field" },
      element("span", { id: `${id}-${name}` }, title),
      element("div", {
        class: "trix-sp-choice", role: "radiogroup", "aria-labelledby": `${id}-${name}`,
      }, ...radios[name].map((radio, i) => element("label", {}, radio,
        element("span", {}, NAMES[choices[name][i]] ?? String(choices[name][i]))))));
  }

  const target = element("select", { id: `${id}-target` },
    ...names.map((name) => element("option", { value: name }, name)));
  const faces = {
    float: element("div", { class: "trix-sp-field" }, element("span", {}, "Stored a cell"),
      element("span", { class: "trix-sp-plain" }, "two floats")),
    ternary: group("scale", "One scale for"),
    table: group("levels", "Levels"),
  };
  const button = (text) => element("button", { type: "button", class: "trix-sp-button" }, text);
  const [again, reset] = [button("Fit"), button("Reset")];
  const bar = element("div", { class: "trix-sp-controls" },
    element("div", { class: "trix-sp-field trix-sp-pick" },
      element("label", { for: target.id }, "Target"), target),
    group("cells", "Cells"), group("kind", "Kind"),
    element("div", { class: "trix-sp-slot" }, ...Object.values(faces)),
    element("div", { class: "trix-sp-buttons" }, again, reset));

  function update(now) {
    target.value = now.target;
    for (const [name, group] of Object.entries(radios)) {
      group.forEach((radio) => (radio.checked = radio.value === String(now[name])));
    }
    for (const [kind, face] of Object.entries(faces)) {
      face.classList.toggle("trix-sp-away", now.kind !== kind);
    }
  }
  return { bar, target, radios, again, reset, update };
}

/** What the lines stand for. */
function makeLegend() {
  const sample = (name, kind) => element("span", { class: `trix-sp-key trix-sp-key-${kind}` },
    shape("svg", { viewBox: "0 0 30 18", "aria-hidden": "true" },
      shape("path", { class: `trix-sp-${kind}`, d: "M1 9H29" })), name);
  return element("div", { class: "trix-sp-legend" }, sample("target", "target"),
    sample("what is read", "read"), sample("the line it is made from", "raw"));
}

/** A list of names and values; `update` takes the values in order. */
function makeFacts(names) {
  const values = names.map(() => element("dd"));
  const list = element("dl", { class: "trix-sp-facts" },
    ...names.flatMap((name, i) => [element("dt", {}, name), values[i]]));
  const update = (texts) => texts.forEach((text, i) => (values[i].textContent = text));
  return { list, update };
}

// ---------------------------------------------------------------- the figure

function render({ model, el }) {
  const [names, curves] = [model.get("names"), model.get("curves")];
  const [bounds, steps, colours] = [model.get("bounds"), model.get("steps"), model.get("colours")];
  const span = bounds[1] - bounds[0];
  const inputAt = (share) => bounds[0] + span * share;
  const extents = curves.map((values) => extentOf(values, model.get("choices")));
  const sayInput = writer(bounds);

  const controls = makeControls(names, model.get("choices"));
  const plot = makePlot();
  const facts = makeFacts(["Size", "Mean squared error", "Largest error", "Lines"]);
  const way = makeFacts(["Address", "Stored", "Read", "Target"]);
  const where = element("strong");
  const id = `spline-x-${Math.random().toString(36).slice(2)}`;
  const slider = element("input", { type: "range", min: 0, max: steps, step: 1, id });
  const status = element("p", { class: "trix-sp-hidden", "aria-live": "polite" });
  const figure = element("div", {
    class: "trix-sp", role: "group", "aria-label": model.get("alt"),
    style: `--read: ${colours.read}; --here: ${colours.here}`,
  },
    controls.bar,
    element("div", { class: "trix-sp-body" },
      element("div", { class: "trix-sp-side" }, makeLegend(), plot.picture,
        element("div", { class: "trix-sp-x" }, element("label", { for: id }, "x"), slider),
        element("p", { class: "trix-sp-hint" },
          "Drag a half disc to move that end of its cell\u2019s line. By keyboard: "
          + "\u2191 and \u2193 move it, \u2190 and \u2192 go to the next.")),
      element("div", { class: "trix-sp-panel" }, facts.list,
        element("p", { class: "trix-sp-heading" }, "Address \u2192 reading, at ", where),
        way.list)),
    status);
  el.append(figure);

  let [width, handles, stop] = [640, [], 0];
  const now = () => Object.fromEntries(
    ["target", "cells", "kind", "scale", "levels"].map((name) => [name, model.get(name)]));
  const curveOf = ({ target }) => Math.max(0, names.indexOf(target));
  const stepNow = () =>
    within(0, steps, Math.round(((model.get("x") - bounds[0]) / span) * steps));

  function linesNow(choices) {
    const lines = model.get("lines");
    return lines.length === choices.cells ? lines : fit(curves[curveOf(choices)], choices);
  }

  function drawSpline(choices, numbers) {
    const { parts, x, y } = plot;
    const { cells, kind, levels } = choices;
    const ends = (cell, stored) => pathThrough([-1, 1].map((u) =>
      [x((cell + (u + 1) / 2) / cells), y(readIn(stored, cell, u))]));
    const raw = { pairs: numbers.lines, scales: numbers.lines.map(() => 1) };
    const each = (stored) => indices(cells).map((cell) => ends(cell, stored)).join("");
    parts.raw.setAttribute("d", kind === "float" ? "" : each(raw));
    parts.read.setAttribute("d", kind !== "table" ? each(numbers)
      : indices(levels).map((level) => {
        const { cell, u } = cellOf(level, levels - 1, cells);
        const height = y(readIn(numbers, cell, u));
        return pathThrough([-0.5, 0.5].map((off) =>
          [x(within(0, 1, (level + off) / (levels - 1))), height]));
      }).join(""));
  }

  function drawHandles(cells, lines, extent, say) {
    if (handles.length !== 2 * cells) {
      handles = makeHandles(cells);
      stop = 0;
      plot.parts.handles.replaceChildren(...handles);
    }
    const radius = Math.min(DISC, (plot.x(1 / cells) - plot.x(0)) / 2.3);
    handles.forEach((handle, i) => {
      const cell = Math.floor(i / 2);
      const sign = i % 2 ? 1 : -1;
      const value = lines[cell][0] + sign * lines[cell][1];
      const [px, py] = [plot.x((cell + (i % 2)) / cells), plot.y(value)];
      handle.setAttribute("transform", `translate(${px.toFixed(2)} ${py.toFixed(2)})`);
      handle.setAttribute("tabindex", i === stop ? 0 : -1);
      handle.setAttribute("aria-valuemin", extent[0].toFixed(6));
      handle.setAttribute("aria-valuemax", extent[1].toFixed(6));
      handle.setAttribute("aria-valuenow", within(...extent, value).toFixed(6));
      handle.setAttribute("aria-valuetext", say(value));
      const [, halo, disc] = handle.children;
      halo.setAttribute("d", half(radius + 4, -sign));
      disc.setAttribute("d", half(radius, -sign));
      handle.place = [px - (sign * radius) / 2, py];
    });
  }

  function drawReading({ here }, step) {
    const { parts, x, y } = plot;
    const { cells } = now();
    const [px, py] = [x(step / steps), y(here.read)];
    furnish(parts.cell, { x: x(here.cell / cells), width: x(1 / cells) - x(0) }, []);
    parts.frame.querySelectorAll(".trix-sp-number").forEach((number, i) =>
      number.classList.toggle("trix-sp-chosen", i === here.cell));
    parts.drop.setAttribute("d", pathThrough([[px, HEAD + HEIGHT], [px, py]]));
    furnish(parts.reading, { cx: px.toFixed(2), cy: py.toFixed(2) }, []);
  }

  function update() {
    const choices = now();
    const curve = curveOf(choices);
    const [values, extent] = [curves[curve], extents[curve]];
    const say = writer(extent);
    const step = stepNow();
    const lines = linesNow(choices);
    const numbers = measure(values, lines, choices, step, steps);
    const told = wayOf(numbers, choices, say);
    const input = sayInput(inputAt(step / steps));

    controls.update(choices);
    const left = plot.setFrame(width, bounds, extent, choices.cells);
    figure.style.setProperty("--left", `${left}px`);
    figure.style.setProperty("--right", `${RIGHT}px`);
    plot.parts.target.setAttribute("d", pathThrough(
      values.map((value, i) => [plot.x(i / (values.length - 1)), plot.y(value)])));
    drawSpline(choices, numbers);
    drawHandles(choices.cells, lines, extent, say);
    drawReading(numbers, step);

    slider.value = step;
    slider.setAttribute("aria-valuetext", `${input}, ${told.address}, reads ${say(numbers.here.read)}`);
    facts.update([
      `${numbers.bits} bits (${sizeIn(choices)})`, written(numbers.squares),
      `${written(numbers.worst)}, at x = ${sayInput(inputAt(numbers.at))}`,
      model.get("lines").length === choices.cells ? "moved by hand" : "least squares",
    ]);
    where.textContent = `x = ${input}`;
    way.update([told.address, told.there, told.read, say(numbers.here.target)]);
    figure.classList.toggle("trix-sp-direct", choices.kind === "float");
    figure.dataset.numbers = JSON.stringify(numbers);
    return `${numbers.bits} bits. Mean squared error ${written(numbers.squares)}, largest error `
      + `${written(numbers.worst)}. At x = ${input}: ${told.address}; ${told.there}; `
      + `read ${told.read}.`;
  }

  // One change of the model is one drawing, however many traits it touches.
  let [pause, busy, sentence] = [0, false, ""];
  function choose(changes) {
    busy = true;
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    busy = false;
    sentence = update();
    model.save_changes();
    // Words change many times a second under a moving hand: say what they come to rest at.
    clearTimeout(pause);
    pause = setTimeout(() => (status.textContent = sentence), 400);
  }

  /** The line of a handle's cell, with that end at another height. */
  function move(i, value) {
    const choices = now();
    const lines = linesNow(choices).map((line) => [...line]);
    const [cell, sign] = [Math.floor(i / 2), i % 2 ? 1 : -1];
    const [base, slope] = lines[cell];
    const other = base - sign * slope;
    const end = within(...extents[curveOf(choices)], value);
    lines[cell] = [(end + other) / 2, (sign * (end - other)) / 2];
    choose({ lines });
  }

  const endOf = (i) => {
    const [base, slope] = linesNow(now())[Math.floor(i / 2)];
    return base + (i % 2 ? slope : -slope);
  };

  // ---- pointers: the nearest handle, else the input
  let held = null; // { i, from }: from the pointer to the end's height, so that it does not jump
  function under(event) {
    const box = plot.picture.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }
  const choosePlace = (px) => {
    const step = Math.round(plot.shareAt(px) * steps);
    if (step !== stepNow()) choose({ x: inputAt(step / steps) });
  };
  plot.picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const [px, py] = under(event);
    const away = handles.map(({ place }) => Math.hypot(place[0] - px, place[1] - py));
    const nearest = away.indexOf(Math.min(...away));
    if (away[nearest] > GRASP) return choosePlace(px);
    event.preventDefault();
    handles[nearest].focus({ preventScroll: true });
    plot.picture.setPointerCapture(event.pointerId);
    held = { i: nearest, from: endOf(nearest) - plot.valueAt(py) };
  });
  // A finger on a handle scrolls nothing; `touch-action` on a part of an SVG does not see to that.
  plot.picture.addEventListener("touchstart", (event) => held && event.preventDefault(),
    { passive: false });
  plot.picture.addEventListener("pointermove", (event) => {
    const [px, py] = under(event);
    if (held) move(held.i, plot.valueAt(py) + held.from);
    else choosePlace(px);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    plot.picture.addEventListener(end, () => (held = null));
  }

  // ---- keys
  // Listened to from the figure: a part of an SVG that hears of focus becomes a tab stop itself.
  figure.addEventListener("focusin", (event) => {
    const handle = event.target.closest("[data-handle]");
    if (!handle) return;
    stop = Number(handle.dataset.handle);
    handles.forEach((handle, i) => handle.setAttribute("tabindex", i === stop ? 0 : -1));
  });
  plot.parts.handles.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const [low, high] = extents[curveOf(now())];
    const little = ((high - low) / KEYS) * (event.shiftKey ? 5 : 1);
    const up = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
    const to = {
      ArrowLeft: stop - 1, ArrowRight: stop + 1, Home: 0, End: handles.length - 1,
    }[event.key];
    if (up === undefined && to === undefined) return;
    event.preventDefault();
    if (up !== undefined) move(stop, endOf(stop) + up * little);
    else handles[within(0, handles.length - 1, to)].focus();
  });
  figure.addEventListener("keydown", (event) => {
    // a notebook would move to another cell
    if (/^(Arrow|Home|End|Page)/.test(event.key)) event.stopPropagation();
  });

  // ---- controls; another curve or other cells start from their own least squares
  controls.target.addEventListener("change", () =>
    choose({ target: controls.target.value, lines: [] }));
  for (const [name, group] of Object.entries(controls.radios)) {
    const also = name === "cells" ? { lines: [] } : {};
    group.forEach((radio) => radio.addEventListener("change", () => {
      const value = ["cells", "levels"].includes(name) ? Number(radio.value) : radio.value;
      choose({ [name]: value, ...also });
    }));
  }
  controls.again.addEventListener("click", () => choose({ lines: [] }));
  controls.reset.addEventListener("click", () => choose(model.get("start")));
  slider.addEventListener("input", () => choose({ x: inputAt(Number(slider.value) / steps) }));

  const watcher = new ResizeObserver(() => {
    const wide = plot.picture.getBoundingClientRect().width;
    if (!wide || wide === width) return;
    width = wide;
    update();
  });
  const follow = () => busy || update();
  const watched = ["target", "cells", "kind", "scale", "levels", "x", "lines"]
    .map((name) => `change:${name}`);
  watched.forEach((event) => model.on(event, follow));
  update();
  watcher.observe(plot.picture);
  return () => {
    clearTimeout(pause);
    watcher.disconnect();
    watched.forEach((event) => model.off(event, follow));
  };
}

export default { render };
