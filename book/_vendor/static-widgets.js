// Mounts the widgets of a page that has no kernel.
//
// An executed notebook keeps the state of its widgets, and MyST-NB writes it into the page: one
// script tag of JSON for the state, one for each place where a widget was displayed. An anywidget
// carries its code and its style in that state (`_esm`, `_css`), so all that is missing is someone
// to start it. This does, without a request to anywhere. static-controls.js, loaded before, knows
// how to draw the plain controls of ipywidgets.

(() => {
  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const REFERENCE = "IPY_MODEL_";

  // ---------------------------------------------------------------- models

  /** Put the bytes that JSON could only carry as base64 back where they belong. */
  function withBuffers({ state, buffers = [] }) {
    for (const { path, data } of buffers) {
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const holder = path.slice(0, -1).reduce((at, key) => at[key], state);
      holder[path.at(-1)] = new DataView(bytes.buffer);
    }
    return state;
  }

  /** What a widget's code expects of a model; its changes stay on the page. */
  class Model {
    constructor(id, { model_name, model_module, ...entry }, models) {
      this.id = this.model_id = id;
      this.name = model_name;
      this.module = model_module;
      this.state = withBuffers(entry);
      this.listeners = [];
      this.widget_manager = {
        get_model: async (reference) => {
          const model = models.get(reference.replace(REFERENCE, ""));
          if (!model) throw new Error(`the page holds no model ${reference}`);
          return model;
        },
      };
    }

    get(name) {
      return this.state[name];
    }

    set(name, value) {
      const changes = typeof name === "object" ? name : { [name]: value };
      const changed = Object.keys(changes).filter((key) => !same(this.state[key], changes[key]));
      for (const key of changed) this.state[key] = changes[key];
      for (const key of changed) this.trigger(`change:${key}`, this.state[key]);
      if (changed.length) this.trigger("change");
    }

    on(events, callback, context) {
      for (const event of events.split(/\s+/)) this.listeners.push({ event, callback, context });
    }

    off(events, callback) {
      const named = events ? events.split(/\s+/) : null;
      this.listeners = this.listeners.filter(
        (one) =>
          (named && !named.includes(one.event)) || (callback && one.callback !== callback),
      );
    }

    trigger(event, value) {
      // A copy, since listeners may come and go while it is gone through.
      for (const one of [...this.listeners]) {
        if (one.event === event) one.callback.call(one.context, this, value);
      }
    }

    // With no kernel there is nobody to tell.
    save_changes() {}
    send() {}
  }

  function same(a, b) {
    if (Object.is(a, b)) return true;
    if (a instanceof DataView || b instanceof DataView) return false;
    return JSON.stringify(a) === JSON.stringify(b);
  }

  function readModels() {
    const models = new Map();
    for (const script of document.querySelectorAll(`script[type="${STATE}"]`)) {
      for (const [id, entry] of Object.entries(JSON.parse(script.textContent).state)) {
        models.set(id, new Model(id, entry, models));
      }
    }
    return models;
  }

  // ---------------------------------------------------------------- widgets that bring their code

  const modules = new Map(); // by source text: one that is used twice is loaded once
  const started = new Map(); // by model: it is initialized once, however many views it has

  function load(source) {
    if (!modules.has(source)) {
      const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(address).finally(() => URL.revokeObjectURL(address)));
    }
    return modules.get(source);
  }

  function start(model) {
    if (!started.has(model)) started.set(model, initialize(model));
    return started.get(model);
  }

  async function initialize(model) {
    const source = model.get("_esm");
    if (typeof source !== "string") throw new Error("its code is not in the page");
    const module = await load(source);
    let widget = module.default ?? module;
    if (typeof widget === "function") widget = await widget();
    await widget.initialize?.({ model, signal: new AbortController().signal, experimental });
    return widget;
  }

  const experimental = {
    invoke: async () => {
      throw new Error("this needs a running notebook");
    },
  };

  function addStyle(css) {
    const present = [...document.querySelectorAll("style[data-widget]")];
    if (!css || present.some((style) => style.textContent === css)) return;
    const style = document.createElement("style");
    style.dataset.widget = "";
    style.textContent = css;
    document.head.append(style);
  }

  // ---------------------------------------------------------------- views

  /** Draw one view of a model into el, by its own code or as a plain control. */
  async function mount(model, el) {
    if (!model) throw new Error("its state is not in the page");
    el.classList.add(...(model.get("_dom_classes") ?? []));
    if (model.get("_esm") !== undefined) {
      const widget = await start(model);
      addStyle(model.get("_css"));
      await widget.render?.({ model, el, signal: new AbortController().signal, experimental });
      return;
    }
    const draw = globalThis.trixStaticControls?.[model.name];
    if (!draw) throw new Error(`a ${model.name} needs a running notebook`);
    await draw({ model, el, mount: mountReference });
  }

  let models = new Map();

  /** Draw a model that another one refers to; for boxes. */
  function mountReference(reference, el) {
    return orSay(el, () => mount(models.get(reference.replace(REFERENCE, "")), el));
  }

  /** Do it, or say in its place why it cannot be done. */
  async function orSay(el, draw) {
    try {
      await draw();
    } catch (error) {
      const message = document.createElement("p");
      message.className = "trix-widget-error";
      message.setAttribute("role", "alert");
      message.textContent = `This widget cannot be shown: ${error?.message ?? error}`;
      el.replaceChildren(message);
    }
  }

  /** Make a place after each view's script, in which the view will stand. */
  function makePlaces() {
    return [...document.querySelectorAll(`script[type="${VIEW}"]`)].map((script) => {
      const el = document.createElement("div");
      el.className = "trix-widget";
      script.after(el);
      return { script, el };
    });
  }

  async function mountAll() {
    const places = makePlaces();
    let broken = null;
    try {
      models = readModels();
      globalThis.trixStaticControls?.link(models);
    } catch (error) {
      broken = error;
    }
    await Promise.all(
      places.map(({ script, el }) =>
        orSay(el, () => {
          if (broken) throw broken;
          return mount(models.get(JSON.parse(script.textContent).model_id), el);
        }),
      ),
    );
    document.documentElement.dataset.widgets = "ready";
  }

  mountAll();
})();
