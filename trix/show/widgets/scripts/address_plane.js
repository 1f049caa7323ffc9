// AddressPlane: tokens in a plane, read by the tile whose signature they score highest with.

const SIZE = 400; // side of the drawing, in its own units
const REACH = 178; // from the origin to the outermost coordinate, in the same units
const DISC = 11; // radius of the disc at an arrow's tip
const GRASP = 22; // radius within which a finger catches it
const RASTER = 80; // cells along a side when soft routing is painted
const TINT = 0.26; // how strongly tiles colour the plane
const NOTHING = "Drag an arrow, or give it the focus and use the arrow keys.";
const ROUTING = {
  hard: "Hard: the tile with the highest score reads the whole token.",
  soft: "Soft: the tiles share each token, by the softmax of their scores.",
};
const TERNARY = {
  true: "Signatures now keep to \u22121, 0 and 1.",
  false: "Signatures may now point anywhere.",
};

// ---------------------------------------------------------------- routing

/** Softmax of scores / temperature. The highest is taken off first, so nothing overflows. */
function softmax(scores, temperature) {
  const top = Math.max(...scores);
  const powers = scores.map((score) => Math.exp((score - top) / temperature));
  const total = sum(powers);
  return powers.map((power) => power / total);
}

const scoresOf = ([x, y], signatures) => signatures.map(([sx, sy]) => x * sx + y * sy);

/** The share of one token that each tile reads: all or nothing when hard. */
function weightsOf(point, { signatures, soft, temperature }) {
  const scores = scoresOf(point, signatures);
  if (soft) return softmax(scores, temperature);
  const winner = argmax(scores);
  return scores.map((_, i) => (i === winner ? 1 : 0));
}

/** The corners of the part of a square in which tile i wins; fewer than three where it never does. */
function cellOf(i, signatures, half) {
  let corners = [[-half, -half], [half, -half], [half, half], [-half, half]];
  signatures.forEach((other, j) => {
    const [a, b] = [signatures[i][0] - other[0], signatures[i][1] - other[1]];
    if (j === i) return;
    if (a === 0 && b === 0) corners = j < i ? [] : corners; // equal ones: the first wins
    else corners = clip(corners, ([x, y]) => a * x + b * y);
  });
  return corners;
}

/** The part of a convex polygon where the linear function `side` is not negative. */
function clip(corners, side) {
  const kept = [];
  corners.forEach((here, n) => {
    const before = corners[(n + corners.length - 1) % corners.length];
    const [u, v] = [side(before), side(here)];
    if (u >= 0 !== v >= 0) {
      const t = u / (u - v);
      kept.push([before[0] + t * (here[0] - before[0]), before[1] + t * (here[1] - before[1])]);
    }
    if (v >= 0) kept.push(here);
  });
  return kept;
}

// ---------------------------------------------------------------- reading the model

function choicesOf(model) {
  return {
    signatures: model.get("signatures").map((pair) => pair.map(Math.fround)),
    soft: model.get("soft"),
    temperature: model.get("temperature"),
  };
}

/** The largest coordinate that the plane has room for. */
function extentOf(points, signatures) {
  return [...points, ...signatures].flat().reduce((most, one) => Math.max(most, Math.abs(one)), 1);
}

// ---------------------------------------------------------------- making elements

/** The outline of a mark of radius r: a circle, square, triangle or diamond. */
function outline(kind, r) {
  const path = {
    0: `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
    1: `M${-0.9 * r} ${-0.9 * r}h${1.8 * r}v${1.8 * r}h${-1.8 * r}Z`,
    2: `M0 ${-1.2 * r}L${1.15 * r} ${0.8 * r}H${-1.15 * r}Z`,
    3: `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0Z`,
  };
  return path[kind];
}

const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The palette's colours, mixed by weight. */
function blend(weights, colours) {
  const mix = [0, 1, 2].map((c) => sum(weights.map((w, i) => w * colours[i][c])));
  return `rgb(${mix.map(Math.round).join(" ")})`;
}

const signed = (value) => minus(value.toFixed(2));

// ---------------------------------------------------------------- the parts of the figure

/** The tiles' cells: exact polygons when hard, a painted raster when soft. */
function makeGround(tiles, colours, half) {
  const canvas = element("canvas", { width: RASTER, height: RASTER, "aria-hidden": "true" });
  const cells = tiles.map((_, i) =>
    shape("polygon", { fill: `rgb(${colours[i].join(" ")})`, "fill-opacity": TINT }),
  );
  const names = tiles.map((_, i) => shape("text", { class: "cell-name" }, `tile ${i}`));
  const brush = canvas.getContext("2d");

  function paint({ signatures, temperature }) {
    const image = brush.createImageData(RASTER, RASTER);
    for (let row = 0; row < RASTER; row++) {
      for (let column = 0; column < RASTER; column++) {
        const x = ((column + 0.5) / RASTER - 0.5) * 2 * half;
        const y = (0.5 - (row + 0.5) / RASTER) * 2 * half;
        const weights = softmax(scoresOf([x, y], signatures), temperature);
        const at = 4 * (row * RASTER + column);
        for (let c = 0; c < 3; c++) {
          image.data[at + c] = sum(weights.map((w, i) => w * colours[i][c]));
        }
        image.data[at + 3] = 255 * TINT;
      }
    }
    brush.putImageData(image, 0, 0);
  }

  function update(choices, place) {
    canvas.style.visibility = choices.soft ? "visible" : "hidden";
    if (choices.soft) paint(choices);
    cells.forEach((cell, i) => {
      const corners = choices.soft ? [] : cellOf(i, choices.signatures, half).map(place);
      cell.setAttribute("points", corners.map((corner) => corner.join(",")).join(" "));
      const at = nameSpot(corners);
      names[i].toggleAttribute("hidden", !at);
      if (at) furnish(names[i], { x: at[0], y: at[1] }, []);
    });
  }
  return { canvas, cells, names, update };
}

/** Where in a cell its name stands: near the edge of the plane, midway between the cell's sides. */
function nameSpot(corners) {
  const rim = corners.filter(([u, v]) => Math.max(Math.abs(u), Math.abs(v)) > SIZE / 2 - 1);
  if (rim.length < 2) return null;
  const [u, v] = rim.reduce(
    ([a, b], [c, d]) => [a + c / Math.hypot(c, d), b + d / Math.hypot(c, d)],
    [0, -1e-9], // the middle of the upper edge, for a cell that is the whole plane
  );
  const far = Math.max(Math.abs(u) / (SIZE / 2 - 26), Math.abs(v) / (SIZE / 2 - 14));
  return [u / far, v / far];
}

/** One mark a token, in the colour of what reads it. */
function makeMarks(points, labels, classes, colours, place) {
  const kinds = [...new Set(classes)];
  const radius = labels.length ? 8 : points.length > 400 ? 2.5 : 4;
  const marks = points.map((point, n) => {
    const [u, v] = place(point);
    const path = outline(classes.length ? kinds.indexOf(classes[n]) : 0, radius);
    return shape("g", { class: "token", transform: `translate(${u} ${v})` },
      shape("path", { d: path }), ...(labels.length ? [shape("text", {}, labels[n])] : []));
  });
  const group = shape("g", {
    class: labels.length ? "tokens lettered" : "tokens", "aria-hidden": "true",
  }, ...marks);

  function update(weights) {
    marks.forEach((mark, n) => {
      mark.style.setProperty("--tile", blend(weights[n], colours));
      mark.dataset.tile = argmax(weights[n]);
    });
  }
  return { group, kinds, update };
}

/** One arrow a tile. `listen` tells `hand` where pointers and keys want them. */
function makeArrows(tiles, palette, extent, place) {
  const arrows = tiles.map((_, i) => {
    return shape("g", {
      class: "arrow",
      role: "slider",
      tabindex: 0,
      "aria-label": `Signature of tile ${i}`,
      "aria-roledescription": "arrow in a plane",
      "aria-valuemin": -180,
      "aria-valuemax": 180,
      style: `--tile: ${palette[i]}`,
    },
      shape("line", { x1: 0, y1: 0 }),
      shape("path", { class: "head", d: "M0 0L-10 -5.5L-10 5.5Z" }),
      shape("g", { class: "tip" },
        shape("circle", { class: "grasp", r: GRASP }),
        shape("circle", { class: "halo", r: DISC + 4 }),
        shape("circle", { class: "disc", r: DISC }),
        shape("text", {}, String(i))),
    );
  });

  function update(signatures, usage) {
    arrows.forEach((arrow, i) => {
      const [x, y] = signatures[i];
      const [u, v] = place([x, y]);
      const [line, head, tip] = arrow.children;
      const length = Math.hypot(u, v);
      const turn = turnOf([u, v]);
      const [fu, fv] = length > 0 ? [u / length, v / length] : [0, 0];
      const stop = Math.max(0, length - DISC - 9);
      line.setAttribute("x2", fu * stop);
      line.setAttribute("y2", fv * stop);
      const at = length - DISC;
      head.setAttribute("transform", `translate(${fu * at} ${fv * at}) rotate(${turn})`);
      head.toggleAttribute("hidden", length < DISC + 12);
      tip.setAttribute("transform", `translate(${u} ${v})`);
      arrow.setAttribute(
        "aria-valuetext",
        `x ${signed(x)}, y ${signed(y)}, reads ${percent(usage[i])} of the tokens`,
      );
      arrow.setAttribute("aria-valuenow", Math.round(-turn) + 0);
    });
  }

  function listen(plane, hand) {
    arrows.forEach((arrow, i) => {
      const tip = arrow.lastElementChild;
      let hold = null; // from the pointer to the signature, so that the arrow does not jump
      const under = (event) => {
        const box = plane.getBoundingClientRect();
        const unit = (extent * SIZE) / (REACH * box.width);
        return [
          (event.clientX - box.left - box.width / 2) * unit,
          (box.top + box.height / 2 - event.clientY) * unit,
        ];
      };
      tip.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        event.preventDefault();
        arrow.focus({ preventScroll: true });
        tip.setPointerCapture(event.pointerId);
        const [x, y] = under(event);
        const from = hand.where(i);
        hold = [from[0] - x, from[1] - y];
      });
      tip.addEventListener("pointermove", (event) => {
        if (!hold) return;
        const [x, y] = under(event);
        hand.drag(i, [x + hold[0], y + hold[1]]);
      });
      const letGo = () => {
        if (hold) hand.letGo();
        hold = null;
      };
      tip.addEventListener("pointerup", letGo);
      tip.addEventListener("pointercancel", letGo);
      arrow.addEventListener("keydown", (event) => {
        const way = keyWay(event, {
          ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
        });
        if (!way) return;
        event.preventDefault();
        hand.nudge(i, way.map((w) => w * (event.shiftKey ? 5 : 1)));
        hand.letGo();
      });
    });
  }
  return { arrows, update, listen };
}

/** The share of the tokens that each tile reads, with a tick at the even share. */
function makeBars(tiles, palette) {
  const rows = tiles.map((_, i) =>
    element("div", { class: "tile-row", role: "listitem", style: `--tile: ${palette[i]}` },
      element("span", { class: "number" }, `tile ${i}`),
      element("span", { class: "kit-track", style: `--even: ${100 / tiles.length}%` },
        element("span", { class: "kit-fill" })),
      element("span", { class: "share" })),
  );
  const list = element("div", { class: "bars", role: "list", "aria-label": "Share of the tokens" },
    ...rows);

  function update(usage) {
    rows.forEach((row, i) => {
      row.dataset.share = usage[i];
      row.querySelector(".kit-fill").style.width = `${100 * usage[i]}%`;
      row.lastElementChild.textContent = percent(usage[i]);
    });
  }
  return { list, update };
}

/** Hard or soft, the temperature, ternary or not, and the way back. */
function makeControls(hand) {
  const routing = makeChoice("Routing", ["hard", "soft"], hand.route);
  const heat = element("input", { type: "range", min: -1.3, max: 1, step: 0.05 });
  heat.addEventListener("input", () => hand.warm(Number((10 ** heat.value).toPrecision(2))));
  const degree = element("strong", { class: "degree" }); // no <output>: the label would be its
  const ternary = element("input", { type: "checkbox" });
  ternary.addEventListener("change", () => hand.cut(ternary.checked));
  const box = element("div", { class: "kit-controls controls" },
    routing.box, makeField("Temperature", heat, degree, "heat"),
    element("label", { class: "tick" }, ternary, element("span", {}, "ternary signatures")),
    makeButton("Reset", hand.reset));

  function update({ soft, temperature }, isTernary) {
    routing.update(soft ? "soft" : "hard");
    heat.disabled = !soft;
    heat.value = Math.log10(temperature);
    heat.setAttribute("aria-valuetext", temperature.toPrecision(2));
    degree.textContent = temperature.toPrecision(2);
    ternary.checked = isTernary;
  }
  return { box, update };
}

// ---------------------------------------------------------------- the figure

function render(view) {
  const { model } = view;
  const points = pairsIn(model.get("points"));
  const palette = model.get("palette");
  const colours = palette.map(rgbOf);
  const tiles = model.get("signatures");
  const extent = extentOf(points, model.get("start").signatures);
  const unit = REACH / extent;
  const half = SIZE / 2 / unit;
  const place = ([x, y]) => [x * unit, -y * unit];

  const ground = makeGround(tiles, colours, half);
  const marks = makeMarks(points, model.get("labels"), model.get("classes"), colours, place);
  const arrows = makeArrows(tiles, palette, extent, place);
  const bars = makeBars(tiles, palette);
  const controls = makeControls({
    route: (way) => choose({ soft: way === "soft" }, ROUTING[way]),
    warm: (temperature) => choose({ temperature }, `Temperature ${temperature.toPrecision(2)}.`),
    cut(ternary) {
      const { signatures } = choicesOf(model);
      choose({ ternary, signatures: ternary ? signatures.map(ternarize) : signatures }, TERNARY[ternary]);
    },
    reset: () => choose(model.get("start"), "Back at the start."),
  });
  const status = element("p", { class: "status", "aria-live": "polite" }, NOTHING);

  const axes = shape("path", { class: "axes", d: `M${-SIZE / 2} 0H${SIZE / 2}M0 ${-SIZE / 2}V${SIZE / 2}` });
  const drawing = shape("svg", {
    viewBox: `${-SIZE / 2} ${-SIZE / 2} ${SIZE} ${SIZE}`,
  }, ...ground.cells, axes, ...ground.names, marks.group, ...arrows.arrows);
  const plane = element("div", { class: "plane" }, ground.canvas, drawing);
  const legend = marks.kinds.map((name, kind) =>
    makeKey(name, "-7 -7 14 14", shape("path", { d: outline(kind, 4.5) })));
  const figure = makeFigure(view, { kind: "trix-address-plane", status },
    element("div", { class: "side" }, plane, element("div", { class: "kit-legend legend" }, ...legend)),
    element("div", { class: "panel" },
      element("div", { class: "heading" }, "Share of the tokens"),
      bars.list, controls.box, status));
  let usage = [];
  function update() {
    const choices = choicesOf(model);
    const weights = points.map((point) => weightsOf(point, choices));
    usage = tiles.map((_, i) => sum(weights.map((w) => w[i])) / points.length);
    ground.update(choices, place);
    marks.update(weights);
    arrows.update(choices.signatures, usage);
    bars.update(usage);
    controls.update(choices, model.get("ternary"));
  }

  function point(i, to) {
    model.set("signatures", choicesOf(model).signatures.map((s, j) => (j === i ? to : s)));
    figure.say(() => `Tile ${i} now reads ${percent(usage[i])} of the tokens.`);
  }

  const limited = (limit) => (value) => Math.fround(within(-limit, limit, value));
  arrows.listen(drawing, {
    where: (i) => choicesOf(model).signatures[i],
    drag(i, to) {
      const there = to.map(limited(extent));
      point(i, model.get("ternary") ? ternarize(there) : there);
    },
    nudge(i, way) {
      const [stride, limit] = model.get("ternary") ? [1, 1] : [extent / 50, extent];
      point(i, this.where(i).map((value, axis) => limited(limit)(value + way[axis] * stride)));
    },
    letGo: () => model.save_changes(),
  });

  function choose(changes, text) {
    figure.choose(changes);
    figure.say(() => text);
  }

  return figure.start(["signatures", "soft", "temperature", "ternary"], update);
}

export default { render };
