// ContextLens: a passage, the last characters as an address, and what a count table reads there.

const MOST_NATS = 5; // where the passage's tint is strongest
const MOST_TINT = 0.55; // its opacity there: text on it keeps a contrast of 4.5 : 1

// ---------------------------------------------------------------- reading the model

/** Look-ups into the traits; `at` is a position in the passage, `order` from 1. */
function readModel(model) {
  const passage = Array.from(model.get("passage"));
  const alphabet = Array.from(model.get("alphabet"));
  const orders = model.get("orders");
  const costs = floatsIn(model.get("costs"));
  const likeliest = numbersIn(model.get("likeliest"), 2, "getUint16");
  const shares = floatsIn(model.get("shares"));
  const totals = numbersIn(model.get("totals"), 4, "getUint32");
  const distincts = numbersIn(model.get("distincts"), 4, "getUint32");
  const shown = shares.length / costs.length;

  const cost = (at, order) => costs[(order - 1) * passage.length + at];
  const means = indices(orders).map((n) =>
    sum(passage.map((_, at) => cost(at, n + 1))) / passage.length);
  return {
    passage,
    orders,
    cost,
    shown,
    mean: (order) => means[order - 1],
    /** How many characters the address has: fewer than the order wants where the passage begins. */
    reach: (at, order) => Math.min(order - 1, at),
    /** What stands at the address of the last n characters. */
    evidence: (at, n) => ({ total: totals[at * orders + n], distinct: distincts[at * orders + n] }),
    /** The likeliest next characters; the true one is added behind them if it is not one of them. */
    rows(at, order) {
      const from = ((order - 1) * passage.length + at) * shown;
      const rows = shares.slice(from, from + shown).map((share, i) => {
        const character = alphabet[likeliest[from + i]];
        return { character, share, isNext: character === passage[at] };
      });
      if (rows.some((row) => row.isNext)) return rows;
      return [...rows, { character: passage[at], share: Math.exp(-cost(at, order)), isNext: true }];
    },
  };
}

// ---------------------------------------------------------------- in words

const bits = (cost) => `${(cost / Math.LN2).toFixed(2)} bits`;
const code = (characters, kind) => element("code", { class: kind }, characters.map(glyph).join(""));

/** What the reader's place is called aloud: the character, and the address before it. */
function spoken(character, before, cost) {
  const name = NAMES[character] ?? character;
  const address = before.map((one) => (one === "\n" ? " line break " : one)).join("");
  return `${name}${before.length ? ` after \u201c${address}\u201d` : ""}, ${nats(cost)}`;
}

/** What the table finds at the address, and how far it trusts that. */
function evidenceText(lens, at, order) {
  const reach = lens.reach(at, order);
  const before = (n) => quoted(lens.passage.slice(at - n, at));
  let known = reach;
  while (known > 0 && lens.evidence(at, known).total === 0) known--;
  const { total, distinct } = lens.evidence(at, known);
  const followers = distinct > 1 ? many(distinct, "different character") : "one character only";

  let text = "";
  if (reach < order - 1) {
    text += reach === 0 ? "The passage begins here. " : "So near its beginning the passage has no more. ";
  }
  if (known === 0) {
    const nothing = reach === 0
      ? "With no address, "
      : `${before(reach)} never stands in the training text, nor does any end of it: `;
    return `${text}${nothing}all there is to read is how frequent each character is.`;
  }
  text += known === reach
    ? `${before(reach)} stands ${times(total)} in the training text, `
    : `${before(reach)} never stands in the training text; its longest end that does is ${before(known)}: ${times(total)}, `;
  text += `followed by ${followers}. `;
  return `${text}That is trusted with ${fine(total / (total + distinct))}; shorter addresses say the rest.`;
}

function orderText(order) {
  if (order === 1) return "looks at no characters";
  return order === 2 ? "looks at the last character" : `looks at the last ${order - 1} characters`;
}

// ---------------------------------------------------------------- the parts of the figure

/** The passage, tinted by the cost of each character. */
function makeTinted(lens, surprise) {
  const { box, spans, listen } = makePassage(lens.passage, "Character to predict, in the passage");

  function update(position, order) {
    const begin = position - lens.reach(position, order);
    spans.forEach((span, at) => {
      const tint = MOST_TINT * Math.min(1, lens.cost(at, order) / MOST_NATS);
      span.style.backgroundColor = `rgb(${surprise} / ${tint.toFixed(3)})`;
      span.classList.toggle("address", at >= begin && at < position);
      span.classList.toggle("next", at === position);
    });
    const [next, before] = [lens.passage[position], lens.passage.slice(begin, position)];
    box.setAttribute("aria-valuenow", position + 1);
    box.setAttribute("aria-valuetext", spoken(next, before, lens.cost(position, order)));
  }
  return { box, update, listen };
}

/** What the tint stands for, and the mean of it. */
function makeLegend(lens) {
  const mean = element("strong");
  const line = element("p", { class: "mean" });
  const scale = element("p", { class: "scale" },
    element("span", {}, "0 nats (certain)"),
    element("span", { class: "ramp", "aria-hidden": "true" }),
    element("span", {}, `${MOST_NATS} or more (a surprise)`));

  function update(order) {
    mean.textContent = `${nats(lens.mean(order))} a character`;
    line.replaceChildren(`The passage at order ${order}: `, mean, ` (${bits(lens.mean(order))}).`);
  }
  return { box: element("div", { class: "kit-legend" }, line, scale), update };
}

/** The cost of one character at each order, standing on the slider that chooses the order. */
function makeStrip(lens) {
  const id = unique();
  const numbers = indices(lens.orders).map((n) => n + 1);
  const columns = numbers.map((order) =>
    element("span", { class: "column", "data-order": order },
      element("span", { class: "value" }),
      element("span", { class: "bar" }),
      element("span", { class: "passage-mean" })));
  const slider = element("input", {
    type: "range", min: 1, max: lens.orders, step: 1, id, "aria-label": "Order of the table",
  });
  const ticks = numbers.map((order) => element("span", {}, String(order)));
  const name = element("label", { for: id });
  const title = element("p", { class: "title" });
  const box = element("div", { class: "strip" },
    title,
    element("div", { class: "columns", "aria-hidden": "true" }, ...columns),
    slider,
    element("div", { class: "ticks", "aria-hidden": "true" }, ...ticks),
    name,
    element("p", { class: "key" },
      element("span", { class: "key-bar" }), "this character ",
      element("span", { class: "key-mean" }), "mean of the passage"),
  );

  function update(position, order) {
    title.replaceChildren("Cost of ", code([lens.passage[position]], "next"), " at each order, in nats");
    const costs = numbers.map((n) => lens.cost(position, n));
    const top = Math.max(MOST_NATS, ...costs); // the same scale for all but the rarest surprises
    columns.forEach((column, n) => {
      const [cost, mean] = [costs[n], lens.mean(n + 1)];
      column.style.setProperty("--cost", cost / top);
      column.style.setProperty("--mean", mean / top);
      column.dataset.cost = cost;
      column.firstElementChild.textContent = cost.toFixed(1);
      column.classList.toggle("current", n + 1 === order);
      ticks[n].classList.toggle("current", n + 1 === order);
    });
    name.replaceChildren(element("strong", {}, `Order ${order}`), ` ${orderText(order)}`);
    slider.value = order;
    const cost = nats(lens.cost(position, order));
    slider.setAttribute(
      "aria-valuetext",
      `${order}, ${orderText(order)}; this character ${cost}, the passage ${nats(lens.mean(order))}`,
    );
  }
  return { box, slider, columns, update };
}

/** The address, what was found there, the likeliest next characters and the true one's cost. */
function makeReading(lens) {
  const address = element("p", { class: "lookup" });
  const found = element("p", { class: "found" });
  // The last row is for a true next character that is not among the likeliest.
  const rows = indices(lens.shown + 1).map((i) =>
    element("div", { class: i < lens.shown ? "entry" : "entry beyond", role: "listitem" },
      element("code", { class: "character" }),
      element("span", { class: "kit-track" }, element("span", { class: "kit-fill" })),
      element("span", { class: "share" }),
      element("span", { class: "came" })));
  const list = element("div", { class: "entries", role: "list", "aria-label": "Likeliest next characters" });
  list.append(...rows);
  const cost = element("p", { class: "cost" });

  function update(position, order) {
    const next = lens.passage[position];
    const before = lens.passage.slice(position - lens.reach(position, order), position);
    address.replaceChildren(
      element("span", { class: "hint" }, "Address"),
      before.length ? code(before, "address") : element("span", { class: "nothing" }, "empty"),
      element("span", { class: "hint" }, "then came"),
      code([next], "next"),
    );
    found.textContent = evidenceText(lens, position, order);
    const shown = lens.rows(position, order);
    rows.forEach((row, i) => {
      const one = shown[i];
      row.classList.toggle("unused", !one);
      if (!one) return;
      const [character, track, share, came] = row.children;
      row.classList.toggle("is-next", one.isNext);
      row.dataset.character = one.character;
      row.dataset.share = one.share;
      character.textContent = glyph(one.character);
      track.firstElementChild.style.width = `${100 * one.share}%`;
      share.textContent = fine(one.share);
      came.textContent = one.isNext ? "\u25c2 came next" : "";
    });
    const price = lens.cost(position, order);
    cost.replaceChildren(
      "Cost of ", code([next], "next"), ": ", element("strong", {}, nats(price)), ` (${bits(price)})`,
    );
  }
  return { box: element("div", { class: "reading" }, address, found, list, cost), update };
}

// ---------------------------------------------------------------- the figure

function render(view) {
  const { model } = view;
  const lens = readModel(model);
  const colours = model.get("colours");
  const passage = makeTinted(lens, rgbOf(colours.surprise));
  const legend = makeLegend(lens);
  const strip = makeStrip(lens);
  const reading = makeReading(lens);
  const figure = makeFigure(view, {
    kind: "trix-context-lens",
    style: `--surprise: ${rgbOf(colours.surprise)}; --tile: ${colours.read}; --most-tint: ${MOST_TINT}`,
  }, passage.box, legend.box, element("div", { class: "panel" }, strip.box, reading.box));

  const position = () => model.get("position");
  const order = () => model.get("order");

  function update() {
    passage.update(position(), order());
    legend.update(order());
    strip.update(position(), order());
    reading.update(position(), order());
  }

  function choose(name, value) {
    model.set(name, value);
    figure.say(() => evidenceText(lens, position(), order()));
  }

  passage.listen({
    where: position,
    move: (to) => choose("position", to),
    letGo: () => model.save_changes(),
  });
  strip.slider.addEventListener("input", () => choose("order", Number(strip.slider.value)));
  strip.slider.addEventListener("change", () => model.save_changes());
  strip.columns.forEach((column, n) =>
    column.addEventListener("click", () => {
      choose("order", n + 1);
      model.save_changes();
    }));

  return figure.start(["order", "position"], update);
}

export default { render };
