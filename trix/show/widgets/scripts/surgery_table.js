// SurgeryTable: ternary signatures that the reader edits, and a text that is claimed anew at once.

const LOCK = "M2 5.5h8v6H2zM3.75 5.5V3.75a2.25 2.25 0 0 1 4.5 0V5.5"; // in a box of 12 by 12
const SIGNS = { "1": "+", "0": "0", "-1": "\u2212" };
const SPOKEN = { "1": "plus", "0": "zero", "-1": "minus" };
const NEXT = { "1": 0, "0": -1, "-1": 1 };
const KEYS = { "+": 1, "=": 1, "0": 0, "-": -1, "_": -1, "\u2212": -1 };
const HELP = "Click a cell, or give it the focus and press space, +, 0 or \u2212.";

// ---------------------------------------------------------------- making elements

const lockSign = () => shape("svg", {
  class: "trix-st-lock", viewBox: "0 0 12 12", role: "img", "aria-label": "locked",
}, shape("path", { d: LOCK }));

/** Black or white, whichever stands out more from the colour: at least 4.5 : 1 for any colour. */
function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

const paint = (palette, tile) => `--tile: ${palette[tile]}; --on-tile: ${inkOn(palette[tile])}`;
const swatch = (palette, tile) =>
  element("span", { class: "trix-st-swatch", style: paint(palette, tile) }, String(tile));

// ---------------------------------------------------------------- the parts of the figure

/** The text: every character on its tile's colour, above its tile's number. */
function makePassage(text, palette) {
  const spans = text.map((character, at) =>
    element("span", { class: "trix-st-char", role: "option", tabindex: -1, "data-at": at },
      element("span", {}, glyph(character)), element("span", { class: "trix-st-by" })));
  const box = element("div", { class: "trix-st-passage", role: "listbox", "aria-label": "Text" });
  spans.forEach((span, at) => {
    box.append(span);
    if (text[at] === "\n") box.append(element("br", { role: "presentation" }));
  });

  function update({ claims, scores, moved, position }) {
    spans.forEach((span, at) => {
      const by = claims[at];
      span.setAttribute("style", paint(palette, by));
      span.dataset.tile = by;
      span.lastElementChild.textContent = by;
      span.classList.toggle("trix-st-moved", moved.has(at));
      span.setAttribute("aria-selected", String(at === position));
      span.tabIndex = at === position ? 0 : -1;
      const ahead = lead(scores[at]);
      const says = [named(text[at]), `tile ${by}`, ...(ahead ? [ahead] : [])];
      span.setAttribute("aria-label", says.concat(moved.has(at) ? ["just changed tile"] : []).join(", "));
    });
  }
  return { box, spans, update };
}

/** The signatures, a row a tile; a header in front that stays in sight. */
function makeGrid(tiles, dim, palette) {
  const spot = (tile, column, attributes, ...children) =>
    element("span", { tabindex: -1, "data-tile": tile, "data-column": column, ...attributes }, ...children);
  const heads = indices(tiles).map((tile) => {
    const top = element("span", { class: "trix-st-top" },
      swatch(palette, tile), element("span", { class: "trix-st-count" }), lockSign());
    return spot(tile, -1, { class: "trix-st-head", role: "rowheader" },
      top, element("span", { class: "trix-st-signs" }));
  });
  const cells = indices(tiles).map((tile) =>
    indices(dim).map((column) => spot(tile, column, { class: "trix-st-cell", role: "gridcell" })));
  const rows = heads.map((head, tile) =>
    element("div", { class: "trix-st-row", role: "row" }, head, ...cells[tile]));
  const names = element("div", { class: "trix-st-row trix-st-names", role: "row" },
    element("span", { class: "trix-st-head", role: "columnheader" }, "tile, characters"),
    ...indices(dim).map((i) => element("span", { role: "columnheader" }, String(i))));
  const grid = element("div", { class: "trix-st-grid", role: "grid", "aria-label": "Signatures" }, names, ...rows);
  const box = element("div", { class: "trix-st-scroll", style: `--dim: ${dim}` }, grid);

  function update({ signatures, frozen, selected, claims, begun }, column) {
    signatures.forEach((signature, tile) => {
      const locked = frozen.includes(tile);
      const claimed = claims.filter((claim) => claim === tile).length;
      const signs = ["1", "-1", "0"].map((sign) =>
        `${SIGNS[sign]}:${signature.filter((one) => String(one) === sign).length}`);
      rows[tile].setAttribute("aria-selected", String(tile === selected));
      rows[tile].classList.toggle("trix-st-locked", locked);
      heads[tile].querySelector(".trix-st-count").textContent = claimed;
      heads[tile].lastElementChild.textContent = signs.join(" ");
      heads[tile].setAttribute("aria-label",
        `Tile ${tile}${locked ? ", locked" : ""}, ${claimed} characters, ${signs.join(" ")}`);
      heads[tile].tabIndex = tile === selected && column === -1 ? 0 : -1;
      cells[tile].forEach((cell, i) => {
        const [sign, was] = [signature[i], begun[tile][i]];
        cell.textContent = SIGNS[sign];
        cell.dataset.sign = sign;
        cell.classList.toggle("trix-st-edited", sign !== was);
        cell.setAttribute("aria-label", SPOKEN[sign] + (sign === was ? "" : `, was ${SPOKEN[was]}`));
        cell.setAttribute("aria-readonly", String(locked));
        cell.tabIndex = tile === selected && column === i ? 0 : -1;
      });
    });
  }
  function focus(tile, column) {
    const to = column < 0 ? heads[tile] : cells[tile][column];
    to.focus();
    to.scrollIntoView({ block: "nearest", inline: "nearest" }); // a focus may leave it behind the head
  }
  return { box, grid, focus, update };
}

/** What can be done with the chosen row, and undone. */
function makeControls(designs, hand) {
  const [lock, undo, reset] = ["lock", "undo", "reset"].map((name) =>
    makeButton(name[0].toUpperCase() + name.slice(1), hand[name]));
  const insert = makeButton("Insert", () => hand.insert(menu.value));
  const menu = element("select", {}, ...designs.map((name) => element("option", { value: name }, name)));
  const pick = makeField("Design", menu, "", "trix-st-pick");
  pick.append(insert);
  const bar = element("div", { class: "kit-controls trix-st-controls" },
    lock, undo, reset, ...(designs.length ? [pick] : []));

  function update({ frozen, selected, history, unchanged }) {
    const locked = frozen.includes(selected);
    lock.textContent = `${locked ? "Unlock" : "Lock"} tile ${selected}`;
    insert.textContent = `Insert in tile ${selected}`;
    // not `disabled`, which would take the focus away from whoever just pressed it
    insert.setAttribute("aria-disabled", String(locked));
    undo.setAttribute("aria-disabled", String(history.length === 0));
    reset.setAttribute("aria-disabled", String(unchanged));
  }
  return { bar, update };
}

/** A character's score at every tile: bars from a common zero. */
function makeScores(tiles, palette) {
  const heading = element("p", { class: "trix-st-heading" });
  const lines = indices(tiles).map((tile) =>
    element("div", { class: "trix-st-score", role: "listitem", style: paint(palette, tile) },
      swatch(palette, tile),
      element("span", { class: "kit-track" }, element("span", { class: "kit-fill" })),
      element("span", { class: "trix-st-value" })));
  const outcome = element("p", { class: "trix-st-outcome" });
  const box = element("section", { class: "trix-st-scores" }, heading,
    element("div", { role: "list", "aria-label": "Scores" }, ...lines), outcome);

  function update(scores, character, at) {
    const [low, high] = [Math.min(0, ...scores), Math.max(0, ...scores)];
    const place = (score) => (100 * (score - low)) / (high - low || 1);
    const first = argmax(scores);
    heading.textContent = `Scores of ${named(character)} at place ${at + 1}`;
    lines.forEach((line, tile) => {
      const [from, to] = [Math.min(0, scores[tile]), Math.max(0, scores[tile])].map(place);
      const track = line.children[1];
      track.style.setProperty("--zero", `${place(0)}%`);
      track.firstElementChild.style.left = `${from}%`;
      track.firstElementChild.style.width = `${to - from}%`;
      line.lastElementChild.textContent = short(scores[tile]);
      line.classList.toggle("trix-st-winner", tile === first);
    });
    const ahead = lead(scores);
    outcome.textContent = `Tile ${first} claims it with ${short(scores[first])}${ahead ? `, ${ahead}` : ""}.`;
  }
  return { box, update };
}

/** Claim rate and purity of the chosen tile for each class, before the first edit and now. */
function makeRates(classes) {
  const title = element("caption", { class: "trix-st-heading" });
  const rows = [...classes.keys()].map((name) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td"), element("td")));
  const table = element("table", {}, title,
    element("thead", {}, element("tr", {},
      ...["class", "claim rate", "purity"].map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows));
  const key = element("p", { class: "trix-st-key" });
  const box = element("section", { class: "trix-st-rates" }, table, key);
  if (!rows.length) box.hidden = true;

  function update({ selected, claims, first }) {
    title.textContent = `What tile ${selected} claims, before \u2192 now`;
    [...classes.values()].forEach((members, i) => {
      const [before, now] = [first, claims].map((one) => ratesOf(one, members, selected));
      ["rate", "purity"].forEach((kind, j) =>
        rows[i].children[j + 1].replaceChildren(
          `${rate(before[kind])} \u2192 `, element("strong", {}, rate(now[kind]))));
    });
    key.textContent = `Claim rate: the share of the class that tile ${selected} claims. ` +
      "Purity: the class\u2019s share of what it claims. Before: until the first edit.";
  }
  return { box, update };
}

// ---------------------------------------------------------------- the figure

function render(view) {
  const { model } = view;
  const text = Array.from(model.get("text"));
  const tokens = tokensIn(model.get("tokens"), text.length);
  const [palette, start] = ["palette", "start"].map((name) => model.get(name));
  const designs = new Map(model.get("designs"));
  const [tiles, dim] = [start.signatures.length, tokens[0].length];
  const first = claimsOf(tokens, start.signatures);

  const passage = makePassage(text, palette);
  const grid = makeGrid(tiles, dim, palette);
  const controls = makeControls([...designs.keys()], { lock, insert, undo, reset });
  const scores = makeScores(tiles, palette);
  const rates = makeRates(new Map(model.get("classes")));
  const status = element("p", { class: "kit-outcome trix-st-status", "aria-live": "polite" }, HELP);
  const figure = makeFigure(view, { kind: "trix-st", status },
    passage.box, grid.box, controls.bar, status,
    element("div", { class: "trix-st-panel" }, scores.box, rates.box));

  const current = () => Object.fromEntries(
    ["signatures", "frozen", "selected", "position", "history"].map((name) => [name, model.get(name)]));
  const isUnchanged = () =>
    ["signatures", "frozen"].every((name) => String(model.get(name)) === String(start[name]));
  const isLocked = (tile) => model.get("frozen").includes(tile);
  const say = (words) => (status.textContent = words);

  let column = 0; // of the cell that Tab comes to, -1 for the row's head
  let hovered = null; // the character under the pointer
  let shown = null; // the signatures that the text is coloured by
  let claims = claimsOf(tokens, model.get("signatures"));
  let moved = new Set();
  let what = ""; // the edit that is being made

  function update() {
    const state = current();
    if (String(state.signatures) !== String(shown)) {
      const now = claimsOf(tokens, state.signatures);
      moved = new Set(indices(text.length).filter((i) => now[i] !== claims[i]));
      if (shown) say(`${what}${movesBetween(claims, now)}`);
      [claims, shown] = [now, state.signatures];
    }
    Object.assign(state, {
      claims, moved, first, begun: start.signatures,
      scores: tokens.map((token) => scoresOf(token, shown)),
      unchanged: isUnchanged(),
    });
    passage.update(state);
    grid.update(state, column);
    controls.update(state);
    rates.update(state);
    look();
  }

  function look() {
    const at = hovered ?? model.get("position");
    scores.update(scoresOf(tokens[at], shown), text[at], at);
  }

  function choose(name, value) {
    if (model.get(name) !== value) figure.choose({ [name]: value });
  }

  // ------------------------------------------------------------ edits

  /** Rows as the history keeps them: the tile, its signature, and whether it is locked. */
  const asRow = (tile, { signatures, frozen }) => [tile, signatures[tile], frozen.includes(tile)];

  /** Put these rows in place, and say so. `history` is what undo goes back through afterwards. */
  function change(rows, history, words) {
    const before = model.get("signatures");
    const signatures = before.slice();
    const frozen = new Set(model.get("frozen"));
    for (const [tile, signature, locked] of rows) {
      signatures[tile] = signature;
      if (locked) frozen.add(tile);
      else frozen.delete(tile);
    }
    model.set("history", history);
    model.set("frozen", [...frozen].sort((a, b) => a - b));
    what = `${words} `; // `update` says it, and what it moved
    model.set("signatures", signatures);
    what = "";
    if (String(signatures) === String(before)) say(words);
    model.save_changes();
  }

  function edit(rows, words) {
    const before = rows.map(([tile]) => asRow(tile, current()));
    change(rows, [...model.get("history"), before], words);
  }

  function write(tile, signature, words) {
    if (isLocked(tile)) say(`Tile ${tile} is locked: unlock it to change it.`);
    else if (String(signature) === String(model.get("signatures")[tile])) say(`Tile ${tile} is so already.`);
    else edit([[tile, signature, false]], words);
  }

  function setCell(tile, at, sign) {
    const row = model.get("signatures")[tile];
    write(tile, row.map((one, i) => (i === at ? sign : one)),
      `Tile ${tile}, cell ${at}: ${SIGNS[row[at]]} \u2192 ${SIGNS[sign]}.`);
  }

  const turn = (tile, at) => setCell(tile, at, NEXT[model.get("signatures")[tile][at]]);

  function lock() {
    const tile = model.get("selected");
    const locked = !isLocked(tile);
    edit([[tile, model.get("signatures")[tile], locked]],
      locked ? `Tile ${tile} is locked: its cells stay as they are.` : `Tile ${tile} is unlocked.`);
  }
  function insert(name) {
    const tile = model.get("selected");
    write(tile, designs.get(name), `Tile ${tile} is now \u201c${name}\u201d.`);
  }
  function undo() {
    const history = model.get("history");
    if (!history.length) say("There is nothing to undo.");
    else change(history.at(-1), history.slice(0, -1), "Undone.");
  }
  function reset() {
    if (isUnchanged()) say("Nothing is changed.");
    else edit(indices(tiles).map((tile) => asRow(tile, start)), "Back at the start.");
  }

  // ------------------------------------------------------------ the table and the text

  const spotOf = ({ target }) => {
    const spot = target.closest("[data-column]");
    return spot && [Number(spot.dataset.tile), Number(spot.dataset.column)];
  };
  grid.grid.addEventListener("focusin", (event) => {
    const spot = spotOf(event);
    if (!spot) return;
    column = spot[1];
    if (model.get("selected") === spot[0]) update();
    else choose("selected", spot[0]);
  });
  grid.grid.addEventListener("click", (event) => {
    const spot = spotOf(event);
    if (spot?.[1] >= 0) turn(...spot);
  });
  grid.grid.addEventListener("keydown", (event) => {
    const spot = spotOf(event);
    if (!spot || event.altKey || event.ctrlKey || event.metaKey) return;
    const [tile, at] = spot;
    const goal = keyWay(event, {
      ArrowLeft: [tile, at - 1], ArrowRight: [tile, at + 1], ArrowUp: [tile - 1, at],
      ArrowDown: [tile + 1, at], Home: [tile, -1], End: [tile, dim - 1],
    });
    if (goal) grid.focus(within(0, tiles - 1, goal[0]), within(-1, dim - 1, goal[1]));
    else if (event.key === " " || event.key === "Enter") at >= 0 && turn(tile, at);
    else if (event.key in KEYS) at >= 0 && setCell(tile, at, KEYS[event.key]);
    else return;
    event.preventDefault();
  });

  const charOf = ({ target }) => target.closest("[data-at]")?.dataset.at;
  passage.box.addEventListener("focusin", (event) => choose("position", Number(charOf(event))));
  passage.box.addEventListener("pointerover", (event) => {
    const at = charOf(event);
    hovered = at === undefined ? null : Number(at);
    look();
  });
  passage.box.addEventListener("pointerleave", () => {
    hovered = null;
    look();
  });
  passage.box.addEventListener("keydown", (event) => {
    const at = Number(charOf(event));
    const end = text.length - 1;
    const goal = keyWay(event, {
      ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: end,
    });
    if (goal === undefined) return;
    passage.spans[within(0, end, goal)].focus();
    event.preventDefault();
  });

  return figure.start(Object.keys(current()), update);
}

export default { render };
