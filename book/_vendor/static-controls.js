// The plain controls of ipywidgets as native elements, for pages that have no kernel.
//
// Each function here draws one kind of model into `el` and keeps both in step; static-widgets.js,
// loaded after this, calls them. Models that are joined by `jslink` or `jsdlink` move together.
// A control of class `trix-live` asks Python for its answer: here it is switched off, and the note
// of class `trix-no-kernel` beside it, hidden in a notebook, says why.

(() => {
  let count = 0;

  function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  /** Run `show` now and whenever one of the traits changes. */
  function follow(model, traits, show) {
    for (const trait of traits) model.on(`change:${trait}`, show);
    show();
  }

  /** A control with its label before it and, if wanted, its value in words after it. */
  function row({ model, el }, control, ...after) {
    control.id = `static-control-${count++}`;
    const label = make("label", { htmlFor: control.id });
    follow(model, ["description"], () => (label.textContent = model.get("description") ?? ""));
    follow(model, ["disabled"], () => {
      control.disabled = Boolean(model.get("disabled")) || el.classList.contains("trix-live");
    });
    Object.assign(el.style, { display: "flex", flexWrap: "wrap", gap: ".6em", alignItems: "center" });
    el.append(label, control, ...after);
  }

  /** A number as Python's format `.2f`, `d`, `.3g`, `.1e` or `.0%` would have it. */
  function written(number, format = "") {
    const [, digits, kind] = /^\D*?(?:\.(\d+))?([a-z%]?)$/i.exec(format) ?? [];
    const places = digits === undefined ? 6 : Number(digits);
    if (kind === "f") return number.toFixed(places);
    if (kind === "%") return `${(100 * number).toFixed(places)} %`;
    if (kind === "e") return number.toExponential(places);
    if (kind === "g") return String(Number(number.toPrecision(Math.max(1, places))));
    return String(number);
  }

  function slider(toPosition, toValue) {
    return (view) => {
      const { model } = view;
      const input = make("input", { type: "range" });
      const readout = make("output");
      const live = model.get("continuous_update") !== false ? "input" : "change";
      input.addEventListener(live, () => model.set("value", toValue(input.valueAsNumber, model)));
      row(view, input, readout);
      readout.htmlFor = input.id;
      follow(model, ["value", "min", "max", "step", "readout_format"], () => {
        const value = model.get("value");
        const text = written(value, model.get("readout_format"));
        for (const bound of ["min", "max", "step"]) input[bound] = model.get(bound) ?? "any";
        input.value = toPosition(value, model);
        input.setAttribute("aria-valuetext", text);
        readout.textContent = model.get("readout") === false ? "" : text;
      });
    };
  }

  const linear = slider((value) => value, (position) => position);
  const logarithmic = slider(
    (value, model) => Math.log(value) / Math.log(model.get("base")),
    (position, model) => model.get("base") ** position,
  );

  function number(whole) {
    return (view) => {
      const { model } = view;
      const input = make("input", { type: "number" });
      input.addEventListener("change", () => {
        let value = whole ? Math.round(input.valueAsNumber) : input.valueAsNumber;
        if (Number.isNaN(value)) value = model.get("value");
        value = Math.min(model.get("max") ?? Infinity, Math.max(model.get("min") ?? -Infinity, value));
        model.set("value", value);
        input.value = value;
      });
      row(view, input);
      follow(model, ["value", "min", "max", "step"], () => {
        for (const bound of ["min", "max"]) input[bound] = model.get(bound) ?? "";
        input.step = model.get("step") ?? (whole ? 1 : "any");
        input.value = model.get("value");
      });
    };
  }

  function checkbox(view) {
    const input = make("input", { type: "checkbox" });
    input.addEventListener("change", () => view.model.set("value", input.checked));
    row(view, input);
    follow(view.model, ["value"], () => (input.checked = view.model.get("value")));
  }

  function dropdown(view) {
    const { model } = view;
    const select = make("select");
    select.addEventListener("change", () => model.set("index", select.selectedIndex));
    row(view, select);
    follow(model, ["_options_labels", "index"], () => {
      const names = model.get("_options_labels");
      select.replaceChildren(...names.map((name) => make("option", { textContent: name })));
      select.selectedIndex = model.get("index") ?? -1;
    });
  }

  function text(view) {
    const input = make("input", { type: "text" });
    input.addEventListener("input", () => view.model.set("value", input.value));
    row(view, input);
    follow(view.model, ["value"], () => {
      if (input.value !== view.model.get("value")) input.value = view.model.get("value");
    });
  }

  function html({ model, el }) {
    const content = make("div");
    el.append(content);
    follow(model, ["value"], () => {
      content.innerHTML = model.get("value");
      for (const note of content.querySelectorAll(".trix-no-kernel")) note.hidden = false;
    });
  }

  function label({ model, el }) {
    follow(model, ["value"], () => (el.textContent = model.get("value")));
  }

  function box(direction) {
    return ({ model, el, mount }) => {
      Object.assign(el.style, { display: "flex", flexDirection: direction, flexWrap: "wrap", gap: ".5em" });
      return Promise.all(
        model.get("children").map((reference) => {
          const place = make("div");
          el.append(place);
          return mount(reference, place);
        }),
      );
    };
  }

  /** Join the models that jslink (both ways) and jsdlink (one way) name. */
  function link(models) {
    for (const { name, state } of models.values()) {
      if (name !== "LinkModel" && name !== "DirectionalLinkModel") continue;
      const [source, target] = [state.source, state.target].map(([reference, trait]) => ({
        model: models.get(reference.replace("IPY_MODEL_", "")),
        trait,
      }));
      if (!source.model || !target.model) continue;
      const carry = (from, to) => () => to.model.set(to.trait, from.model.get(from.trait));
      source.model.on(`change:${source.trait}`, carry(source, target));
      if (name === "LinkModel") target.model.on(`change:${target.trait}`, carry(target, source));
      carry(source, target)();
    }
  }

  globalThis.trixStaticControls = {
    IntSliderModel: linear,
    FloatSliderModel: linear,
    FloatLogSliderModel: logarithmic,
    IntTextModel: number(true),
    BoundedIntTextModel: number(true),
    FloatTextModel: number(false),
    BoundedFloatTextModel: number(false),
    CheckboxModel: checkbox,
    DropdownModel: dropdown,
    TextModel: text,
    HTMLModel: html,
    LabelModel: label,
    BoxModel: box("row"),
    HBoxModel: box("row"),
    VBoxModel: box("column"),
    link,
  };
})();
