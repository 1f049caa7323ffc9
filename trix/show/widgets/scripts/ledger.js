// Ledger: every claim with its verdict, to be filtered, sorted and opened.

const CHOSEN = ["verdicts", "part", "order", "query", "opened"];
// in a box of 16 by 16; the same marks as in the picture of all verdicts
const SHAPES = {
  o: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0 -11z",
  "*": "M8 .8l1.8 5.1 5.4.1-4.3 3.3 1.6 5.2L8 11.4l-4.5 3.1 1.6-5.2L.8 6l5.4-.1z",
  D: "M8 1.5L14.5 8 8 14.5 1.5 8z",
  X: "M4.6 1.8L8 5.2l3.4-3.4 2.8 2.8L10.8 8l3.4 3.4-2.8 2.8L8 10.8l-3.4 3.4-2.8-2.8L5.2 8 1.8 4.6z",
};
const WIDE = 100; // of a gain's picture, in its own units
const KEY = "Each bar is an interval on a scale of its own: a thin line at nothing gained, dashes at the margin.";

// ---------------------------------------------------------------- what is shown

/** The words of a claim, in lower case, for a query to be found in. */
const wordsOf = (row) =>
  [row.id, row.verdict, row.statement, row.seed, row.source, row.protocol, row.ours, row.control,
    row.arm, row.reason, row.chapter, ...row.records, ...row.gains.map((gain) => gain.arm)]
    .join(" ")
    .toLowerCase();

const asks = (query) => query.toLowerCase().split(/\s+/).filter(Boolean);

/** Whether a claim passes part and query, and, unless they are left out, verdicts. */
function passes(row, { verdicts, part, query }, withVerdicts = true) {
  if (withVerdicts && verdicts.length && !verdicts.includes(row.verdict)) return false;
  if (part && row.id[0] !== part) return false;
  return asks(query).every((word) => row.words.includes(word));
}

/** Order of two rows; where nothing else tells them apart, as in the ledger. */
function compare(order, ranks) {
  const ways = {
    id: () => 0,
    verdict: (a, b) => ranks[a.verdict] - ranks[b.verdict],
    size: (a, b) => (b.size ?? -Infinity) - (a.size ?? -Infinity) || 0, // no size comes last
  };
  return (a, b) => ways[order](a, b) || a.place - b.place;
}

// ---------------------------------------------------------------- making elements

function markOf({ colour, marker, filled }) {
  const paint = filled ? `fill: ${colour}` : "fill: none; stroke: currentColor; stroke-width: 1.6";
  return shape("svg", { class: "trix-lg-mark", viewBox: "0 0 16 16", "aria-hidden": "true" },
    shape("path", { d: SHAPES[marker], style: paint }));
}

/** Text in which a long name may break after a stroke. */
function breaking(text) {
  const parts = text.split(/(?<=[/])/);
  return parts.flatMap((part, i) => (i ? [element("wbr"), part] : [part]));
}

// ---------------------------------------------------------------- a row

/** Where gains lie: the interval as a bar, its mean, no gain at all, and the lines of the rule. */
function strip(gain, [low, high]) {
  const at = (value) => (100 * (value - low)) / (high - low);
  const tick = (value, name) =>
    shape("line", { class: name, x1: at(value), x2: at(value), y1: 0, y2: 14 });
  const [from, mean, to] = gain.interval;
  return shape("svg", {
    class: "trix-lg-strip", viewBox: `0 0 ${WIDE} 14`, preserveAspectRatio: "none", "aria-hidden": "true",
  },
  shape("line", { class: "trix-lg-axis", x1: 0, x2: WIDE, y1: 7, y2: 7 }),
  tick(0, "trix-lg-zero"),
  ...gain.lines.map((line) => tick(line, "trix-lg-line")),
  shape("line", { class: "trix-lg-bar", x1: at(from), x2: Math.max(at(to), at(from) + 0.8), y1: 7, y2: 7 }),
  tick(mean, "trix-lg-mean"));
}

/** The gains of a claim, in words and each on a scale of its own: some are a hundred times others. */
function gainsOf(row) {
  const rows = row.gains.map((gain) => {
    const name = element("span", { class: "trix-lg-over" },
      `over ${gain.role} `, element("span", { class: "trix-lg-arm" }, ...breaking(gain.arm)));
    const said = element("span", { class: "trix-lg-said" }, gain.said);
    const item = element("li", {}, name, said);
    if (gain.interval) {
      const all = [0, ...gain.lines, ...gain.interval];
      const [least, most] = [Math.min(...all), Math.max(...all)];
      const room = 0.06 * (most - least) || 1;
      item.append(strip(gain, [least - room, most + room]));
    }
    return item;
  });
  if (row.gains.some((gain) => gain.interval)) rows.push(element("li", { class: "trix-lg-key" }, KEY));
  return element("ul", { class: "trix-lg-gains" }, ...rows);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // not allowed, or no secure page: by hand
    const field = element("textarea", { readonly: "", style: "position: fixed; opacity: 0" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (!done) throw new Error("the browser does not copy");
  }
}

function link(pattern, name, shown = name) {
  return element("a", { href: pattern.replace("{}", encodeURIComponent(name)) }, ...breaking(shown));
}

function term(name, ...values) {
  return [element("dt", {}, name), element("dd", {}, ...values)];
}

/** What opens below a claim. */
function makeBody(row, places, say) {
  const button = makeButton("Copy", async () => {
    const label = await copy(row.command).then(() => "Copied", () => "Not copied");
    button.textContent = label;
    say(`${label}: ${row.command}`);
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }, { class: "trix-lg-copy", "aria-label": `Copy the command ${row.command}` });
  const files = row.records.flatMap((name, i) => [i ? ", " : "", link(places.records, name)]);
  const open = row.verdict === "open";
  return element("dl", { class: "trix-lg-body" },
    ...term("the source", row.seed || "no figure", element("span", { class: "trix-lg-note" }, ` (${row.source})`)),
    ...term("ours", row.ours || "nothing on record yet",
      element("span", { class: "trix-lg-note" }, " (", ...breaking(row.arm), `; protocol: ${row.protocol})`)),
    ...term("the control", row.control),
    ...term("gains", gainsOf(row)),
    ...(row.reason ? term("why open", `${row.reason[0].toUpperCase()}${row.reason.slice(1)}.`) : []),
    ...term("read on", link(places.chapter, row.chapter)),
    ...term("records", ...(files.length ? files : ["none yet"])),
    ...term(open ? "would settle it" : "repeats it",
      element("span", { class: "trix-lg-command" }, element("code", {}, row.command), button)));
}

function makeRow(row, mark, places, id, hand) {
  const body = element("div", { id, class: "trix-lg-fold" });
  const head = makeButton("", () => hand.toggle(row.id), { class: "trix-lg-head", "aria-controls": id });
  head.append(markOf(mark),
    element("span", { class: "trix-lg-id" }, row.id),
    element("span", { class: "trix-lg-statement" }, row.statement),
    element("span", { class: "trix-lg-verdict" }, row.verdict));
  const box = element("li", { class: "trix-lg-row", "data-id": row.id }, head, body);

  function update(opened) {
    if (opened && !body.firstChild) body.append(makeBody(row, places, hand.say));
    body.hidden = !opened;
    head.setAttribute("aria-expanded", String(opened));
    box.classList.toggle("trix-lg-opened", opened);
  }
  return { row, box, head, update };
}

// ---------------------------------------------------------------- the controls

function makeControls(model, hand) {
  const filters = model.get("marks").map(([verdict, mark]) => {
    const count = element("span", { class: "trix-lg-count" });
    const button = makeButton("", () => hand.filter(verdict), { class: "trix-lg-filter" });
    button.append(markOf(mark), `${verdict} `, count);
    return { verdict, button, count };
  });
  const part = element("select", {},
    element("option", { value: "" }, "all"),
    ...model.get("parts").map(([letter, name]) => element("option", { value: letter }, `${letter}: ${name}`)));
  const order = element("select", {},
    ...model.get("orders").map(([name, words]) => element("option", { value: name }, words)));
  const query = element("input", {
    type: "search", autocomplete: "off", spellcheck: "false",
  });
  part.addEventListener("change", () => hand.choose("part", part.value));
  order.addEventListener("change", () => hand.choose("order", order.value));
  query.addEventListener("input", () => hand.choose("query", query.value));
  const group = element("div", { class: "trix-lg-filters", role: "group", "aria-label": "Verdicts that are shown" },
    ...filters.map(({ button }) => button));
  const box = element("div", { class: "trix-lg-controls" }, group,
    element("div", { class: "trix-lg-fields" },
      makeField("Part", part), makeField("Sort by", order), makeField("Search", query)));

  function update(chosen, rows) {
    filters.forEach(({ verdict, button, count }) => {
      const found = rows.filter((row) => row.verdict === verdict && passes(row, chosen, false));
      count.textContent = found.length;
      button.setAttribute("aria-pressed", String(chosen.verdicts.includes(verdict)));
    });
    part.value = chosen.part;
    order.value = chosen.order;
    if (query.value !== chosen.query) query.value = chosen.query; // typing keeps its place
  }
  return { box, update };
}

// ---------------------------------------------------------------- the table

function render(view) {
  const { model } = view;
  const id = unique();
  // a page that was built keeps the widgets' state in itself, and a notebook does not
  const built = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
  const places = model.get("places")[built ? "page" : "notebook"];
  const marks = Object.fromEntries(model.get("marks"));
  const ranks = Object.fromEntries(model.get("marks").map(([verdict], i) => [verdict, i]));
  const rows = model.get("rows").map((row, place) => ({ ...row, place, words: wordsOf(row) }));

  const hand = {
    choose: (name, value) => figure.choose({ [name]: value }),
    filter(verdict) {
      hand.choose("verdicts", without(model.get("verdicts"), verdict));
    },
    toggle(name) {
      hand.choose("opened", without(model.get("opened"), name));
    },
    say: (words) => figure.say(() => words, 0),
  };
  /** The list with or, where it was there, without a value. */
  const without = (list, value) =>
    list.includes(value) ? list.filter((one) => one !== value) : [...list, value];

  const controls = makeControls(model, hand);
  const reset = makeButton("Show all",
    () => figure.choose({ verdicts: [], part: "", query: "" }), { class: "trix-lg-reset" });
  const status = element("p", { class: "trix-lg-status", role: "status" });
  const list = element("ul", { class: "trix-lg-list" });
  const made = rows.map((row) => makeRow(row, marks[row.verdict], places, `${id}-${row.id}`, hand));
  const figure = makeFigure(view, { kind: "trix-lg" },
    controls.box, element("div", { class: "trix-lg-found" }, status, reset), list);

  function update() {
    const chosen = Object.fromEntries(CHOSEN.map((name) => [name, model.get(name)]));
    controls.update(chosen, rows);
    const by = compare(chosen.order, ranks);
    const sorted = [...made].sort((a, b) => by(a.row, b.row));
    const focused = document.activeElement;
    if (sorted.some(({ box }, i) => list.children[i] !== box)) list.append(...sorted.map(({ box }) => box));
    if (figure.root.contains(focused)) focused.focus({ preventScroll: true });
    let shown = 0;
    for (const one of made) {
      one.box.hidden = !passes(one.row, chosen);
      shown += !one.box.hidden;
      one.update(chosen.opened.includes(one.row.id));
    }
    const all = rows.length;
    status.textContent = shown === 0 ? "No claim is like that."
      : shown === all ? `All ${all} claims.` : `${shown} of ${all} claims.`;
    reset.hidden = shown === all;
  }

  return figure.start(CHOSEN, update);
}

export default { render };
