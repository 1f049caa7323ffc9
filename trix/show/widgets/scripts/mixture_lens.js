// MixtureLens: lines of text as a look-it-up model sees them, and whom its gate believed where.

const FAINTEST = 0.1; // the tint of the shortest order
const STRONGEST = 0.55; // of the longest, and of what is no order: text on it keeps 4.5 : 1
const LETTERS_OF_LINE = 40; // in the list of lines
const LETTERS_OF_ADDRESS = 12; // in the sentence
const PAGE = unique(); // by which this page asks for a kernel

// ---------------------------------------------------------------- reading the model

/** The places of the model: their names, what stands below a character, their kind and tint. */
function readPlaces(model) {
  const orders = model.get("orders");
  const colours = model.get("colours");
  const tint = (kind, alpha) => `rgb(${rgbOf(colours[kind])} / ${alpha.toFixed(3)})`;
  const other = (kind, name) =>
    ({ name, mark: name[0].toUpperCase(), kind, tint: tint(kind, STRONGEST) });
  const places = indices(orders).map((i) => {
    const alpha = FAINTEST + ((STRONGEST - FAINTEST) * i) / Math.max(1, orders - 1);
    return { name: `order ${i + 1}`, mark: String(i + 1), kind: "orders", tint: tint("orders", alpha) };
  });
  places.push(...model.get("words").map((name) => other("words", name)));
  if (model.get("network")) places.push(other("network", "network"));
  return places;
}

/** Look-ups into one line; `at` is a position from 1, the last source is the blend. */
function readLine(entry, alphabet, places) {
  const text = Array.from(entry.text);
  const sources = places.length + 1;
  const tables = places.filter(({ kind }) => kind !== "network").length;
  const costs = floatsIn(entry.costs);
  const weights = numbersIn(entry.weights, 2, "getUint16");
  const likeliest = numbersIn(entry.likeliest, 2, "getUint16");
  const shares = numbersIn(entry.shares, 2, "getUint16");
  const totals = numbersIn(entry.totals, 4, "getUint32");
  const reaches = numbersIn(entry.reaches, 1, "getUint8");
  const inverse_temperature = floatsIn(entry.inverse_temperature);
  const shown = shares.length / costs.length;

  const cost = (at, source) => costs[(at - 1) * sources + source];
  const weight = (at, place) => weights[(at - 1) * places.length + place] / 65535;
  const predicted = indices(text.length).slice(1);
  const leads = predicted.map((at) =>
    argmax(indices(places.length).map((i) => weight(at, i))));
  return {
    text,
    cost,
    weight,
    blend: places.length,
    mean: sum(predicted.map((at) => cost(at, places.length))) / predicted.length,
    leader: (at) => leads[at - 1],
    led: (place) => leads.filter((one) => one === place).length,
    /** How often a table's address was seen; 0 too where the line has none. */
    total: (at, source) => (source < tables ? totals[(at - 1) * tables + source] : 0),
    /** The part of the line that a table's address is; order 1 and the network have none. */
    address(at, source) {
      const reach = source < tables ? reaches[(at - 1) * tables + source] : 0;
      return text.slice(at - reach, at);
    },
    /** Whether a source has something of its own to say. */
    knows: (at, source) => source === 0 || source >= tables || totals[(at - 1) * tables + source] > 0,
    inverse_temperature: (at) => inverse_temperature[at - 1],
    likeliest(at, source) {
      const from = ((at - 1) * sources + source) * shown;
      return indices(shown).map((i) => {
        const character = alphabet[likeliest[from + i]];
        return { character, share: shares[from + i] / 65535, isNext: character === text[at] };
      });
    },
  };
}

// ---------------------------------------------------------------- in words

const bare = (character) => NAMES[character] ?? character;
const SAID = {
  word: "the word so far", pair: "the pair of words", apart: "the words apart", line: "the line",
  echo: "an echo", refrain: "a refrain",
};
const BESIDES = {
  apart: ", whatever the middle word,", line: ", that far into a line,",
  echo: ", earlier in this line,", refrain: ", earlier in this line,",
};
const ending = (characters) => (characters.length > LETTERS_OF_ADDRESS
  ? ["\u2026", ...characters.slice(-LETTERS_OF_ADDRESS)] : characters);

/** Who has most weight at a character, what that one has seen, and what the blend makes of it. */
function sentence(line, places, at) {
  const lead = line.leader(at);
  const { name, kind } = places[lead];
  const address = line.address(at, lead);
  let text = `Before \u201c${glyph(line.text[at])}\u201d most weight is with `;
  text += kind === "network" ? "the network" : (SAID[name] ?? name);
  text += ` (${fine(line.weight(at, lead))})`;
  if (address.length > 0) {
    text += `: its address ${quoted(ending(address))}${BESIDES[name] ?? ""} was seen ${times(line.total(at, lead))}`;
  }
  const price = line.cost(at, line.blend);
  text += `. The blend, to the power ${line.inverse_temperature(at).toFixed(2)}, gives `;
  return `${text}\u201c${glyph(line.text[at])}\u201d ${fine(Math.exp(-price))}: ${nats(price)}.`;
}

// ---------------------------------------------------------------- the parts of the figure

/** Which line: one of those given, or, where somebody reads it, one that is typed. */
function makeControls(read) {
  const id = unique();
  const select = element("select", { id: `${id}-line` });
  const input = element("input", {
    id: `${id}-typed`, type: "text", maxlength: 300, autocomplete: "off", spellcheck: "false",
  });
  const button = makeButton("Read it", () => read(input.value));
  const typing = element("div", { class: "field typing", hidden: true },
    element("label", { for: input.id }, "or type one"), input, button);
  const absent = element("p", { class: "absent" }, "Where a kernel runs, you can type a line of your own here.");
  const refused = element("p", { class: "refused", role: "alert" });
  const box = element("div", { class: "controls" },
    element("div", { class: "field" }, element("label", { for: select.id }, "Line"), select),
    typing, absent, refused);

  function list(lines, chosen) {
    select.replaceChildren(...lines.map(({ text }, i) => {
      const plain = text.replace(/\s+/g, " ").trim();
      const short = plain.length > LETTERS_OF_LINE ? `${plain.slice(0, LETTERS_OF_LINE)}\u2026` : plain;
      return element("option", { value: i }, short);
    }));
    select.value = chosen;
  }
  function listens(yes) {
    typing.hidden = !yes;
    absent.hidden = yes;
  }
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    read(input.value);
  });
  return { box, select, refused, list, listens };
}

/** The line, each character tinted by who leads, with that one's mark below it. */
function makeTinted(line, places) {
  const { box, spans, listen } = makePassage(line.text, "Character to predict, in the line", { first: 1 });
  spans.forEach((span, at) => {
    if (at === 0) return;
    const place = places[line.leader(at)];
    span.dataset.lead = place.mark;
    span.style.backgroundColor = place.tint;
  });
  spans[0].classList.add("given");

  function update(at) {
    const lead = line.leader(at);
    const reach = line.address(at, lead).length;
    spans.forEach((span, i) => {
      span.classList.toggle("address", i >= at - reach && i < at);
      span.classList.toggle("next", i === at);
    });
    box.setAttribute("aria-valuenow", at + 1);
    const price = nats(line.cost(at, line.blend));
    box.setAttribute("aria-valuetext", `${bare(line.text[at])}, ${places[lead].name} leads, ${price}`);
  }
  return { box, update, listen };
}

/** What the marks stand for. */
function hint(places) {
  const others = places.filter(({ kind }) => kind !== "orders")
    .map(({ mark, name, kind }) => `${mark} for ${kind === "network" ? "the " : ""}${name}`);
  const last = others.pop();
  return `Leads: order${others.map((one) => `, ${one}`).join("")}${last ? `, or ${last}` : ""}; how often`;
}

/** What the tints stand for, with how often each place leads in the line; and the line's cost. */
function makeLegend(places) {
  const counts = places.map(() => element("span", { class: "count" }));
  const mean = element("p", { class: "mean" });
  const keys = element("ul", { class: "keys", "aria-label": "Characters that each place leads" },
    ...places.map((place, i) => element("li", { title: place.name },
      element("span", { class: "swatch", style: `background-color: ${place.tint}` }, place.mark), counts[i])));
  const box = element("div", { class: "kit-legend" }, mean,
    element("div", { class: "key" },
      element("span", { class: "hint" }, hint(places)), keys));

  function update(line) {
    counts.forEach((count, i) => (count.textContent = String(line.led(i))));
    const cost = element("strong", {}, `${nats(line.mean)} a character`);
    mean.replaceChildren("This line costs the blend ", cost, ".");
  }
  return { box, update };
}

/** A row for each place and one for the blend: address, weight, cost, likeliest characters. */
function makeRows(places, shown) {
  const rows = [...places, { name: "the blend", mark: "blend", kind: "blend", tint: null }].map((place) => {
    const name = element("span", { class: "name" },
      place.tint ? element("span", { class: "swatch", style: `background-color: ${place.tint}` }, place.mark) : "blend");
    const address = element("bdi", { dir: "ltr" }); // so that a long one is cut on the left
    const seen = element("span", { class: "seen" });
    const bar = element("span", { class: "kit-fill bar", style: `background: var(--${place.kind})` });
    const share = element("span", { class: "share" });
    const cost = element("span", { class: "cost" });
    const chips = indices(shown).map(() =>
      element("span", { class: "chip" }, element("code", {}), element("span", { class: "part" })));
    const row = element("div", { class: place.tint ? "source" : "source blend", role: "listitem" },
      name, element("span", { class: "from" }, address), seen,
      element("span", { class: "weight" }, element("span", { class: "kit-track" }, bar), share),
      cost, element("span", { class: "chips" }, ...chips));
    return { place, row, address, seen, bar, share, cost, chips };
  });
  const header = element("div", { class: "source header", "aria-hidden": "true" },
    ...[["name", "place"], ["from", "address"], ["seen", "seen"], ["weight", "weight"], ["cost", "cost"], ["chips", "likeliest next"]]
      .map(([kind, title]) => element("span", { class: kind }, title)));
  const list = element("div", { class: "sources", role: "list", "aria-label": "What each place says" });
  list.append(...rows.map(({ row }) => row));
  const box = element("div", {}, header, list);

  function update(line, at) {
    const lead = line.leader(at);
    rows.forEach(({ place, row, address, seen, bar, share, cost, chips }, source) => {
      const table = place.kind === "orders" || place.kind === "words";
      const known = line.knows(at, source);
      address.textContent = line.address(at, source).map(glyph).join("");
      seen.textContent = !table ? "" : known ? line.total(at, source).toLocaleString("en") : "\u2013";
      const weight = place.tint ? line.weight(at, source) : null;
      bar.style.width = `${100 * (weight ?? 0)}%`;
      share.textContent = weight === null ? "" : known ? fine(weight) : "\u2013";
      row.dataset.weight = weight ?? "";
      cost.textContent = line.cost(at, source).toFixed(2);
      row.classList.toggle("leads", source === lead);
      row.classList.toggle("unknown", !known);
      const best = line.likeliest(at, source);
      chips.forEach((chip, i) => {
        chip.classList.toggle("is-next", best[i].isNext);
        chip.firstChild.textContent = glyph(best[i].character);
        chip.lastChild.textContent = fine(best[i].share);
      });
      const words = best.map((one) => `${bare(one.character)} ${fine(one.share)}`).join(", ");
      const weighs = weight === null || !known ? "" : `, weight ${fine(weight)}`;
      const unseen = known ? "" : ", address never seen";
      row.setAttribute("aria-label",
        `${place.name}${weighs}${unseen}, cost ${nats(line.cost(at, source))}; likeliest: ${words}`);
    });
  }
  return { box, update };
}

// ---------------------------------------------------------------- the figure

function render(view) {
  const { model } = view;
  const alphabet = Array.from(model.get("alphabet"));
  const places = readPlaces(model);
  const colours = model.get("colours");
  const controls = makeControls((typed) => figure.choose({ typed }));
  const stage = element("div", { class: "stage" });
  const legend = makeLegend(places);
  const words = element("p", { class: "kit-outcome words" });
  const first = readLine(model.get("lines")[0], alphabet, places);
  const rows = makeRows(places, first.likeliest(1, 0).length);
  const figure = makeFigure(view, {
    kind: model.get("words").length > 0 ? "trix-mixture-lens longer" : "trix-mixture-lens",
    style: Object.entries(colours).map(([kind, colour]) => `--${kind}: ${colour}`).join("; "),
  }, element("div", { class: "inner" }, controls.box, stage, legend.box, words, rows.box));

  let [line, passage] = [first, null];

  /** Another line: the passage is made anew. */
  function relay() {
    const [lines, chosen] = [model.get("lines"), model.get("line")];
    controls.list(lines, chosen);
    line = readLine(lines[chosen] ?? lines[0], alphabet, places);
    passage = makeTinted(line, places);
    passage.listen({
      where: () => model.get("position"),
      move: (to) => choose("position", to),
      letGo: () => model.save_changes(),
    });
    stage.replaceChildren(passage.box);
    legend.update(line);
    update();
  }

  function update() {
    const at = Math.min(model.get("position"), line.text.length - 1);
    passage.update(at);
    words.textContent = sentence(line, places, at);
    rows.update(line, at);
  }

  function choose(name, value) {
    model.set(name, value);
    figure.say(() => words.textContent);
  }

  function chooseLine(to) {
    const middle = Math.max(1, Math.floor(Array.from(model.get("lines")[to].text).length / 2));
    model.set("position", 1); // which every line has
    choose("line", to);
    model.set("position", middle);
    model.save_changes();
  }

  controls.select.addEventListener("change", () => chooseLine(Number(controls.select.value)));
  const heard = () => controls.listens(model.get("heard") === PAGE);
  const refuse = () => (controls.refused.textContent = model.get("refused"));
  figure.follow(["position"], update);
  figure.start(["heard"], heard);
  figure.start(["refused"], refuse);
  figure.choose({ hail: PAGE });
  return figure.start(["line", "lines"], relay);
}

export default { render };
