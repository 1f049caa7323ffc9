// RouteTree, second part: the drawing, and how far it is zoomed in.

const GAP = 36; // above each row of nodes: its caption, and the way down into it
const HEAD = 20; // of a cell, above its bar: what it is called
const FOOT = 46; // below the tiles: which one was chosen, and which is the best
const SHADES = 5; // of scores
const NARROW = 480; // a drawing narrower than this has shorter words
const WINDOW = 16; // tiles to be seen when one of them is zoomed in on

const box = (x0, y0, x1, y1) =>
  `M${x0.toFixed(2)} ${y0.toFixed(2)}H${x1.toFixed(2)}V${y1.toFixed(2)}H${x0.toFixed(2)}Z`;

const curve = (x0, y0, x1, y1) => {
  const middle = ((y0 + y1) / 2).toFixed(1);
  const [from, to] = [x0.toFixed(2), x1.toFixed(2)];
  return `M${from} ${y0.toFixed(1)}C${from} ${middle} ${to} ${middle} ${to} ${y1.toFixed(1)}`;
};

// ---------------------------------------------------------------- zooming

/** The tiles in view when a node is zoomed in on, `[lo, hi]`; of a tile, some beside it too. */
function domainOf(levels, at) {
  const last = levels.length - 1;
  if (!at) return [0, levels[last].count];
  const { depth, node } = at;
  const level = levels[depth];
  if (depth < last) return [level.lo[node], level.hi[node]];
  const above = last > 0 ? { depth: last - 1, node: level.parent[node] } : null;
  const [lo, hi] = domainOf(levels, above);
  if (hi - lo <= WINDOW) return [lo, hi];
  const from = within(lo, hi - WINDOW, level.lo[node] - WINDOW / 2);
  return [from, from + WINDOW];
}

/** On the way from one domain to another, t from 0 to 1: the width changes by a steady factor. */
function between([a0, b0], [a1, b1], t) {
  const [w0, w1] = [b0 - a0, b1 - a1];
  if (t >= 1) return [a1, b1];
  if (Math.abs(w1 - w0) < 1e-9) return [a0 + t * (a1 - a0), b0 + t * (b1 - b0)];
  const width = w0 * (w1 / w0) ** t;
  const share = (width - w0) / (w1 - w0);
  const from = a0 + share * (a1 - a0);
  return [from, from + width];
}

// ---------------------------------------------------------------- the drawing

/** Where every node stands, in pixels: children stand inside the extent of their parent. */
function placeNodes(levels, [lo, hi], width) {
  const places = [];
  levels.forEach((level, depth) => {
    const cap = Math.max(1, 4 - depth) / 2;
    const [x0, x1] = [new Float64Array(level.count), new Float64Array(level.count)];
    for (let node = 0; node < level.count; node++) {
      let [left, unit, start] = [0, width / (hi - lo), lo];
      if (depth > 0) {
        const [above, parent] = [levels[depth - 1], level.parent[node]];
        left = places[depth - 1].x0[parent];
        start = above.lo[parent];
        unit = (places[depth - 1].x1[parent] - left) / (above.hi[parent] - start);
      }
      const begin = left + (level.lo[node] - start) * unit;
      const end = left + (level.hi[node] - start) * unit;
      const inset = end - begin < 3 ? 0 : Math.min(cap, 0.08 * (end - begin));
      x0[node] = begin + inset;
      x1[node] = end - inset;
    }
    places.push({ x0, x1 });
  });
  return places;
}

/** The tree as rows of cells, the way down it, and the marks below it. */
function makeDrawing() {
  const path = (kind) => shape("path", { class: `rt-${kind}` });
  const faint = path("faint");
  const grounds = path("ground");
  const bars = Array.from({ length: SHADES }, (_, i) => {
    const opacity = 0.14 + (0.36 * i) / (SHADES - 1); // numbers stand on it: no stronger than half
    return shape("path", { class: "rt-bar", "fill-opacity": opacity.toFixed(2) });
  });
  const kinds = ["cap", "missed", "kept", "thread", "missed-way", "way"];
  const [caps, missed, frames, threads, missedWay, way] = kinds.map(path);
  const hover = path("hover");
  const [numbers, captions, foot] = [0, 1, 2].map(() => shape("g"));
  const paint = shape("g", { "aria-hidden": "true" },
    faint, grounds, ...bars, caps, missed, frames, hover, threads, missedWay, way,
    numbers, captions, foot);
  const text = (kind, x, y, content, anchor = "start") =>
    shape("text", {
      class: `rt-${kind}`, x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor,
    }, content);

  // of the last drawing, for finding what is under a pointer
  let rows = []; // [top, bottom] of each level
  let places = [];
  let size = [1, 1];
  let held = null;

  function rowsOf(count, height) {
    const cell = (height - FOOT) / count - GAP;
    return Array.from({ length: count }, (_, depth) => {
      const top = depth * (GAP + cell) + GAP;
      return [top, top + cell];
    });
  }

  /** The middle of what is to be seen of a node. */
  function middleOf(depth, node) {
    const [x0, x1] = [places[depth].x0[node], places[depth].x1[node]];
    if (x1 < 0 || x0 > size[0]) return (x0 + x1) / 2;
    return (Math.max(0, x0) + Math.min(size[0], x1)) / 2;
  }

  /** A node's corners, cut to the view and never too narrow to be seen. */
  function cornersOf(depth, node, least = 0) {
    let [x0, x1] = [places[depth].x0[node], places[depth].x1[node]];
    const spare = Math.max(0, least - (x1 - x0)) / 2;
    [x0, x1] = [Math.max(-9, x0 - spare), Math.min(size[0] + 9, x1 + spare)];
    return x1 < x0 ? null : [x0, rows[depth][0], x1, rows[depth][1]];
  }

  function drawLevel(levels, route, input, written, depth, out) {
    const level = levels[depth];
    const { rank } = route.state[depth];
    const [top, bottom] = rows[depth];
    const compared = route.compared[depth];
    const most = level.score(input, compared[0]);
    const least = level.score(input, compared.at(-1));
    for (let node = 0; node < level.count; node++) {
      const corners = cornersOf(depth, node);
      if (!corners || corners[2] < 0 || corners[0] > size[0]) continue;
      const [x0, , x1] = corners;
      const wide = x1 - x0;
      const middle = (Math.max(0, x0) + Math.min(size[0], x1)) / 2;
      if (rank.has(node)) {
        const score = level.score(input, node);
        const share = most > least ? (score - least) / (most - least) : 1;
        const y = bottom - (0.05 + 0.95 * share) * (bottom - top - HEAD);
        out.ground += box(x0, top, x1, bottom);
        out.bars[Math.min(SHADES - 1, Math.floor(share * SHADES))] += box(x0, y, x1, bottom);
        if (wide >= 2) out.caps += box(x0, y, x1, Math.min(bottom, y + 1.75));
      } else {
        out.faint += box(x0, top, x1, bottom);
      }
      const name = String(node);
      if (wide >= 9 + 7 * name.length) {
        const number = text("number", middle, top + 15, "", "middle");
        const kind = rank.has(node) ? "rt-name" : "rt-quiet";
        number.append(shape("tspan", { class: kind }, name));
        if (rank.has(node) && wide >= 74) {
          number.append(`\u2002${written(level.score(input, node))}`);
        }
        out.numbers.push(number);
      }
    }
  }

  function drawWays(levels, route) {
    const step = (node, depth) => {
      const [x, y] = depth === 0
        ? [size[0] / 2, 0]
        : [middleOf(depth - 1, levels[depth].parent[node]), rows[depth - 1][1]];
      return curve(x, y, middleOf(depth, node), rows[depth][0]);
    };
    const trace = (line) => line.map(step).join("");
    threads.setAttribute("d", route.kept.flatMap((nodes, depth) =>
      nodes.map((node) => step(node, depth))).join(""));
    way.setAttribute("d", trace(route.way));
    missedWay.setAttribute("d", route.isFound ? "" : trace(route.wayToBest));
    const frame = (depth, node) => {
      const corners = cornersOf(depth, node, 4);
      return corners ? box(...corners) : "";
    };
    frames.setAttribute("d", route.kept.flatMap((nodes, depth) =>
      nodes.map((node) => frame(depth, node))).join(""));
    missed.setAttribute("d", route.isFound ? "" : route.wayToBest.map((node, depth) =>
      depth < route.lost ? "" : frame(depth, node)).join(""));
  }

  /** Whether a caption of this length is less crossed on the right than on the left. */
  function isInTheWay(levels, route, depth, length) {
    const crossed = [0, 0];
    const cross = (line, weight) => {
      const from = depth === 0 ? size[0] / 2 : middleOf(depth - 1, line[depth - 1]);
      const to = middleOf(depth, line[depth]);
      const near = (from + to) / 2; // captions stand low: only the second half comes so far down
      if (Math.min(near, to) < length) crossed[0] += weight;
      if (Math.max(near, to) > size[0] - length) crossed[1] += weight;
    };
    cross(route.way, 20);
    if (!route.isFound) cross(route.wayToBest, 10);
    route.kept[depth].forEach((node) => cross(lineage(levels, depth, node), 1));
    return crossed[0] > crossed[1];
  }

  function drawFoot(levels, route) {
    const last = levels.length - 1;
    const bottom = rows[last][1];
    const parts = [];
    const isNarrow = size[0] < NARROW;
    const isBefore = middleOf(last, route.chosen) < middleOf(last, route.best);
    const pin = (tile, what, line) => {
      const there = middleOf(last, tile);
      const [x0, x1] = [places[last].x0[tile], places[last].x1[tile]];
      const [isLeft, isRight] = [x1 < 0, x0 > size[0]];
      const x = within(9, size[0] - 9, there);
      const y = bottom + 12 + 20 * line;
      const arrow = isLeft ? "\u25c2 " : "";
      const content = `${arrow}${what}tile ${tile}${isRight ? " \u25b8" : ""}`;
      // the words of the upper line stay clear of the stem that leads to the lower one
      const room = 16 + 7.2 * content.length;
      const [hasLeft, hasRight] = [x > room, x < size[0] - room];
      const prefersRight = route.isFound || line > 0 ? x < size[0] / 2 : !isBefore;
      const toRight = prefersRight ? hasRight : !hasLeft;
      if (line > 0 && !isLeft && !isRight) {
        parts.push(shape("path", { class: "rt-stem", d: `M${x} ${bottom + 1}V${y - 6}` }));
      }
      parts.push(line > 0
        ? shape("circle", { class: "rt-ring", cx: x, cy: y, r: 5.5 })
        : shape("path", { class: "rt-pin", d: `M${x} ${bottom + 4}l7 13h-14Z` }));
      const [start, anchor] = toRight ? [x + 13, "start"] : [x - 13, "end"];
      parts.push(text("foot", start, y + 4.5, content, anchor));
    };
    if (route.isFound) {
      pin(route.chosen, isNarrow ? "best: " : "chosen, and the best of all: ", 0);
    } else {
      pin(route.chosen, "chosen: ", 0);
      pin(route.best, isNarrow ? "missed: " : "missed, the best of all: ", 1);
      const [x, y] = [middleOf(route.lost, route.wayToBest[route.lost]), rows[route.lost][0]];
      const cross = `M${x - 5} ${y - 5}l10 10M${x + 5} ${y - 5}l-10 10`;
      parts.push(shape("path", { class: "rt-lost", d: cross }));
    }
    foot.replaceChildren(...parts);
  }

  /** Draw it all; `domain` are the tiles from the left edge to the right one. */
  function update({ levels, route, input, written, domain, width, height }) {
    size = [width, height];
    rows = rowsOf(levels.length, height);
    places = placeNodes(levels, domain, width);
    held = levels;
    const out = { faint: "", ground: "", bars: bars.map(() => ""), caps: "", numbers: [] };
    levels.forEach((_, depth) => drawLevel(levels, route, input, written, depth, out));
    faint.setAttribute("d", out.faint);
    grounds.setAttribute("d", out.ground);
    bars.forEach((bar, i) => bar.setAttribute("d", out.bars[i]));
    caps.setAttribute("d", out.caps);
    numbers.replaceChildren(...out.numbers);
    drawWays(levels, route);
    captions.replaceChildren(...levels.map((_, depth) => {
      const [name, what] = captionOf(levels, route, depth, width < NARROW);
      const isRight = isInTheWay(levels, route, depth, 7 * (name.length + what.length));
      const [x, anchor] = isRight ? [width - 1, "end"] : [1, "start"];
      const caption = text("caption", x, rows[depth][0] - 8, "", anchor);
      caption.append(shape("tspan", { class: "rt-caption-name" }, name), `\u2002${what}`);
      return caption;
    }));
    drawFoot(levels, route);
  }

  /** The node at a point of the drawing, or null. */
  function nodeAt(x, y) {
    // the way down into a row belongs to nobody, but what is below the tiles to the tiles
    const depth = rows.findIndex(([top, bottom], i) =>
      y >= top && y <= (i === rows.length - 1 ? bottom + 8 : bottom));
    if (depth < 0) return null;
    let [best, least] = [null, 3]; // pixels that a pointer may be off
    places[depth].x0.forEach((x0, node) => {
      const off = Math.max(0, x0 - x, x - places[depth].x1[node]);
      if (off < least) [best, least] = [node, off];
    });
    return best === null ? null : { depth, node: best };
  }

  function point(at) {
    const corners = at && held && at.depth < rows.length ? cornersOf(at.depth, at.node, 4) : null;
    hover.setAttribute("d", corners ? box(...corners) : "");
  }
  return { paint, update, nodeAt, point, cornersOf };
}

/** What the shapes stand for. */
function makeLegend() {
  const sample = (name, ...shapes) => makeKey(name, "0 0 22 18", ...shapes);
  const path = (kind, d, more = {}) => shape("path", { class: `rt-${kind}`, d, ...more });
  return element("div", { class: "kit-legend" },
    sample("not compared", path("faint", box(1, 1, 21, 17))),
    sample("compared: the taller and darker, the higher the score in its row",
      path("ground", box(1, 1, 10.5, 17) + box(11.5, 1, 21, 17)),
      path("bar", box(1, 11, 10.5, 17), { "fill-opacity": 0.2 }),
      path("cap", box(1, 11, 10.5, 12.75)),
      path("bar", box(11.5, 3, 21, 17), { "fill-opacity": 0.5 }),
      path("cap", box(11.5, 3, 21, 4.75))),
    sample("kept", path("ground", box(2, 2, 20, 16)), path("kept", box(2, 2, 20, 16))),
    sample("way to the chosen tile", path("way", "M1 9H21")),
    sample("way to the best tile, and where it was lost",
      path("missed-way", "M1 9H21"), path("lost", "M7 5l8 8m0 -8l-8 8")),
  );
}
