// Funnel: a token on its way through a compression funnel, with and without tiles.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+";
const REACH = (LETTERS.length - 1) / 2; // the tallest bar, in letters
const NARROW = 620; // a narrower figure stands its stages on top of each other, in CSS pixels
const SIDE = 224; // of the grid, in the picture's own units, as the two that follow
const LEFT = 20; // room for the number of the row
const TOP = 18; // room for the number of the column
const FOLLOWERS = 4; // how many next characters are listed

// ---------------------------------------------------------------- reading the model

/** The nearest of the levels spread from -1 to 1, halfway the even one: `Quantizer.codes` in float32. */
function nearestLevel(number, levels) {
  const at = Math.fround(Math.fround(number + 1) * ((levels - 1) / 2));
  const rest = at - Math.floor(at);
  return Math.floor(at) + (rest > 0.5 || (rest === 0.5 && Math.floor(at) % 2) ? 1 : 0);
}

/** Heights of bars from -1 to 1, a letter each: those of one token. */
const heightsIn = (letters, dim, token) =>
  Array.from(letters.slice(token * dim, (token + 1) * dim), (one) => LETTERS.indexOf(one) / REACH - 1);

/** What follows these tokens, most frequent first; of equal ones the earlier in the text. */
function followersOf(tokens, text) {
  const counts = new Map();
  for (const token of tokens) counts.set(text[token + 1], (counts.get(text[token + 1]) ?? 0) + 1);
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([character, count]) => ({ character, share: count / tokens.length }));
}

/** Look-ups into the traits. */
function readModel(model) {
  const text = Array.from(model.get("text"));
  const tile = model.get("tile");
  const tokens = indices(tile.length);
  const levels = model.get("levels");
  const dim = model.get("inputs").length / tile.length;

  function readView(name) {
    const { points: bytes, outputs, exact, moved } = model.get("views")[name];
    const points = tokens.map((i) => [bytes.getFloat32(8 * i, true), bytes.getFloat32(8 * i + 4, true)]);
    const cells = points.map((point) => point.map((number) => nearestLevel(number, levels)));
    const entries = cells.map(([row, column]) => row * levels + column);
    const together = (i, j) => name === "off" || tile[i] === tile[j];
    return {
      points,
      cells,
      entries,
      /** The tokens on this token's plane, and of these the ones that read its very entry. */
      plane: (i) => tokens.filter((j) => together(i, j)),
      sharers: (i) => tokens.filter((j) => together(i, j) && entries[i] === entries[j]),
      output: (i) => heightsIn(outputs, dim, i),
      exact: (i) => heightsIn(exact, dim, i),
      moved: (i) => moved[i] ?? null,
    };
  }

  return {
    text,
    tile,
    tokens,
    levels,
    dim,
    input: (i) => heightsIn(model.get("inputs"), dim, i),
    best: model.get("best"),
    measure: model.get("measure"),
    largest: model.get("largest"),
    views: { on: readView("on"), off: readView("off") },
  };
}

// ---------------------------------------------------------------- in words

/** What became of a token, as pieces of which the strong ones are marked. */
function verdict(data, view, at, tilesOn) {
  const { text, levels, tile, tokens } = data;
  const [row, column] = view.cells[at];
  const sharers = view.sharers(at);
  const [first] = followersOf(sharers, text);
  const others = sharers.length - 1;
  const follows = others
    ? `${named(first.character)} follows ${percent(first.share)} of these ${sharers.length}.`
    : `${named(first.character)} follows it.`;
  return [
    { strong: named(text[at]) }, ` at place ${at + 1} of ${tokens.length}: `,
    tilesOn ? `tile ${tile[at]}` : "no tiles",
    `, cell (${row}, ${column}) of ${levels}\u00d7${levels} = `,
    { strong: `entry ${view.entries[at]}` },
    `, shared with ${others ? many(others, "other token") : "no other token"}; ${follows}`,
  ];
}

// ---------------------------------------------------------------- making elements

const short = (number) => Number(number.toFixed(2));

// ---------------------------------------------------------------- choosing

/** The text: a click chooses; the tokens of the same plane and of the same cell are marked. */
function makePassage({ text, tokens }) {
  const spans = text.map((character, at) =>
    element("span", tokens[at] === at ? { "data-at": at } : { class: "trix-fn-last" },
      character === " " ? " " : glyph(character)));
  const box = element("p", { class: "trix-fn-passage", role: "img", "aria-label": text.join("") });
  spell(box, text, spans);
  function update(view, at) {
    const [plane, sharers] = [new Set(view.plane(at)), new Set(view.sharers(at))];
    tokens.forEach((token) => {
      spans[token].classList.toggle("trix-fn-here", token === at);
      spans[token].classList.toggle("trix-fn-same", sharers.has(token));
      spans[token].classList.toggle("trix-fn-away", !plane.has(token));
    });
  }
  return { box, update };
}

function makeControls({ text, tokens }, hand) {
  const last = tokens.length - 1;
  const slider = element("input", { type: "range", min: 0, max: last, step: 1 });
  slider.addEventListener("input", () => hand.go(Number(slider.value)));
  const step = (sign, way, name) => makeButton(sign,
    () => hand.go(within(0, last, Number(slider.value) + way)),
    { class: "trix-fn-step", "aria-label": name });
  const steps = [step("\u2039", -1, "Previous token"), step("\u203a", 1, "Next token")];
  const value = element("strong");
  const pick = makeField("Token", slider, value, "trix-fn-pick");
  pick.append(element("div", { class: "trix-fn-steps" }, steps[0], slider, steps[1]));
  const tiles = makeChoice("Tiles", ["on", "off"], (name) => hand.switch(name === "on"));
  const bar = element("div", { class: "kit-controls" }, pick, tiles.box);
  function update(at, tilesOn) {
    slider.value = at;
    slider.setAttribute("aria-valuetext", `${named(text[at])}, place ${at + 1} of ${tokens.length}`);
    value.textContent = glyph(text[at]);
    tiles.update(tilesOn ? "on" : "off");
    // not `disabled`: that would take the focus away from whoever steps to an end by keys
    steps[0].setAttribute("aria-disabled", at === 0);
    steps[1].setAttribute("aria-disabled", at === tokens.length - 1);
  }
  return { bar, update };
}

// ---------------------------------------------------------------- the five stages

function makeStage(number, name, ...parts) {
  return element("section", { class: `trix-fn-stage trix-fn-${name.toLowerCase()}` },
    element("p", { class: "trix-fn-heading" }, element("strong", {}, `${number}`), ` ${name}`), ...parts);
}

const makeCaption = () => element("p", { class: "trix-fn-caption" });

/** Numbers as bars: down the strip, or along it where the figure is narrow. */
function makeStrip() {
  const bars = ["above", "below"].map((side) => shape("path", { class: `trix-fn-${side}` }));
  const axis = shape("path", { class: "trix-fn-axis" });
  const outline = shape("path", { class: "trix-fn-outline" });
  const picture = shape("svg", {
    class: "trix-fn-strip", preserveAspectRatio: "none", "aria-hidden": "true",
  }, ...bars, axis, outline);

  function draw(heights, exact, narrow) {
    const count = heights.length;
    picture.setAttribute("viewBox", narrow ? `0 -1.02 ${count} 2.04` : `-1.02 0 2.04 ${count}`);
    const point = (height, along) =>
      (narrow ? [along, -height] : [height, along]).map((number) => short(number)).join(" ");
    const bar = (height, i) =>
      `M${[[0, i + 0.1], [height, i + 0.1], [height, i + 0.9], [0, i + 0.9]].map((p) => point(...p)).join("L")}Z`;
    const path = (wanted) => heights.map((height, i) => (wanted(height) ? bar(height, i) : "")).join("");
    bars[0].setAttribute("d", path((height) => height > 0));
    bars[1].setAttribute("d", path((height) => height < 0));
    axis.setAttribute("d", `M${point(0, 0)}L${point(0, count)}`);
    const steps = exact.flatMap((height, i) => [point(height, i), point(height, i + 1)]);
    outline.setAttribute("d", steps.length ? `M${steps.join("L")}` : "");
  }
  return { picture, draw };
}

/** A list of names with a bar and a number each; `rows` of them at most. */
function makeBars(rows, label) {
  const lines = indices(rows).map(() =>
    element("div", { class: "trix-fn-row", role: "listitem" },
      element("span", { class: "trix-fn-name" }),
      element("span", { class: "kit-track" }, element("span", { class: "kit-fill" })),
      element("span", { class: "trix-fn-value" })));
  const box = element("div", { class: "trix-fn-rows", role: "list", "aria-label": label }, ...lines);
  function update(shown) {
    lines.forEach((line, i) => {
      const one = shown[i];
      line.classList.toggle("trix-fn-unused", !one);
      line.classList.toggle("trix-fn-chosen", Boolean(one?.chosen));
      const [name, track, value] = line.children;
      name.textContent = one?.name ?? "";
      value.textContent = one?.value ?? "";
      track.firstElementChild.style.width = `${100 * Math.abs(one?.length ?? 0)}%`;
      track.firstElementChild.classList.toggle("trix-fn-negative", (one?.length ?? 0) < 0);
    });
  }
  return { box, update };
}

/** The plane: its grid, the tokens that it has a point of, and one of them with its cell. */
function makePlane({ levels, text }) {
  const size = SIDE / levels;
  const across = (number) => LEFT + (((number + 1) / 2) * (levels - 1) + 0.5) * size;
  const down = (number) => across(number) - LEFT + TOP;
  const lines = indices(levels + 1).map((i) =>
    `M${LEFT} ${short(TOP + i * size)}h${SIDE}M${short(LEFT + i * size)} ${TOP}v${SIDE}`);
  const inside = shape("g");
  const picture = shape("svg", {
    class: "trix-fn-picture", viewBox: `0 0 ${LEFT + SIDE + 2} ${TOP + SIDE + 2}`, "aria-hidden": "true",
  }, shape("path", { class: "trix-fn-grid", d: lines.join("") }), inside);

  const rect = (kind, x, y, width, height) =>
    shape("rect", { class: kind, x: short(x), y: short(y), width: short(width), height: short(height) });

  function draw(view, at) {
    const [row, column] = view.cells[at];
    const [x, y] = [LEFT + column * size, TOP + row * size];
    const sharers = new Set(view.sharers(at));
    const dot = (i, kind, r) => shape("circle", {
      class: kind, "data-at": i, "data-cell": view.cells[i].join(),
      cx: short(across(view.points[i][1])), cy: short(down(view.points[i][0])), r,
    }, shape("title", {}, `${named(text[i])} at place ${i + 1}`));
    const others = view.plane(at).filter((i) => i !== at);
    inside.replaceChildren(
      rect("trix-fn-band", LEFT, y, x - LEFT, size),
      rect("trix-fn-band", x, TOP, size, y - TOP),
      rect("trix-fn-cell", x, y, size, size),
      ...others.filter((i) => !sharers.has(i)).map((i) => dot(i, "trix-fn-dot", 2.25)),
      ...others.filter((i) => sharers.has(i)).map((i) => dot(i, "trix-fn-dot trix-fn-sharer", 2.75)),
      dot(at, "trix-fn-point", 5),
      shape("text", {
        x: LEFT - 5, y: short(y + size / 2), "text-anchor": "end", "dominant-baseline": "central",
      }, String(row)),
      shape("text", { x: short(x + size / 2), y: TOP - 6, "text-anchor": "middle" }, String(column)),
    );
  }
  return { picture, draw };
}

function makeStages(data) {
  const { text, tile, tokens, levels, dim, best, measure, largest } = data;
  const [taken, given, plane] = [makeStrip(), makeStrip(), makePlane(data)];
  const tiles = makeBars(Math.max(...best.map((rows) => rows.length)), "Tiles and their numbers");
  const next = makeBars(FOLLOWERS, "Next characters and their shares");
  const captions = indices(5).map(makeCaption);
  const [sum, rest] = [makeCaption(), makeCaption()];
  const counted = element("p", { class: "trix-fn-caption trix-fn-counted" },
    measure === "score" ? "Best scores:" : "Tokens a tile reads:");
  const box = element("div", { class: "trix-fn-stages" },
    makeStage(1, "Token", taken.picture, captions[0]),
    makeStage(2, "Tile", captions[1], counted, tiles.box),
    makeStage(3, "Plane", plane.picture, captions[2]),
    makeStage(4, "Entry", sum, captions[3], next.box, rest),
    makeStage(5, "Output", given.picture, captions[4]));

  function update(view, at, tilesOn, narrow) {
    const [row, column] = view.cells[at];
    const mates = view.plane(at).length;
    const all = `${tokens.length} tokens`;

    taken.draw(data.input(at), [], narrow);
    captions[0].textContent = `${many(dim, "number")}, on a scale of \u00b1${largest.in[at]}.`;

    const top = Math.max(...best[at].map(([, number]) => Math.abs(number))) || 1;
    counted.classList.toggle("trix-fn-unused", !tilesOn);
    tiles.update(tilesOn ? best[at].map(([name, number]) => ({
      name: String(name), length: number / top, value: minus(String(number)), chosen: name === tile[at],
    })) : []);
    captions[1].textContent = tilesOn
      ? `Tile ${tile[at]} reads ${mates} of ${all}. It has its own plane and its own table.`
      : `No tiles: all ${all} share one plane and one table.`;

    plane.draw(view, at);
    const point = view.points[at].map((number) => minus(number.toFixed(2))).join(", ");
    captions[2].textContent =
      `Two numbers, (${point}), are rounded to row ${row} and column ${column}. Dots: the other ` +
      `tokens ${tilesOn ? `of tile ${tile[at]}` : "of the text"}.`;

    const sharers = view.sharers(at);
    const followers = followersOf(sharers, text);
    sum.replaceChildren(`${row} \u00d7 ${levels} + ${column} = `,
      element("strong", {}, `entry ${view.entries[at]}`), ` of ${levels ** 2}.`);
    captions[3].textContent = `${many(sharers.length, "token")} ${sharers.length === 1 ? "reads" : "read"} it. What follows (framed: here):`;
    next.update(followers.slice(0, FOLLOWERS).map(({ character, share }) => ({
      name: glyph(character), length: share, value: percent(share), chosen: character === text[at + 1],
    })));
    const more = followers.length - FOLLOWERS;
    rest.textContent = more > 0 ? `and ${many(more, "other")}` : "";

    const moved = view.moved(at);
    given.draw(view.output(at), view.exact(at), narrow);
    captions[4].textContent =
      `${many(dim, "number")}, on a scale of \u00b1${largest.out[at]}.` +
      (moved === null ? "" : ` Outline: without rounding, ${percent(moved)} away.`);
  }
  return { box, update };
}

// ---------------------------------------------------------------- the figure

function render(view) {
  const { model } = view;
  const data = readModel(model);
  const colours = model.get("colours");
  const passage = makePassage(data);
  const controls = makeControls(data, {
    go: (position) => choose({ position }),
    switch: (on) => choose({ tiles_on: on }),
  });
  const stages = makeStages(data);
  const key = element("p", { class: "trix-fn-caption" },
    "Framed: the token. Filled: reads the same entry. Strong: on the same plane.");
  const outcome = element("p", { class: "kit-outcome trix-fn-verdict" });
  const figure = makeFigure(view, {
    kind: "trix-fn", style: `--above: ${colours.above}; --below: ${colours.below}`,
  }, controls.bar, passage.box, key, outcome, stages.box);

  let narrow = false;
  function update() {
    const [at, tilesOn] = [model.get("position"), model.get("tiles_on")];
    const shown = data.views[tilesOn ? "on" : "off"];
    controls.update(at, tilesOn);
    passage.update(shown, at);
    stages.update(shown, at, tilesOn, narrow);
    outcome.replaceChildren(...strongly(verdict(data, shown, at, tilesOn)));
  }

  function choose(changes) {
    figure.choose(changes);
    figure.say(() => outcome.textContent);
  }

  for (const box of [passage.box, stages.box]) {
    box.addEventListener("click", (event) => {
      const at = event.target.closest("[data-at]")?.dataset.at;
      if (at !== undefined) choose({ position: Number(at) });
    });
  }

  figure.measureWidth(figure.root, (width) => {
    narrow = width < NARROW;
    figure.root.classList.toggle("trix-fn-narrow", narrow);
    update();
  });
  return figure.start(["position", "tiles_on"], update);
}

export default { render };
