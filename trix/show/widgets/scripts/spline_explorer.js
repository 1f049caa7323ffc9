// SplineExplorer: a curve, and a spline of straight cells to lay over it by hand.

const HEAD = 20; // above the plot: the numbers of the cells, in CSS pixels
const HEIGHT = 260; // of the plot
const FOOT = 20; // below the plot: the numbers of the inputs
const RIGHT = 16;
const GRASP = 16; // how near a pointer takes a handle
const DISC = 7; // largest radius of a handle
const KEYS = 60; // steps of an arrow key from the bottom to the top

// ---------------------------------------------------------------- the plot

/** A picture with axes, cells and handles. What is drawn on it stands in its parts. */
function makePlot() {
  const id = unique();
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

function makeControls(names, choices, hand) {
  const nameOf = (value) => KINDS[value] ?? String(value);
  const groups = Object.fromEntries([
    ["cells", "Cells"], ["kind", "Kind"], ["scale", "One scale for"], ["levels", "Levels"],
  ].map(([name, title]) =>
    [name, makeChoice(title, choices[name], (value) => hand.pick(name, value), nameOf)]));
  const target = element("select", {}, ...names.map((name) => element("option", { value: name }, name)));
  target.addEventListener("change", () => hand.pick("target", target.value));
  const faces = {
    float: element("div", { class: "kit-field" }, element("span", {}, "Stored a cell"),
      element("span", { class: "trix-sp-plain" }, "two floats")),
    ternary: groups.scale.box,
    table: groups.levels.box,
  };
  const bar = element("div", { class: "kit-controls" },
    makeField("Target", target, "", "trix-sp-pick"), groups.cells.box, groups.kind.box,
    element("div", { class: "trix-sp-slot" }, ...Object.values(faces)),
    element("div", { class: "trix-sp-buttons" },
      makeButton("Fit", hand.fit), makeButton("Reset", hand.reset)));

  function update(now) {
    target.value = now.target;
    for (const [name, group] of Object.entries(groups)) group.update(now[name]);
    for (const [kind, face] of Object.entries(faces)) {
      face.classList.toggle("trix-sp-away", now.kind !== kind);
    }
  }
  return { bar, update };
}

/** What the lines stand for. */
function makeLegend() {
  const sample = (name, kind) => {
    const key = makeKey(name, "0 0 30 18", shape("path", { class: `trix-sp-${kind}`, d: "M1 9H29" }));
    key.classList.add(`trix-sp-key-${kind}`);
    return key;
  };
  return element("div", { class: "kit-legend" }, sample("target", "target"),
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

function render(view) {
  const { model } = view;
  const [names, curves] = [model.get("names"), model.get("curves")];
  const [bounds, steps, colours] = [model.get("bounds"), model.get("steps"), model.get("colours")];
  const span = bounds[1] - bounds[0];
  const inputAt = (share) => bounds[0] + span * share;
  const extents = curves.map((values) => extentOf(values, model.get("choices")));
  const sayInput = writer(bounds);

  const controls = makeControls(names, model.get("choices"), {
    // another curve or other cells start from their own least squares
    pick: (name, value) =>
      choose({ [name]: value, ...(["target", "cells"].includes(name) ? { lines: [] } : {}) }),
    fit: () => choose({ lines: [] }),
    reset: () => choose(model.get("start")),
  });
  const plot = makePlot();
  const facts = makeFacts(["Size", "Mean squared error", "Largest error", "Lines"]);
  const way = makeFacts(["Address", "Stored", "Read", "Target"]);
  const where = element("strong");
  const id = unique();
  const slider = element("input", { type: "range", min: 0, max: steps, step: 1, id });
  const figure = makeFigure(view, {
    kind: "trix-sp", style: `--read: ${colours.read}; --here: ${colours.here}`,
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
        way.list)));
  const { root } = figure;

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
    root.style.setProperty("--left", `${left}px`);
    root.style.setProperty("--right", `${RIGHT}px`);
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
    root.classList.toggle("trix-sp-direct", choices.kind === "float");
    root.dataset.numbers = JSON.stringify(numbers);
    return `${numbers.bits} bits. Mean squared error ${written(numbers.squares)}, largest error `
      + `${written(numbers.worst)}. At x = ${input}: ${told.address}; ${told.there}; `
      + `read ${told.read}.`;
  }

  // One change of the model is one drawing, however many traits it touches.
  let busy = false;
  function choose(changes) {
    busy = true;
    figure.choose(changes);
    busy = false;
    const sentence = update();
    figure.say(() => sentence);
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
  root.addEventListener("focusin", (event) => {
    const handle = event.target.closest("[data-handle]");
    if (!handle) return;
    stop = Number(handle.dataset.handle);
    handles.forEach((handle, i) => handle.setAttribute("tabindex", i === stop ? 0 : -1));
  });
  plot.parts.handles.addEventListener("keydown", (event) => {
    const [low, high] = extents[curveOf(now())];
    const little = ((high - low) / KEYS) * (event.shiftKey ? 5 : 1);
    const up = keyWay(event, { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 });
    const to = keyWay(event, {
      ArrowLeft: stop - 1, ArrowRight: stop + 1, Home: 0, End: handles.length - 1,
    });
    if (up === undefined && to === undefined) return;
    event.preventDefault();
    if (up !== undefined) move(stop, endOf(stop) + up * little);
    else handles[within(0, handles.length - 1, to)].focus();
  });

  slider.addEventListener("input", () => choose({ x: inputAt(Number(slider.value) / steps) }));

  figure.measureWidth(plot.picture, (wide) => {
    width = wide;
    update();
  });
  return figure.start([...Object.keys(now()), "x", "lines"], () => busy || update());
}

export default { render };
