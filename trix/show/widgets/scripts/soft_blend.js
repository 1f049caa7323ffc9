// SoftBlend: a curve blended of straight lines, with the temperature and the choice to set.

const FINE = 481; // inputs that curves are drawn at; the loss has fewer
const STEPS = 300; // of the temperature's slider
const LEFT = 34; // room for the numbers on the axes, in CSS pixels
const RIGHT = 10;
const CURVES = 210; // height of the plot of curves
const BANDS = 128; // height of the plot of weights
const FOOT = 20; // below the weights: the numbers of the inputs
const DISC = 8; // radius of a tile's number
const DECADES = [-5, 0]; // ends of the scale of gradients, as powers of ten
const REACHED = 10 ** DECADES[0]; // a smaller gradient reaches nobody

// ---------------------------------------------------------------- the blend

const spread = ([low, high], count) =>
  indices(count).map((i) => low + ((high - low) * i) / (count - 1));
const heightsAt = (lines, x) => lines.map(([slope, height]) => slope * x + height);

/** The weights of all tiles, 0 where not chosen; of equal scores the lower tile is chosen. */
function weigh(scores, { temperature, top_k: k }) {
  const order = indices(scores.length).sort((p, q) => scores[q] - scores[p] || p - q);
  const chosen = order.slice(0, k);
  const weights = scores.map(() => 0);
  for (const tile of chosen) {
    weights[tile] = Math.exp((scores[tile] - scores[order[0]]) / temperature);
  }
  const total = sum(weights);
  return { weights: weights.map((weight) => weight / total), chosen: chosen.sort().join() };
}

/** What there is at one input: scores, answers, weights, the chosen tiles, and the output. */
function blendAt(x, { signatures, answers }, choices) {
  const scores = heightsAt(signatures, x);
  const heights = heightsAt(answers, x);
  const { weights, chosen } = weigh(scores, choices);
  const output = sum(heights.map((height, tile) => weights[tile] * height));
  return { x, scores, heights, weights, chosen, output };
}

const entropy = (shares) => -sum(shares.map((p) => (p > 0 ? p * Math.log(p) : 0)));

/** The loss over all inputs, its gradients, and how widely tiles are read. */
function measure(data, choices) {
  const { inputs, target } = data;
  const { temperature } = choices;
  const tiles = data.signatures.length;
  const signatures = indices(tiles).map(() => [0, 0]);
  const usage = Array(tiles).fill(0);
  let [loss, heat, reads] = [0, 0, 0];
  inputs.forEach((x, i) => {
    const { scores, heights, weights, output } = blendAt(x, data, choices);
    const error = output - target[i];
    loss += error ** 2 / 2 / inputs.length;
    reads += Math.exp(entropy(weights)) / inputs.length;
    for (let tile = 0; tile < tiles; tile++) {
      usage[tile] += weights[tile] / inputs.length;
      const pull = (weights[tile] * (heights[tile] - output) * error) / inputs.length;
      const onScore = pull / temperature;
      signatures[tile][0] += onScore * x;
      signatures[tile][1] += onScore;
      heat -= (onScore * scores[tile]) / temperature;
    }
  });
  const evenness = Math.max(0, entropy(usage)) / Math.log(tiles);
  return { loss, signatures, temperature: heat, reads, usage, evenness };
}

// ---------------------------------------------------------------- in words

/** A number of any size in a few letters; only 0 itself is "0". */
function written(number) {
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 0.001 && size < 100) return minus(number.toPrecision(2));
  if (size >= 100 && size < 100000) return minus(number.toFixed(0));
  return scientific(number);
}

const degrees = (temperature) => String(Number(temperature.toPrecision(3)));

/** The outcome in a few sentences, as pieces of which the strong ones are marked. */
function verdict(numbers, choices, sizes) {
  const tiles = sizes.length;
  const reached = sizes.filter((size) => size >= REACHED).length;
  const mean = numbers.reads.toFixed(1);
  const why = choices.top_k === 1 ? ": a single tile has the weight 1, whatever its score" : "";
  return [
    "Loss ", { strong: written(numbers.loss) },
    ". Temperature ", { strong: degrees(choices.temperature) },
    `: each input reads ${mean} ${mean === "1.0" ? "tile" : "tiles"} on average (exp of the `,
    `entropy); usage entropy ${numbers.evenness.toFixed(2)}. Gradient reaches `,
    { strong: `${reached} of ${tiles}` }, ` tiles${why}.`,
  ];
}

// ---------------------------------------------------------------- making elements

/** A tile's number in a ring of its colour. */
function disc(x, y, tile, colour) {
  return shape("g", { "data-tile": tile, style: `--tile: ${colour}` },
    shape("circle", { class: "trix-sb-disc", cx: x.toFixed(1), cy: y.toFixed(1), r: DISC }),
    shape("text", {
      class: "trix-sb-number", x: x.toFixed(1), y: y.toFixed(1),
      "text-anchor": "middle", "dominant-baseline": "central",
    }, String(tile)));
}

// ---------------------------------------------------------------- the two plots

/** The fine inputs in runs with the same chosen tiles; a run reaches halfway to its neighbour. */
function runsOf(fine) {
  const runs = [];
  fine.forEach((point, i) => {
    if (i && point.chosen === fine[i - 1].chosen) runs.at(-1).push(point);
    else {
      const middle = i ? (fine[i - 1].x + point.x) / 2 : point.x;
      if (i) runs.at(-1).push({ ...fine[i - 1], x: middle });
      runs.push([{ ...point, x: middle }, point]);
    }
  });
  return runs;
}

/** From the lowest to the highest of the target and of every output that can be chosen. */
function extentOf(data, [coldest, hottest]) {
  const heights = [...data.target];
  const warmth = spread([Math.log(coldest), Math.log(hottest)], 9).map(Math.exp);
  for (const temperature of warmth) {
    for (const tile of data.signatures.keys()) {
      const choices = { temperature, top_k: tile + 1 };
      heights.push(...data.inputs.map((x) => blendAt(x, data, choices).output));
    }
  }
  const [low, high] = [Math.min(...heights), Math.max(...heights)];
  const spare = 0.06 * (high - low) || 1;
  return [low - spare, high + spare];
}

/** A plot with axes; `draw` gets the ways from numbers to pixels and gives what stands in it. */
function makePlot(kind, height, foot, across, [low, high], marks) {
  const picture = shape("svg", {
    class: `trix-sb-picture trix-sb-${kind}`, height: height + foot, "aria-hidden": "true",
  });
  const id = unique();
  const window = shape("rect", { x: LEFT, y: 0, height });
  const frame = shape("g");
  const inside = shape("g", { "clip-path": `url(#${id})` });
  const above = shape("g");
  picture.append(shape("clipPath", { id }, window), frame, inside, above);

  const y = (value) => 6 + ((high - value) / (high - low)) * (height - 12);
  function wayAcross(width) {
    return (value) =>
      LEFT + ((value - across[0]) / (across[1] - across[0])) * (width - LEFT - RIGHT);
  }

  function setFrame(width) {
    const x = wayAcross(width);
    const [from, to] = [x(across[0]), x(across[1])];
    window.setAttribute("width", to - from);
    const inputs = ticks(...across, 6);
    const grid = [
      ...inputs.map(([at]) => [[x(at), y(low)], [x(at), y(high)]]),
      ...marks.map(([at]) => [[from, y(at)], [to, y(at)]]),
    ];
    frame.replaceChildren(
      shape("path", { class: "trix-sb-grid", d: grid.map(pathThrough).join("") }),
      ...marks.map(([at, name]) => words(LEFT - 6, y(at) + 4, name, "end")),
      ...(foot ? inputs.map(([at, name]) =>
        words(within(0, to - 2, x(at)), height + 14, name, "middle")) : []),
    );
  }
  return { picture, inside, above, y, wayAcross, setFrame };
}

/** Where on its answer each tile's number stands: as far from all else as may be. */
function placeNumbers(data, x, y, [low, high]) {
  const taken = [];
  const places = [];
  data.answers.forEach((line, tile) => {
    let best = [-1, null];
    data.inputs.slice(3, -3).forEach((input, i) => {
      const height = heightsAt([line], input)[0];
      const [px, py] = [x(input), y(height)];
      if (py < y(high) + DISC + 2 || py > y(low) - DISC - 2) return;
      const heights = [...heightsAt(data.answers, input), data.target[i + 3]];
      const lines = heights.filter((_, other) => other !== tile).map((h) => Math.abs(y(h) - py));
      const discs = taken.map(([qx, qy]) => Math.hypot(qx - px, qy - py));
      const free = Math.min(40, ...lines, ...discs.map((distance) => distance - DISC));
      if (free > best[0] + 0.01) best = [free, [px, py]];
    });
    if (best[1]) taken.push(best[1]);
    places.push(best[1]);
  });
  return places;
}

/**
 * Where in its band of one run a tile's number stands: amid the longest stretch with the most room
 * around it. Null where no number fits.
 */
function placeInBand(run, tile, x, y) {
  const rooms = run.map((point) => Math.min(
    2 * DISC, (y(0) - y(point.weights[tile])) / 2, x(point.x) - x(run[0].x),
    x(run.at(-1).x) - x(point.x)));
  const room = Math.max(...rooms);
  if (room < DISC + 0.5) return null;
  let [from, longest, middle] = [0, -1, 0];
  rooms.forEach((here, i) => {
    if (here < 0.97 * room) from = i + 1;
    else if (i - from > longest) [longest, middle] = [i - from, Math.floor((i + from) / 2)];
  });
  const { x: input, weights } = run[middle];
  return [x(input), y(sum(weights.slice(0, tile)) + weights[tile] / 2)];
}

// ---------------------------------------------------------------- the gradients

/** A bar for each tile and one for the temperature, on a scale of powers of ten. */
function makeBars(palette) {
  const rows = [...palette, null].map((colour, i) => {
    const name = element("span", { class: "trix-sb-name" });
    if (colour) {
      const mark = shape("svg", {
        class: "trix-sb-mark", viewBox: "-10 -10 20 20", "aria-hidden": "true",
      }, disc(0, 0, i, colour));
      name.append(mark, element("span", { class: "kit-hidden" }, `tile ${i}`));
    } else name.append("temperature");
    const fill = element("span", { class: "kit-fill" });
    const track = element("span", { class: "kit-track" }, fill);
    const value = element("span", { class: "trix-sb-value" });
    const row = element("div", { class: "trix-sb-row" }, name, track, value);
    if (colour) row.style.setProperty("--tile", colour);
    return { row, fill, value };
  });
  const [low, high] = DECADES;
  const place = (power) => within(0, 1, (power - low) / (high - low));
  const scale = element("span", { class: "trix-sb-scale" },
    ...indices(high - low + 1).map((i) =>
      element("span", { style: `left: ${100 * place(low + i)}%` },
        low + i === 0 ? "1" : `10${raised(low + i)}`)));
  const axis = element("div", { class: "trix-sb-row trix-sb-axis", "aria-hidden": "true" },
    element("span"), scale, element("span"));
  const list = element("div", { class: "trix-sb-bars" }, ...rows.map(({ row }) => row), axis);

  function update(values) {
    rows.forEach(({ fill, value }, i) => {
      const size = Math.abs(values[i]);
      fill.style.width = size > 0 ? `${100 * place(Math.log10(size))}%` : "0";
      value.textContent = written(values[i]);
    });
  }
  return { list, update };
}

// ---------------------------------------------------------------- controls and legend

/** The temperature, how many tiles an input reads, and the way back. */
function makeControls(tiles, [coldest, hottest], { choose, reset }) {
  const heat = element("input", { type: "range", min: 0, max: STEPS, step: 1 });
  const degree = element("strong");
  const reads = makeChoice("Tiles an input reads, k", indices(tiles).map((i) => i + 1),
    (k) => choose({ top_k: k }));
  const bar = element("div", { class: "kit-controls" },
    makeField("Temperature", heat, degree, "trix-sb-heat"), reads.box, makeButton("Reset", reset));
  heat.addEventListener("input", () => choose({ temperature: temperatureAt(Number(heat.value)) }));
  const ratio = Math.log(hottest / coldest);
  const temperatureAt = (step) =>
    within(coldest, hottest, Number((coldest * Math.exp((ratio * step) / STEPS)).toPrecision(3)));

  function update({ temperature, top_k: k }) {
    heat.value = Math.round((STEPS * Math.log(temperature / coldest)) / ratio);
    heat.setAttribute("aria-valuetext", degrees(temperature));
    degree.textContent = degrees(temperature);
    reads.update(k);
  }
  return { bar, update };
}

/** What the lines stand for. */
function makeLegend() {
  const sample = (name, kind, more = "") => makeKey(name, "0 0 30 18",
    shape("path", { class: `trix-sb-${kind}`, d: "M1 9H29" }),
    ...(more ? [disc(15, 9, more, "currentColor")] : []));
  return element("div", { class: "kit-legend" },
    sample("output", "output"), sample("target", "target"),
    sample("a tile\u2019s answer", "answer", "t"));
}

// ---------------------------------------------------------------- the figure

function render(view) {
  const { model } = view;
  const bounds = model.get("bounds");
  const palette = model.get("palette");
  const target = model.get("target");
  const data = {
    signatures: model.get("signatures"),
    answers: model.get("answers"),
    inputs: spread(bounds.x, target.length),
    target,
  };
  const extent = extentOf(data, bounds.temperature);

  const controls = makeControls(palette.length, bounds.temperature, {
    choose, reset: () => choose(model.get("start")),
  });
  const outcome = element("p", { class: "kit-outcome trix-sb-verdict" });
  const curves = makePlot("curves", CURVES, 0, bounds.x, extent, ticks(...extent, 5));
  const shares = [[0, "0"], [0.5, "0.5"], [1, "1"]];
  const bands = makePlot("bands", BANDS, FOOT, bounds.x, [0, 1], shares);
  const bars = makeBars(palette);
  const heading = (text, more) =>
    element("p", { class: "trix-sb-heading" }, element("strong", {}, text), `: ${more}`);
  const figure = makeFigure(view, { kind: "trix-sb" },
    controls.bar, outcome,
    heading("Output", "what the blend answers to an input x"), makeLegend(), curves.picture,
    heading("Usage", "the weight of each tile in the blend"), bands.picture,
    heading("Gradient of the loss", "its size on each tile\u2019s signature, and on the "
      + "temperature (with its sign). The scale is logarithmic; a tile with less than "
      + "10\u207b\u2075 counts as not reached."),
    bars.list);

  const targetLine = shape("path", { class: "trix-sb-target" });
  const outputLine = shape("path", { class: "trix-sb-output" });
  const answerLines = palette.map((colour) =>
    shape("path", { class: "trix-sb-answer", style: `--tile: ${colour}` }));
  curves.inside.append(...answerLines, outputLine, targetLine);
  const areas = palette.map((colour, tile) =>
    shape("path", { class: "trix-sb-area", "data-tile": tile, style: `--tile: ${colour}` }));
  bands.inside.append(...areas);

  let width = 700;
  const choicesNow = () => ({ temperature: model.get("temperature"), top_k: model.get("top_k") });

  /** What does not change with the reader's choices. */
  function drawGround() {
    const x = curves.wayAcross(width);
    curves.setFrame(width);
    bands.setFrame(width);
    answerLines.forEach((line, tile) => line.setAttribute("d", pathThrough(
      bounds.x.map((end) => [x(end), curves.y(heightsAt([data.answers[tile]], end)[0])]))));
    targetLine.setAttribute("d", pathThrough(
      data.inputs.map((input, i) => [x(input), curves.y(target[i])])));
    curves.above.replaceChildren(...placeNumbers(data, x, curves.y, extent).flatMap(
      (place, tile) => (place ? [disc(...place, tile, palette[tile])] : [])));
  }

  function draw() {
    const x = curves.wayAcross(width);
    const fine = spread(bounds.x, FINE).map((input) => blendAt(input, data, choicesNow()));
    const runs = runsOf(fine);
    outputLine.setAttribute("d", runs.map((run) =>
      pathThrough(run.map((point) => [x(point.x), curves.y(point.output)]))).join(""));
    areas.forEach((area, tile) => {
      const edge = (run, count) => run.map(({ x: input, weights }) =>
        [x(input), bands.y(sum(weights.slice(0, count)))]);
      area.setAttribute("d", runs
        .filter((run) => run.some((point) => point.weights[tile] > 0))
        .map((run) => `${pathThrough([...edge(run, tile + 1), ...edge(run, tile).reverse()])}Z`)
        .join(""));
    });
    bands.above.replaceChildren(...runs.flatMap((run) => palette.flatMap((colour, tile) => {
      const place = placeInBand(run, tile, x, bands.y);
      return place ? [disc(...place, tile, colour)] : [];
    })));
  }

  function update() {
    const choices = choicesNow();
    const numbers = measure(data, choices);
    const sizes = numbers.signatures.map(([a, b]) => Math.hypot(a, b));
    controls.update(choices);
    outcome.replaceChildren(...strongly(verdict(numbers, choices, sizes)));
    bars.update([...sizes, numbers.temperature]);
    figure.root.dataset.numbers = JSON.stringify(numbers);
    draw();
  }

  function choose(changes) {
    figure.choose(changes);
    figure.say(() => outcome.textContent);
  }

  drawGround();
  figure.measureWidth(curves.picture, (now) => {
    width = now;
    drawGround();
    draw();
  });
  return figure.start(["temperature", "top_k"], update);
}

export default { render };
