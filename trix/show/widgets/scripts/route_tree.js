// RouteTree: one input's way down a tree of signatures, with the beam and the depth to set.
//
// What the reader chooses goes through the model; how far a view is zoomed in is its own affair.

const CELL = 54; // height of a row where the tree is deepest, in CSS pixels
const LEAST = 270; // height of the smallest drawing
const ZOOM = 380; // how long zooming takes, in milliseconds
const HINT = "Point at a node for its score; click it to zoom in.";

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
function makeControls(labels, depths, mostBeam, { choose, reset }) {
  const input = element("select", {},
    ...labels.map((label, i) => element("option", { value: i }, label)));
  input.addEventListener("change", () => choose({ input: Number(input.value) }));
  const beam = element("input", { type: "range", min: 1, max: mostBeam, step: 1 });
  beam.addEventListener("input", () => choose({ beam: Number(beam.value) }));
  const width = element("strong");
  const levels = makeChoice("Depth of the tree", depths, (depth) => choose({ depth }), depthName, "rt-choice");
  levels.box.hidden = depths.length === 1;
  const bar = element("div", { class: "kit-controls" },
    makeField("Input", input, "", "rt-pick"),
    makeField("Beam: keep the best", beam, width, "rt-beam"),
    levels.box, makeButton("Reset", reset, { class: "rt-button" }));

  function update(chosen) {
    input.value = chosen.input;
    levels.update(chosen.depth);
    beam.value = chosen.beam;
    beam.disabled = chosen.depth === 1;
    width.textContent = chosen.beam;
    beam.setAttribute("aria-valuetext", `keep the best ${chosen.beam} of a level`);
  }
  return { bar, update };
}

/** Where the view is zoomed to, and the ways out of there. */
function makeTrail(zoomIn) {
  const crumbs = element("ol", { class: "rt-crumbs" });
  const near = makeButton("Zoom to the chosen tile", zoomIn, { class: "rt-button" });
  const bar = element("nav", { class: "rt-trail", "aria-label": "Zoom" }, crumbs, near);

  function update(levels, zoom, isNear, go) {
    const all = `all ${counted(levels.at(-1).count)} tiles`;
    const line = zoom ? lineage(levels, zoom.depth, zoom.node) : [];
    const stops = [[null, all], ...line.map((node, depth) =>
      [{ depth, node }, nameOf(levels, depth, node)])];
    crumbs.replaceChildren(...stops.map(([at, name], i) => {
      if (i === stops.length - 1) {
        const here = { class: "rt-here", "aria-current": "location" };
        return element("li", {}, element("span", here, name));
      }
      return element("li", {}, makeButton(name, () => go(at), { class: "rt-crumb" }));
    }));
    near.disabled = isNear;
  }
  return { bar, update };
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
    const mean = sum(outcomes.map(([, count]) => count)) / labels.length;
    const written = Number.isInteger(mean) ? counted(mean) : mean.toFixed(1);
    line.replaceChildren(
      `Over all ${labels.length} inputs: found the best tile for `,
      element("strong", {}, String(found)),
      `, with ${written} comparisons ${Number.isInteger(mean) ? "each" : "on average"}.`,
    );
  }
  return { part, line, update };
}

// ---------------------------------------------------------------- the figure

function render(view) {
  const { model } = view;
  const labels = model.get("labels");
  const depths = model.get("depths");
  const colours = model.get("colours");
  const trees = readTrees(model);
  const written = scoreWriter(trees.get(depths[0]), labels.length);
  const height = Math.max(LEAST, Math.max(...depths) * (GAP + CELL) + FOOT);

  const controls = makeControls(labels, depths, model.get("most_beam"), {
    choose,
    reset() {
      choose(model.get("start"));
      if (zoom) zoomTo(null);
    },
  });
  const outcome = element("span");
  const verdictLine = element("p", { class: "kit-outcome rt-verdict" }, outcome);
  const trail = makeTrail(() => {
    at = { depth: levelsNow().length - 1, node: route.chosen };
    zoomTo(at);
    cursor.focus();
    describe();
  });
  const source = element("div", { class: "rt-source" });
  const drawing = makeDrawing();
  const tree = shape("g", { role: "tree", "aria-label": "Nodes of the tree" });
  const picture = shape("svg", {
    class: "rt-picture", height,
  }, drawing.paint, tree);
  const cursor = makeCursor(tree);
  const detail = element("p", { class: "rt-detail" }, HINT);
  const tally = makeTally(labels, (input) => choose({ input }));
  const figure = makeFigure(view, {
    kind: "trix-route-tree", style: `--score: ${colours.score}; --best: ${colours.best}`,
  },
    controls.bar, verdictLine, trail.bar,
    element("div", { class: "rt-plot" }, source, picture),
    detail, makeLegend(), tally.part);

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
    const goes = keyWay(event, {
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
      Home: () => beside("first"),
      End: () => beside("last"),
      ArrowUp: () => parentOf(at) ?? at,
      ArrowDown: below,
    });
    const acts = keyWay(event, { Enter: true, " ": true });
    if (!goes && !acts) return;
    event.preventDefault();
    under = null;
    if (acts) activate(at);
    else {
      at = goes();
      draw();
    }
    describe();
  });
  // on the figure, because Chromium lets Tab stop at a <g> that listens for the focus
  figure.root.addEventListener("focusin", describe);
  figure.root.addEventListener("focusout", describe);
  figure.root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || zoom === null) return;
    event.preventDefault();
    const fromTrail = trail.bar.contains(document.activeElement);
    zoomTo(parentOf(zoom));
    if (fromTrail) cursor.focus();
  });

  // ------------------------------------------------------------ the choices

  function choose(changes) {
    figure.choose(changes);
    figure.say(() => {
      const recall = tally.part.hidden ? "" : ` ${tally.line.textContent}`;
      return `${outcome.textContent}${recall}`;
    });
  }

  figure.ends.push(() => cancelAnimationFrame(moving));
  figure.measureWidth(picture, (now) => {
    width = now;
    draw();
  });
  return figure.start(["input", "beam", "depth"], update);
}

export default { render };
