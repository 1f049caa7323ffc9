// What all widgets share: numbers in words, making elements, and the figure that a widget is.
//
// A widget's code is loaded from a blob (in a notebook by anywidget, on a page with no kernel by
// static-widgets.js) and can import nothing, so base.py puts this text in front of the widget's
// own. Its traits are described in its Python. What the reader chooses goes through the model, so
// that all views of it agree.

const SVG = "http://www.w3.org/2000/svg";
const GLYPHS = { "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d", " ": "\u2423" };
const NAMES = { "\n": "line break", "\t": "tab", "\r": "carriage return", " ": "space" };

// ---------------------------------------------------------------- numbers

const indices = (count) => Array.from({ length: count }, (_, i) => i);
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const within = (low, high, value) => Math.min(high, Math.max(low, value));

/** Index of the highest score; of equal ones the first, as torch.argmax has it. */
const argmax = (scores) => scores.reduce((best, score, i) => (score > scores[best] ? i : best), 0);

/** The numbers behind a DataView, each `size` bytes wide, little-endian. */
function numbersIn(view, size, read) {
  const numbers = [];
  for (let at = 0; at < view.byteLength; at += size) numbers.push(view[read](at, true));
  return numbers;
}

const floatsIn = (view) => numbersIn(view, 4, "getFloat32");

// ---------------------------------------------------------------- in words

const glyph = (character) => GLYPHS[character] ?? character;
const named = (character) => NAMES[character] ?? `\u2018${character}\u2019`;
const minus = (text) => text.replaceAll("-", "\u2212");
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
const many = (count, thing) => `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

// ---------------------------------------------------------------- making elements

const element = (tag, attributes = {}, ...children) =>
  furnish(document.createElement(tag), attributes, children);

const shape = (tag, attributes = {}, ...children) =>
  furnish(document.createElementNS(SVG, tag), attributes, children);

function furnish(made, attributes, children = []) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** A name that nothing else on the page has. */
const unique = () => `trix-${Math.random().toString(36).slice(2)}`;

/** Pieces of a sentence, of which those that are `{ strong }` stand out. */
const strongly = (pieces) =>
  pieces.map((piece) => (piece.strong ? element("strong", {}, piece.strong) : piece));

/** Elements made of the characters of a text, put into a box in its lines. */
function spell(box, characters, elements) {
  elements.forEach((one, at) => {
    box.append(one);
    if (characters[at] === "\n") box.append(element("br"));
  });
}

function makeButton(text, act, attributes = {}) {
  const button = element("button", { type: "button", ...attributes }, text);
  button.addEventListener("click", act);
  return button;
}

/** A control below its name; behind the name stands what `value` holds. */
function makeField(name, control, value = "", kind = "") {
  control.id ||= unique();
  return element("div", { class: `kit-field ${kind}` },
    element("label", { for: control.id }, name, value && " ", value), control);
}

/** One of several values by radio buttons, side by side below their name; `pick` hears which. */
function makeChoice(title, values, pick, nameOf = String, kind = "kit-choice") {
  const id = unique();
  const radios = values.map((value) => element("input", { type: "radio", name: id, value }));
  radios.forEach((radio, i) => radio.addEventListener("change", () => pick(values[i])));
  const group = element("div", { class: kind, role: "radiogroup", "aria-labelledby": `${id}-name` },
    ...radios.map((radio, i) => element("label", {}, radio, element("span", {}, nameOf(values[i])))));
  const box = element("div", { class: "kit-field" },
    element("span", { id: `${id}-name` }, title), group);
  const update = (chosen) => radios.forEach((radio, i) => (radio.checked = values[i] === chosen));
  return { box, update };
}

/** What a mark in a drawing stands for, with the mark in a box of its own. */
const makeKey = (name, box, ...shapes) => element("span", { class: "kit-key" },
  shape("svg", { viewBox: box, "aria-hidden": "true" }, ...shapes), name);

// ---------------------------------------------------------------- the figure

/**
 * A widget's figure in `el`, with its parts, and what it does as long as it stands.
 *
 * `status` is where words go that are to be read aloud: a part of the figure, or, if not given,
 * something that cannot be seen.
 */
function makeFigure({ model, el }, { kind, style = "", status = null }, ...parts) {
  const aloud = status ?? element("p", { class: "kit-hidden", "aria-live": "polite" });
  const root = element("div", {
    class: `trix-kit ${kind}`, role: "group", "aria-label": model.get("alt"), style,
  }, ...parts, ...(status ? [] : [aloud]));
  root.addEventListener("keydown", (event) => event.stopPropagation()); // a notebook has keys too
  el.append(root);
  const ends = [];
  let pause = 0;

  /** Set traits, and tell the kernel of them. */
  function choose(changes) {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  }
  /** Words change many times a second under a moving hand: say what they come to rest at. */
  function say(words, rest = 400) {
    clearTimeout(pause);
    pause = setTimeout(() => (aloud.textContent = words()), rest);
  }
  /** Call `act` whenever one of these traits changes. */
  function follow(names, act) {
    const events = names.map((name) => `change:${name}`);
    events.forEach((event) => model.on(event, act));
    ends.push(() => events.forEach((event) => model.off(event, act)));
  }
  /** Call `act` with the width of a part, in CSS pixels, at first and whenever it is another. */
  function measureWidth(part, act) {
    let last = null;
    const watcher = new ResizeObserver(() => {
      const { width } = part.getBoundingClientRect();
      if (width && width !== last) act((last = width));
    });
    watcher.observe(part);
    ends.push(() => watcher.disconnect());
  }
  function close() {
    clearTimeout(pause);
    ends.forEach((end) => end());
  }
  /** Draw now and whenever one of these traits changes; gives what ends it. */
  function start(names, update) {
    follow(names, update);
    update();
    return close;
  }
  return { root, choose, say, follow, measureWidth, ends, start };
}

/** Where a key leads among things in a row; undefined for a key that means something else. */
function keyWay(event, ways) {
  return event.altKey || event.ctrlKey || event.metaKey ? undefined : ways[event.key];
}
