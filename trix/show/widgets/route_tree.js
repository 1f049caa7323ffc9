// RouteTree: one input's way down a tree of signatures, with the beam and the depth to set.
//
// One self-contained module, because it is loaded from a blob: in a notebook by anywidget, on a
// page with no kernel by static-widgets.js. The model's traits are described in route_tree.py.
// Every score is in them; the searching is done here. What the reader chooses goes through the
// model, so that all views of it agree; how far a view is zoomed in is its own affair.

const SVG = "http://www.w3.org/2000/svg";
const GAP = 36; // above each row of nodes: its caption, and the way down into it
const CELL = 54; // height of a row where the tree is deepest, in CSS pixels
const HEAD = 20; // of a cell, above its bar: what it is called
const LEAST = 270; // height of the smallest drawing
const FOOT = 46; // below the tiles: which one was chosen, and which is the best
const SHADES = 5; // of scores
const NARROW = 480; // a drawing narrower than this has shorter words
const WINDOW = 16; // tiles to be seen when one of them is zoomed in on
const ZOOM = 380; // how long zooming takes, in milliseconds
const HINT = "Point at a node for its score; click it to zoom in.";
const NUMBERS = ["one", "two", "three", "four", "five", "six"];

// ---------------------------------------------------------------- reading the model

/** The numbers behind a DataView, each `size` bytes wide, little-endian. */
function numbersIn(view, size, read) {
  const numbers = [];
  for (let at = 0; at < view.byteLength; at += size) numbers.push(view[read](at, true));
  return numbers;
}

/**
 * The trees by their depth. A tree is its levels from the top; the tiles are the last. Of each
 * level: `parent` and `children` by node, the tiles `lo` to `hi` below a node as they stand side
 * by side, the nodes in that `order`, and `score(input, node)`.
 */
function readTrees(model) {
  const parents = numbersIn(model.get("parents"), 2, "getUint16");
  const groups = numbersIn(model.get("group_scores"), 4, "getFloat32");
  const tiles = numbersIn(model.get("scores"), 4, "getFloat32");
  const inputs = model.get("labels").length;
  let [nodeAt, scoreAt] = [0, 0];
  const trees = model.get("nodes").map((counts) => {
    const levels = counts.map((count, depth) => {
      const parent = parents.slice(nodeAt, nodeAt + count);
      nodeAt += count;
      const isLast = depth === counts.length - 1;
      const [from, scores] = isLast ? [0, tiles] : [scoreAt, groups];
      if (!isLast) scoreAt += inputs * count;
      return {
        count,
        parent,
        children: [],
        lo: Array(count),
        hi: Array(count),
        order: [],
        score: (input, node) => scores[from + input * count + node],
      };
    });
    layOut(levels);
    return [counts.length, levels];
  });
  return new Map(trees);
}

/** Say which children each node has, and where it stands above the tiles. */
function layOut(levels) {
  levels.forEach((level, depth) => {
    const below = levels[depth + 1];
    level.children = Array.from({ length: level.count }, () => []);
    below?.parent.forEach((parent, node) => level.children[parent].push(node));
  });
  let placed = 0;
  const place = (depth, node) => {
    const level = levels[depth];
    level.order.push(node);
    level.lo[node] = placed;
    if (depth === levels.length - 1) placed++;
    else level.children[node].forEach((child) => place(depth + 1, child));
    level.hi[node] = placed;
  };
  levels[0].parent.forEach((_, node) => place(0, node));
}

// ---------------------------------------------------------------- searching

/** The nodes with the best first; of equal scores the lower index comes first. */
function ranked(nodes, score) {
  return nodes.slice().sort((a, b) => score(b) - score(a) || a - b);
}

/**
 * Search a tree: on each level compare with the children of the nodes that were kept above, and
 * keep the `beam` best; of the tiles, the best one.
 *
 * Gives, for each level, the nodes compared with (best first) and the nodes kept; how many were
 * compared in all; and the tile chosen.
 */
function search(levels, input, beam) {
  const compared = [];
  const kept = [];
  let candidates = levels[0].parent.map((_, node) => node);
  levels.forEach((level, depth) => {
    const best = ranked(candidates, (node) => level.score(input, node));
    const isLast = depth === levels.length - 1;
    compared.push(best);
    kept.push(best.slice(0, isLast ? 1 : beam));
    if (!isLast) candidates = kept[depth].flatMap((node) => level.children[node]);
  });
  const count = compared.reduce((sum, nodes) => sum + nodes.length, 0);
  return { compared, kept, count, chosen: kept.at(-1)[0] };
}

/** The tile that comparing with all of them would choose. */
function bestTile(levels, input) {
  const tiles = levels.at(-1);
  let best = 0;
  for (let tile = 1; tile < tiles.count; tile++) {
    if (tiles.score(input, tile) > tiles.score(input, best)) best = tile;
  }
  return best;
}

/** A node and those above it, from the top down: its place in each level. */
function lineage(levels, depth, node) {
  const line = [node];
  for (let above = depth; above > 0; above--) line.unshift(levels[above].parent[line[0]]);
  return line;
}

/** Everything there is to show about one input. */
function routeOf(levels, input, beam) {
  const found = search(levels, input, beam);
  const last = levels.length - 1;
  const best = bestTile(levels, input);
  const wayToBest = lineage(levels, last, best);
  const isFound = best === found.chosen;
  const isLost = (node, depth) => !found.kept[depth].includes(node);
  const lost = isFound ? -1 : wayToBest.findIndex(isLost);
  return {
    ...found,
    way: lineage(levels, last, found.chosen),
    best,
    wayToBest,
    isFound,
    lost, // the level on which the best tile fell out of the beam
    state: levels.map((_, depth) => ({
      rank: new Map(found.compared[depth].map((node, rank) => [node, rank + 1])),
      kept: new Set(found.kept[depth]),
    })),
  };
}

// ---------------------------------------------------------------- in words

const many = (count) => count.toLocaleString("en");

function ordinal(n) {
  const end = n % 100 >= 11 && n % 100 <= 13 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th";
  return `${many(n)}${end}`;
}

/** How scores are written: three digits of the largest of them. */
function scoreWriter(levels, inputs) {
  let most = 0;
  const tiles = levels.at(-1);
  for (let input = 0; input < inputs; input++) {
    for (let tile = 0; tile < tiles.count; tile++) {
      most = Math.max(most, Math.abs(tiles.score(input, tile)));
    }
  }
  const digits = most > 0 ? Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(most)))) : 2;
  return (score) => {
    const text = score.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
  };
}

/** A node's name: groups are numbered within their level, tiles are tiles. */
function nameOf(levels, depth, node) {
  return depth === levels.length - 1 ? `tile ${node}` : `group ${node}`;
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** What became of a node. */
function nodeText(levels, route, input, written, { depth, node }) {
  const level = levels[depth];
  const isTile = depth === levels.length - 1;
  const { rank, kept } = route.state[depth];
  const size = level.hi[node] - level.lo[node];
  const holds = size === 1 ? "1 tile" : `${many(size)} tiles`;
  const where = isTile ? "" : ` of level ${depth + 1}, ${holds}`;
  const name = capital(nameOf(levels, depth, node)) + where;
  const score = written(level.score(input, node));
  const isMissed = isTile && !route.isFound && node === route.best;
  const most = isMissed ? ", the best of all tiles" : "";
  if (!rank.has(node)) return `${name}: not compared; its score would be ${score}${most}`;
  const place = `score ${score}, ${ordinal(rank.get(node))} of ${many(rank.size)} compared`;
  const [taken, passed] = isTile ? [", chosen", ""] : [", kept", ", not kept"];
  const fate = kept.has(node) ? taken : passed;
  return `${name}: ${place}${fate}`;
}

/** The outcome in a sentence or two, as pieces of which the strong ones are marked. */
function verdict(levels, route, input, written) {
  const tiles = levels.at(-1);
  const tile = (node) => `tile\u00a0${node} (score\u00a0${written(tiles.score(input, node))})`;
  const cost = [
    "Compared ",
    { strong: many(route.count) },
    ` ${route.count === 1 ? "signature" : "signatures"} (flat: ${many(tiles.count)}). `,
  ];
  if (route.isFound) return [...cost, { strong: "Found the best tile" }, `: ${tile(route.best)}.`];
  const rank = route.state[route.lost].rank;
  const group = route.wayToBest[route.lost];
  return [
    ...cost,
    { strong: "Missed the best tile" },
    `: chose ${tile(route.chosen)}, the best is ${tile(route.best)}. It was lost on level `
      + `${route.lost + 1}, where its group ${group} came ${ordinal(rank.get(group))} of `
      + `${many(rank.size)}.`,
  ];
}

function captionOf(levels, route, depth, isNarrow) {
  const isLast = depth === levels.length - 1;
  const [compared, all] = [route.compared[depth].length, levels[depth].count];
  if (isNarrow) return [`Level ${depth + 1}`, `${many(compared)} of ${many(all)} compared`];
  const what = isLast ? (all === 1 ? "tile" : "tiles") : all === 1 ? "group" : "groups";
  const end = isLast ? "" : `, kept ${many(route.kept[depth].length)}`;
  return [`Level ${depth + 1}`, `compared ${many(compared)} of ${many(all)} ${what}${end}`];
}

function depthName(depth) {
  return depth === 1 ? "one level (flat)" : `${NUMBERS[depth - 1]} levels`;
}

// ---------------------------------------------------------------- making elements

function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const strongly = (pieces) =>
  pieces.map((piece) => (piece.strong ? element("strong", {}, piece.strong) : piece));

const box = (x0, y0, x1, y1) =>
  `M${x0.toFixed(2)} ${y0.toFixed(2)}H${x1.toFixed(2)}V${y1.toFixed(2)}H${x0.toFixed(2)}Z`;

const curve = (x0, y0, x1, y1) => {
  const middle = ((y0 + y1) / 2).toFixed(1);
  const [from, to] = [x0.toFixed(2), x1.toFixed(2)];
  return `M${from} ${y0.toFixed(1)}C${from} ${middle} ${to} ${middle} ${to} ${y1.toFixed(1)}`;
};

const within = (low, high, value) => Math.min(high, Math.max(low, value));

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

/**
 * The node that has the keyboard. Of a thousand nodes only this one is an element: when another
 * gets the focus, an element is made for it and the old one goes.
 */
function makeCursor(tree) {
  let at = null;
  let item = null;

  function make() {
    const made = shape("rect", { class: "rt-cursor", role: "treeitem", tabindex: 0, rx: 3 });
    tree.append(made);
    return made;
  }

  function update(levels, next, corners, words, isOpen) {
    const moved = !at || at.depth !== next.depth || at.node !== next.node;
    const old = item;
    if (moved) item = make();
    at = next;
    const level = levels[at.depth];
    const siblings = at.depth === 0
      ? level.order
      : levels[at.depth - 1].children[level.parent[at.node]];
    furnish(item, {
      "aria-label": words,
      "aria-level": at.depth + 1,
      "aria-setsize": siblings.length,
      "aria-posinset": siblings.indexOf(at.node) + 1,
      "data-node": `${at.depth}.${at.node}`,
    }, []);
    if (at.depth < levels.length - 1) item.setAttribute("aria-expanded", isOpen ? "true" : "false");
    const [x0, y0, x1, y1] = corners ?? [0, 0, 0, 0];
    furnish(item, {
      x: x0 - 2, y: y0 - 2, width: Math.max(0, x1 - x0 + 4), height: Math.max(0, y1 - y0 + 4),
    }, []);
    if (moved && old) {
      if (old === document.activeElement) item.focus({ preventScroll: true });
      old.remove();
    }
  }
  return {
    update,
    focus: () => item?.focus({ preventScroll: true }),
    has: () => item === document.activeElement,
  };
}

// ---------------------------------------------------------------- what stands around it

/** Which input, how deep, how wide, and the way back. */
function makeControls(labels, depths, mostBeam) {
  const id = `route-${Math.random().toString(36).slice(2)}`;
  const input = element("select", { id: `${id}-input` },
    ...labels.map((label, i) => element("option", { value: i }, label)));
  const radios = depths.map((depth) =>
    element("input", { type: "radio", name: id, value: depth }));
  const beam = element("input", {
    type: "range", min: 1, max: mostBeam, step: 1, id: `${id}-beam`,
  });
  const width = element("strong");
  const reset = element("button", { type: "button", class: "rt-button" }, "Reset");
  const choice = element("div", {
    class: "rt-choice", role: "radiogroup", "aria-label": "Depth of the tree",
  }, ...depths.map((depth, i) =>
    element("label", {}, radios[i], element("span", {}, depthName(depth)))));
  choice.hidden = depths.length === 1;
  const bar = element("div", { class: "rt-controls" },
    element("div", { class: "rt-field rt-pick" },
      element("label", { for: input.id }, "Input"), input),
    element("div", { class: "rt-field rt-beam" },
      element("label", { for: beam.id }, "Beam: keep the best ", width), beam),
    choice,
    reset);

  function update(chosen) {
    input.value = chosen.input;
    radios.forEach((radio) => (radio.checked = Number(radio.value) === chosen.depth));
    beam.value = chosen.beam;
    beam.disabled = chosen.depth === 1;
    width.textContent = chosen.beam;
    beam.setAttribute("aria-valuetext", `keep the best ${chosen.beam} of a level`);
  }
  return { bar, input, radios, beam, reset, update };
}

/** Where the view is zoomed to, and the ways out of there. */
function makeTrail() {
  const crumbs = element("ol", { class: "rt-crumbs" });
  const near = element("button", { type: "button", class: "rt-button" }, "Zoom to the chosen tile");
  const bar = element("nav", { class: "rt-trail", "aria-label": "Zoom" }, crumbs, near);

  function update(levels, zoom, isNear, go) {
    const all = `all ${many(levels.at(-1).count)} tiles`;
    const line = zoom ? lineage(levels, zoom.depth, zoom.node) : [];
    const stops = [[null, all], ...line.map((node, depth) =>
      [{ depth, node }, nameOf(levels, depth, node)])];
    crumbs.replaceChildren(...stops.map(([at, name], i) => {
      if (i === stops.length - 1) {
        const here = { class: "rt-here", "aria-current": "location" };
        return element("li", {}, element("span", here, name));
      }
      const button = element("button", { type: "button", class: "rt-crumb" }, name);
      button.addEventListener("click", () => go(at));
      return element("li", {}, button);
    }));
    near.disabled = isNear;
  }
  return { bar, near, update };
}

/** A mark for each input: whether its best tile is found at this beam and depth. */
function makeTally(labels, choose) {
  const marks = labels.map((label, i) => {
    const mark = element("span", { class: "rt-mark", "data-input": i, title: label });
    mark.addEventListener("click", () => choose(i));
    return mark;
  });
  const line = element("p", { class: "rt-recall" });
  const strip = element("div", { class: "rt-marks", "aria-hidden": "true" }, ...marks);
  const part = element("div", { class: "rt-tally" }, line, strip);
  part.hidden = labels.length === 1;

  const results = new Map(); // by depth and beam: [found, compared] of every input
  function resultsOf(levels, beam) {
    const key = `${levels.length} ${beam}`;
    if (!results.has(key)) {
      results.set(key, labels.map((_, i) => {
        const { chosen, count } = search(levels, i, beam);
        return [chosen === bestTile(levels, i), count];
      }));
    }
    return results.get(key);
  }

  function update(levels, beam, input) {
    const outcomes = resultsOf(levels, beam);
    marks.forEach((mark, i) => {
      const [isFound] = outcomes[i];
      mark.classList.toggle("rt-found", isFound);
      mark.classList.toggle("rt-current", i === input);
      mark.textContent = isFound ? "\u2713" : "\u2715";
    });
    const found = outcomes.filter(([isFound]) => isFound).length;
    const mean = outcomes.reduce((sum, [, count]) => sum + count, 0) / labels.length;
    const written = Number.isInteger(mean) ? many(mean) : mean.toFixed(1);
    line.replaceChildren(
      `Over all ${labels.length} inputs: found the best tile for `,
      element("strong", {}, String(found)),
      `, with ${written} comparisons ${Number.isInteger(mean) ? "each" : "on average"}.`,
    );
  }
  return { part, line, update };
}

/** What the shapes stand for. */
function makeLegend() {
  const sample = (name, ...shapes) => element("span", { class: "rt-key" },
    furnish(shape("svg", { viewBox: "0 0 22 18", "aria-hidden": "true" }), {}, shapes), name);
  const path = (kind, d, more = {}) => shape("path", { class: `rt-${kind}`, d, ...more });
  return element("div", { class: "rt-legend" },
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

// ---------------------------------------------------------------- the figure

function render({ model, el }) {
  const labels = model.get("labels");
  const depths = model.get("depths");
  const colours = model.get("colours");
  const trees = readTrees(model);
  const written = scoreWriter(trees.get(depths[0]), labels.length);
  const height = Math.max(LEAST, Math.max(...depths) * (GAP + CELL) + FOOT);

  const controls = makeControls(labels, depths, model.get("most_beam"));
  const outcome = element("span");
  const verdictLine = element("p", { class: "rt-verdict" }, outcome);
  const trail = makeTrail();
  const source = element("div", { class: "rt-source" });
  const drawing = makeDrawing();
  const tree = shape("g", { role: "tree", "aria-label": "Nodes of the tree" });
  const picture = shape("svg", {
    class: "rt-picture", role: "group", "aria-label": model.get("alt"), height,
  }, drawing.paint, tree);
  const cursor = makeCursor(tree);
  const detail = element("p", { class: "rt-detail" }, HINT);
  const tally = makeTally(labels, (input) => choose({ input }));
  const status = element("p", { class: "rt-status", "aria-live": "polite" });
  const figure = element("div", {
    class: "trix-route-tree", style: `--score: ${colours.score}; --best: ${colours.best}`,
  },
    controls.bar, verdictLine, trail.bar,
    element("div", { class: "rt-plot" }, source, picture),
    detail, makeLegend(), tally.part, status);
  el.append(figure);

  let zoom = null; // the node that is zoomed in on; null for the whole tree
  let shown = null; // the tiles in view, from the left edge to the right one
  let at = null; // the node that the keyboard is on
  let under = null; // the node that the pointer is on
  let drawn = 0; // the depth that was drawn last
  let route = null;
  let width = 700;

  const levelsNow = () => trees.get(model.get("depth"));
  const same = (a, b) => a?.depth === b?.depth && a?.node === b?.node;
  const wordsOf = (node) => nodeText(levelsNow(), route, model.get("input"), written, node);

  function draw() {
    const levels = levelsNow();
    drawing.update({
      levels, route, input: model.get("input"), written, domain: shown, width, height,
    });
    drawing.point(under);
    const isOpen = zoom !== null && lineage(levels, zoom.depth, zoom.node)[at.depth] === at.node;
    cursor.update(levels, at, drawing.cornersOf(at.depth, at.node, 4), wordsOf(at), isOpen);
  }

  function describe() {
    const node = under ?? (cursor.has() ? at : null);
    detail.textContent = node ? `${wordsOf(node)}.` : HINT;
  }

  function update() {
    const levels = levelsNow();
    const [input, beam] = [model.get("input"), model.get("beam")];
    route = routeOf(levels, input, beam);
    if (drawn !== levels.length) {
      cancelAnimationFrame(moving);
      [drawn, zoom, shown, under] = [levels.length, null, domainOf(levels, null), null];
      at = { depth: 0, node: route.way[0] };
    }
    controls.update({ input, beam, depth: levels.length });
    outcome.replaceChildren(...strongly(verdict(levels, route, input, written)));
    verdictLine.classList.toggle("rt-is-missed", !route.isFound);
    source.textContent = labels[input];
    tally.update(levels, beam, input);
    updateTrail();
    draw();
    describe();
  }

  function updateTrail() {
    const levels = levelsNow();
    const chosen = { depth: levels.length - 1, node: route.chosen };
    trail.update(levels, zoom, same(zoom, chosen), (to) => {
      zoomTo(to);
      cursor.focus(); // the button that had it is gone
    });
  }

  // ------------------------------------------------------------ zooming

  let moving = 0;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  function zoomTo(to) {
    const levels = levelsNow();
    zoom = to;
    const goal = domainOf(levels, zoom);
    const level = levels[at.depth];
    const outside = level.hi[at.node] <= goal[0] || level.lo[at.node] >= goal[1];
    if (outside && zoom) at = zoom;
    updateTrail();
    cancelAnimationFrame(moving);
    if (still.matches) {
      shown = goal;
      draw();
      return;
    }
    const from = shown;
    const begin = performance.now();
    const step = (now) => {
      const t = within(0, 1, (now - begin) / ZOOM);
      shown = between(from, goal, t * t * (3 - 2 * t));
      draw();
      if (t < 1) moving = requestAnimationFrame(step);
    };
    moving = requestAnimationFrame(step);
  }

  const parentOf = ({ depth, node }) =>
    depth === 0 ? null : { depth: depth - 1, node: levelsNow()[depth].parent[node] };

  function activate(node) {
    zoomTo(same(node, zoom) ? parentOf(node) : node); // a second time: out again
  }

  // ------------------------------------------------------------ the pointer

  function underPointer(event) {
    const rect = picture.getBoundingClientRect();
    return drawing.nodeAt(event.clientX - rect.left, event.clientY - rect.top);
  }

  function pointAt(node) {
    if (same(node, under)) return;
    under = node;
    picture.style.cursor = node ? "pointer" : "";
    drawing.point(node);
    describe();
  }

  picture.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") pointAt(underPointer(event));
  });
  picture.addEventListener("pointerleave", () => pointAt(null));
  picture.addEventListener("click", (event) => {
    const node = underPointer(event);
    if (!node) return;
    at = node;
    draw();
    cursor.focus();
    activate(node);
    describe();
  });

  // ------------------------------------------------------------ the keyboard

  /** The node beside the one the keyboard is on, in the same row and in view. */
  function beside(way) {
    const { lo, hi, order } = levelsNow()[at.depth];
    const [from, to] = domainOf(levelsNow(), zoom);
    const inView = order.filter((node) => hi[node] > from && lo[node] < to);
    const place = inView.indexOf(at.node);
    const next = { first: 0, last: inView.length - 1 }[way] ?? place + way;
    return { depth: at.depth, node: inView[within(0, inView.length - 1, next)] };
  }

  /** The child to go down to: the one on the way to the chosen tile, else the first in view. */
  function below() {
    const levels = levelsNow();
    if (at.depth === levels.length - 1) return at;
    const [from, to] = domainOf(levels, zoom);
    const next = levels[at.depth + 1];
    const children = levels[at.depth].children[at.node]
      .filter((node) => next.hi[node] > from && next.lo[node] < to);
    const onWay = route.way[at.depth + 1];
    return { depth: at.depth + 1, node: children.includes(onWay) ? onWay : children[0] };
  }

  tree.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const goes = {
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
      Home: () => beside("first"),
      End: () => beside("last"),
      ArrowUp: () => parentOf(at) ?? at,
      ArrowDown: below,
    }[event.key];
    const acts = event.key === "Enter" || event.key === " ";
    if (!goes && !acts) return;
    event.preventDefault();
    event.stopPropagation(); // a notebook would move to another cell, or run this one
    under = null;
    if (acts) activate(at);
    else {
      at = goes();
      draw();
    }
    describe();
  });
  // on the figure, because Chromium lets Tab stop at a <g> that listens for the focus
  figure.addEventListener("focusin", describe);
  figure.addEventListener("focusout", describe);
  figure.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || zoom === null) return;
    event.preventDefault();
    event.stopPropagation();
    const fromTrail = trail.bar.contains(document.activeElement);
    zoomTo(parentOf(zoom));
    if (fromTrail) cursor.focus();
  });

  // ------------------------------------------------------------ the choices

  // Words change many times a second under a moving hand: say what they come to rest at.
  let pause = 0;
  function choose(changes) {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
    clearTimeout(pause);
    pause = setTimeout(() => {
      const recall = tally.part.hidden ? "" : ` ${tally.line.textContent}`;
      status.textContent = `${outcome.textContent}${recall}`;
    }, 400);
  }

  controls.input.addEventListener("change", () => choose({ input: Number(controls.input.value) }));
  controls.beam.addEventListener("input", () => choose({ beam: Number(controls.beam.value) }));
  controls.beam.addEventListener("keydown", (event) => {
    if (/^(Arrow|Home|End|Page)/.test(event.key)) event.stopPropagation(); // as above
  });
  controls.radios.forEach((radio) =>
    radio.addEventListener("change", () => choose({ depth: Number(radio.value) })));
  trail.near.addEventListener("click", () => {
    at = { depth: levelsNow().length - 1, node: route.chosen };
    zoomTo(at);
    cursor.focus();
    describe();
  });
  controls.reset.addEventListener("click", () => {
    choose(model.get("start"));
    if (zoom) zoomTo(null);
  });

  const watcher = new ResizeObserver(() => {
    const now = picture.clientWidth || picture.getBoundingClientRect().width;
    if (!now || now === width) return;
    width = now;
    draw();
  });
  const watched = ["input", "beam", "depth"].map((name) => `change:${name}`);
  watched.forEach((event) => model.on(event, update));
  update();
  watcher.observe(picture);
  return () => {
    clearTimeout(pause);
    cancelAnimationFrame(moving);
    watcher.disconnect();
    watched.forEach((event) => model.off(event, update));
  };
}

export default { render };
