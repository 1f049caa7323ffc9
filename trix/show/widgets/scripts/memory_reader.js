// MemoryReader: a sentence, the slots that each character writes and reads, and what comes back.

const NARROW = 620; // a narrower figure has its slots in shorter lines, in CSS pixels
const IN_LINE = { wide: 64, narrow: 32 }; // slots
const NAMED_PARTS = 3; // characters that the sentence names

// ---------------------------------------------------------------- reading the model

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

const least = (share) => (share < 0.005 ? "<\u00a01\u00a0%" : percent(share));

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
    return `${who} (${least(shares[i])})`;
  });
  const others = at + 1 - first.length;
  const rest = Math.max(0, 1 - sum(first.map((i) => shares[i])));
  const more = others > 0
    ? `; ${others === 1 ? "the other character has" : `the other ${others} characters share`} ${least(rest)}`
    : "";
  return `${begin} reads most from ${listed(words)}${more}.`;
}

/** The slot that the largest share is of: "most to slot 15 (12 %)". */
function mostly({ strengths, largest }, way) {
  const slot = strengths.indexOf(1) + 1;
  return largest === 0 ? "nothing" : `most ${way} slot ${slot} (${least(largest)})`;
}

// ---------------------------------------------------------------- the parts of the figure

/** Layer and head, each only where there is more than one. */
function makeControls(data, pick) {
  const choices = { layer: data.layers, head: indices(data.heads).map((head) => head + 1) };
  const selects = Object.entries(choices).map(([name, values]) => {
    const select = element("select", { "data-name": name },
      ...values.map((value, i) => element("option", { value: i }, String(value))));
    select.addEventListener("change", () => pick(name, Number(select.value)));
    return select;
  });
  const fields = selects.map((select) => {
    const field = makeField(select.dataset.name === "layer" ? "Layer" : "Head", select);
    field.hidden = select.options.length === 1;
    return field;
  });
  const bar = element("div", { class: "kit-controls" }, ...fields);
  bar.hidden = fields.every((field) => field.hidden);
  const update = (chosen) => selects.forEach((select) => (select.value = chosen[select.dataset.name]));
  return { bar, update };
}

/** The sentence; its value is the place of the character that reads. */
function makeTinted(data) {
  const { box, spans, listen } =
    makePassage(data.text, "Character that reads, in the sentence", { hovers: true });

  function update({ layer, head, at }) {
    const { strengths } = data.back(layer, head, at);
    spans.forEach((span, i) => {
      span.style.setProperty("--part", (strengths[i] ?? 0).toFixed(3));
      span.classList.toggle("next", i === at);
      span.classList.toggle("trix-mr-later", i > at);
    });
    box.setAttribute("aria-valuenow", at + 1);
    const words = sentence(data, { layer, head, at });
    box.setAttribute("aria-valuetext", `${at + 1} of ${data.text.length}. ${words}`);
  }
  return { box, update, listen };
}

/** What the tint stands for. */
function makeLegend(data) {
  const most = element("span", { class: "trix-mr-most" });
  const box = element("p", { class: "kit-legend" },
    element("span", {}, "Point at a character: the framed one reads."),
    element("span", { class: "trix-mr-scale" }, "Comes back: 0",
      element("span", { class: "ramp", "aria-hidden": "true" }), most));
  function update({ layer, head, at }) {
    most.textContent = least(data.back(layer, head, at).largest);
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

function render(view) {
  const { model } = view;
  const data = readModel(model);
  const colours = model.get("colours");
  const controls = makeControls(data, (name, value) => {
    figure.choose({ [name]: value });
    figure.say(() => words.textContent, 0); // of a new place the passage's own value tells
  });
  const passage = makeTinted(data);
  const legend = makeLegend(data);
  const slots = makeSlots(data);
  const words = element("p", { class: "kit-outcome trix-mr-words" });
  const figure = makeFigure(view, {
    kind: "trix-mr", style: `--written: ${colours.written}; --read: ${colours.read}`,
  }, controls.bar, passage.box, legend.box, words, ...slots.boxes);

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
  figure.measureWidth(figure.root, (width) => {
    const narrow = width < NARROW;
    const most = narrow ? IN_LINE.narrow : IN_LINE.wide;
    figure.root.style.setProperty("--in-line", Math.min(data.slots, most));
    figure.root.classList.toggle("trix-mr-narrow", narrow);
  });
  return figure.start(["position", "layer", "head"], update);
}

export default { render };
