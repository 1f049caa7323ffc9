// MemoryReader: a sentence, the slots that each character writes and reads, and what comes back.
//
// One self-contained module, because it is loaded from a blob: in a notebook by anywidget, on a
// page with no kernel by static-widgets.js. The model's traits are described in memory_reader.py;
// every number is in them already. What the reader chooses goes through the model, so that all
// views of it agree.

const NARROW = 620; // a narrower figure has its slots in shorter lines, in CSS pixels
const IN_LINE = { wide: 64, narrow: 32 }; // slots
const NAMED_PARTS = 3; // characters that the sentence names
const GLYPHS = { "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d", " ": "\u2423" };
const NAMES = { "\n": "line break", "\t": "tab", "\r": "carriage return", " ": "space" };

// ---------------------------------------------------------------- reading the model

const indices = (count) => Array.from({ length: count }, (_, i) => i);

/** Look-ups into the traits; `row` counts layers, heads and characters, the last fastest. */
function readModel(model) {
  const text = Array.from(model.get("text"));
  const [layers, heads, slots] = ["layers", "heads", "slots"].map((name) => model.get(name));
  const count = text.length;
  const triangle = (count * (count + 1)) / 2;
  const largest = (name, row) => model.get("largest")[name].getUint16(2 * row, true) / 65535;

  /** The share of each slot that a character writes, or reads: whole steps, and the largest. */
  function cells(name, layer, head, at) {
    const row = (layer * heads + head) * count + at;
    const steps = indices(slots).map((slot) => {
      const place = row * slots + slot;
      const pair = model.get(name).getUint8(place >> 1);
      return place % 2 ? pair & 15 : pair >> 4;
    });
    return { strengths: steps.map((step) => step / 15), largest: largest(name, row) };
  }

  /** The same of the characters that come back: those up to this one. */
  function back(layer, head, at) {
    const table = layer * heads + head;
    const from = table * triangle + (at * (at + 1)) / 2;
    const steps = indices(at + 1).map((earlier) => model.get("back").getUint8(from + earlier));
    return { strengths: steps.map((step) => step / 255), largest: largest("back", table * count + at) };
  }
  return { text, layers, heads, slots, cells, back };
}

// ---------------------------------------------------------------- in words

const glyph = (character) => GLYPHS[character] ?? character;
const named = (character) => NAMES[character] ?? `\u2018${character}\u2019`;
const percent = (share) => (share < 0.005 ? "<\u00a01\u00a0%" : `${Math.round(100 * share)}\u00a0%`);

function listed(parts) {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** What comes back at a character, largest first: "At ‘e’ head 2 reads most from …". */
function sentence(data, { layer, head, at }) {
  const { strengths, largest } = data.back(layer, head, at);
  const place = data.layers.length > 1 ? ` of layer ${data.layers[layer]}` : "";
  const begin = `At ${named(data.text[at])} head ${head + 1}${place}`;
  if (largest === 0) {
    return `${begin} reads nothing: no character has written to the slots that it reads.`;
  }
  const ranked = indices(at + 1).sort((a, b) => strengths[b] - strengths[a] || b - a);
  const shares = strengths.map((strength) => strength * largest);
  const first = ranked.slice(0, NAMED_PARTS).filter((i, n) => n === 0 || shares[i] >= 0.005);
  const words = first.map((i) => {
    const who = i === at ? "itself" : `${named(data.text[i])} ${at - i} before`;
    return `${who} (${percent(shares[i])})`;
  });
  const others = at + 1 - first.length;
  const rest = Math.max(0, 1 - first.reduce((sum, i) => sum + shares[i], 0));
  const more = others > 0
    ? `; ${others === 1 ? "the other character has" : `the other ${others} characters share`} ${percent(rest)}`
    : "";
  return `${begin} reads most from ${listed(words)}${more}.`;
}

/** The slot that the largest share is of: "most to slot 15 (12 %)". */
function mostly({ strengths, largest }, way) {
  const slot = strengths.indexOf(1) + 1;
  return largest === 0 ? "nothing" : `most ${way} slot ${slot} (${percent(largest)})`;
}

// ---------------------------------------------------------------- making elements

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ---------------------------------------------------------------- the parts of the figure

/** Layer and head, each only where there is more than one. */
function makeControls(data) {
  const id = `trix-mr-${Math.random().toString(36).slice(2)}`;
  const choices = {
    layer: data.layers.map(String),
    head: indices(data.heads).map((head) => String(head + 1)),
  };
  const selects = Object.entries(choices).map(([name, values]) =>
    element("select", { id: `${id}-${name}`, "data-name": name },
      ...values.map((value, i) => element("option", { value: i }, value))));
  const fields = selects.map((select) => {
    const { name } = select.dataset;
    const label = element("label", { for: select.id }, name === "layer" ? "Layer" : "Head");
    const field = element("span", { class: "trix-mr-field" }, label, select);
    field.hidden = choices[name].length === 1;
    return field;
  });
  const bar = element("div", { class: "trix-mr-controls" }, ...fields);
  bar.hidden = fields.every((field) => field.hidden);
  const update = (chosen) => selects.forEach((select) => (select.value = chosen[select.dataset.name]));
  return { bar, selects, update };
}

/** The sentence: one focusable control, whose value is the place of the character that reads. */
function makePassage(data) {
  const spans = data.text.map((character, at) =>
    element("span", { "data-at": at }, character === " " ? " " : glyph(character)));
  const box = element("div", {
    class: "trix-mr-passage",
    role: "slider",
    tabindex: 0,
    "aria-label": "Character that reads, in the sentence",
    "aria-orientation": "horizontal",
    "aria-valuemin": 1,
    "aria-valuemax": data.text.length,
  });
  spans.forEach((span, at) => {
    box.append(span);
    if (data.text[at] === "\n") box.append(element("br"));
  });

  function update({ layer, head, at }) {
    const { strengths } = data.back(layer, head, at);
    spans.forEach((span, i) => {
      span.style.setProperty("--part", (strengths[i] ?? 0).toFixed(3));
      span.classList.toggle("trix-mr-here", i === at);
      span.classList.toggle("trix-mr-later", i > at);
    });
    box.setAttribute("aria-valuenow", at + 1);
    const words = sentence(data, { layer, head, at });
    box.setAttribute("aria-valuetext", `${at + 1} of ${data.text.length}. ${words}`);
  }

  /** The character nearest to a point: on the nearest line, then along it. */
  function nearest(x, y, rects = spans.map((span) => span.getBoundingClientRect())) {
    const away = (low, high, value) => Math.max(low - value, 0, value - high);
    let [best, least] = [0, Infinity];
    rects.forEach((rect, at) => {
      const far = 1e4 * away(rect.top, rect.bottom, y) + away(rect.left, rect.right, x);
      if (far < least) [best, least] = [at, far];
    });
    return best;
  }

  /** The character above or below another; the same one where there is no such line. */
  function beside(at, way) {
    const rects = spans.map((span) => span.getBoundingClientRect());
    const middle = (rect) => (rect.top + rect.bottom) / 2;
    const lines = rects.map(middle).filter((y) => way * (y - middle(rects[at])) > rects[at].height / 2);
    if (lines.length === 0) return at;
    const y = way > 0 ? Math.min(...lines) : Math.max(...lines);
    return nearest((rects[at].left + rects[at].right) / 2, y, rects);
  }

  /** Tell `hand` where pointer and keys go: a mouse hovers, a finger taps or slides. */
  function listen(hand) {
    let from = null; // where to go back to if a finger that is down turns out to scroll
    box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      box.focus({ preventScroll: true });
      box.setPointerCapture(event.pointerId);
      from = hand.where();
      hand.move(nearest(event.clientX, event.clientY));
    });
    box.addEventListener("pointermove", (event) => {
      const hovered = event.target.closest("[data-at]");
      if (from !== null) hand.move(nearest(event.clientX, event.clientY));
      else if (event.pointerType === "mouse" && hovered) hand.move(Number(hovered.dataset.at));
    });
    for (const end of ["pointerup", "pointerleave"]) {
      box.addEventListener(end, () => {
        from = null;
        hand.letGo();
      });
    }
    box.addEventListener("pointercancel", () => {
      if (from !== null) hand.move(from);
      from = null;
    });
    box.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const here = hand.where();
      const last = data.text.length - 1;
      const goes = {
        ArrowLeft: () => here - 1,
        ArrowRight: () => here + 1,
        ArrowUp: () => beside(here, -1),
        ArrowDown: () => beside(here, 1),
        Home: () => 0,
        End: () => last,
      }[event.key];
      if (!goes) return;
      event.preventDefault();
      event.stopPropagation(); // a notebook would move to another cell
      hand.move(Math.min(last, Math.max(0, goes())));
      hand.letGo();
    });
  }
  return { box, update, listen };
}

/** What the tint stands for. */
function makeLegend(data) {
  const most = element("span", { class: "trix-mr-most" });
  const box = element("p", { class: "trix-mr-legend" },
    element("span", {}, "Point at a character: the framed one reads."),
    element("span", { class: "trix-mr-scale" }, "Comes back: 0",
      element("span", { class: "trix-mr-ramp", "aria-hidden": "true" }), most));
  function update({ layer, head, at }) {
    most.textContent = percent(data.back(layer, head, at).largest);
  }
  return { box, update };
}

/** The slots of a head, as a character writes them and as it reads them. */
function makeSlots(data) {
  const rows = [["written", "Writes", "to"], ["read", "Reads", "from"]].map(([name, does, way]) => {
    const cells = indices(data.slots).map((slot) =>
      element("span", { class: "trix-mr-cell", title: `slot ${slot + 1}` }));
    const strip = element("div", { class: "trix-mr-cells", role: "img" }, ...cells);
    const largest = element("span", { class: "trix-mr-note" });
    const head = element("p", { class: "trix-mr-heading" },
      element("strong", {}, does), " ", largest);
    function update({ layer, head, at }) {
      const found = data.cells(name, layer, head, at);
      cells.forEach((cell, slot) => {
        cell.style.setProperty("--part", found.strengths[slot].toFixed(3));
        cell.classList.toggle("trix-mr-top", found.strengths[slot] === 1);
      });
      largest.textContent = mostly(found, way);
      strip.setAttribute("aria-label", `${data.slots} slots. ${does} ${mostly(found, way)}`);
    }
    return { box: element("div", { class: "trix-mr-slots", "data-name": name }, head, strip), update };
  });
  return { boxes: rows.map((row) => row.box), update: (chosen) => rows.forEach((row) => row.update(chosen)) };
}

// ---------------------------------------------------------------- the figure

function render({ model, el }) {
  const data = readModel(model);
  const colours = model.get("colours");
  const controls = makeControls(data);
  const passage = makePassage(data);
  const legend = makeLegend(data);
  const slots = makeSlots(data);
  const words = element("p", { class: "trix-mr-words" });
  const status = element("p", { class: "trix-mr-hidden", "aria-live": "polite" });
  const figure = element("div", {
    class: "trix-mr", role: "group", "aria-label": model.get("alt"),
    style: `--written: ${colours.written}; --read: ${colours.read}`,
  }, controls.bar, passage.box, legend.box, words, ...slots.boxes, status);
  el.append(figure);

  const chosen = () => ({ layer: model.get("layer"), head: model.get("head"), at: model.get("position") });
  function update() {
    const now = chosen();
    for (const part of [controls, passage, legend, slots]) part.update(now);
    words.textContent = sentence(data, now);
  }

  function choose(name, value) {
    if (model.get(name) !== value) model.set(name, value);
  }

  passage.listen({
    where: () => model.get("position"),
    move: (to) => choose("position", to),
    letGo: () => model.save_changes(),
  });
  controls.selects.forEach((select) => {
    select.addEventListener("change", () => {
      choose(select.dataset.name, Number(select.value));
      model.save_changes();
      status.textContent = words.textContent; // of a new place the passage's own value tells
    });
    select.addEventListener("keydown", (event) => event.stopPropagation()); // as above
  });

  const watcher = new ResizeObserver(() => {
    const narrow = figure.getBoundingClientRect().width < NARROW;
    const most = narrow ? IN_LINE.narrow : IN_LINE.wide;
    figure.style.setProperty("--in-line", Math.min(data.slots, most));
    figure.classList.toggle("trix-mr-narrow", narrow);
  });
  const watched = ["position", "layer", "head"].map((name) => `change:${name}`);
  watched.forEach((event) => model.on(event, update));
  update();
  watcher.observe(figure);
  return () => {
    watcher.disconnect();
    watched.forEach((event) => model.off(event, update));
  };
}

export default { render };
