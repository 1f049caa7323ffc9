// What the lenses share: glyphs, numbers in words, elements, and a passage to move through.
//
// A widget's code is loaded from a blob and can import nothing, so context_lens.py and
// mixture_lens.py put this text in front of their own.

const GLYPHS = { "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d", " ": "\u2423" };

/** The numbers behind a DataView, each `size` bytes wide, little-endian. */
function numbersIn(view, size, read) {
  const numbers = [];
  for (let at = 0; at < view.byteLength; at += size) numbers.push(view[read](at, true));
  return numbers;
}

// ---------------------------------------------------------------- in words

const glyph = (character) => GLYPHS[character] ?? character;
const quoted = (characters) => `\u201c${characters.map(glyph).join("")}\u201d`;
const nats = (cost) => `${cost.toFixed(2)} nats`;
const bits = (cost) => `${(cost / Math.LN2).toFixed(2)} bits`;

function percent(share) {
  if (share < 0.001) return "<\u00a00.1\u00a0%";
  if (share > 0.999) return ">\u00a099.9\u00a0%";
  const plain = share >= 0.0995 && share < 0.995;
  return `${(100 * share).toFixed(plain ? 0 : 1)}\u00a0%`;
}

// ---------------------------------------------------------------- making elements

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(" ");

const code = (characters, kind) => element("code", { class: kind }, characters.map(glyph).join(""));

// ---------------------------------------------------------------- a passage

/** A passage: one focusable control, whose value is a character's position, from `first` on. */
function makePassage(characters, label, first = 0) {
  const last = characters.length - 1;
  const spans = characters.map((character, at) =>
    element("span", { "data-at": at }, character === " " ? " " : glyph(character)));
  const box = element("div", {
    class: "passage",
    role: "slider",
    tabindex: 0,
    "aria-label": label,
    "aria-orientation": "horizontal",
    "aria-valuemin": first + 1,
    "aria-valuemax": characters.length,
  });
  spans.forEach((span, at) => {
    box.append(span);
    if (characters[at] === "\n") box.append(element("br"));
  });

  /** The character nearest to a point: on the nearest line, then along it. */
  function nearest(x, y, rects) {
    const away = (low, high, value) => Math.max(low - value, 0, value - high);
    let best = 0;
    let least = Infinity;
    rects.forEach((rect, at) => {
      const far = 1e4 * away(rect.top, rect.bottom, y) + away(rect.left, rect.right, x);
      if (far < least) [best, least] = [at, far];
    });
    return best;
  }

  /** The character above or below another; the same one where there is no such line. */
  function beside(position, way) {
    const rects = spans.map((span) => span.getBoundingClientRect());
    const here = rects[position];
    const middle = (rect) => (rect.top + rect.bottom) / 2;
    const lines = rects.map(middle).filter((y) => way * (y - middle(here)) > here.height / 2);
    if (lines.length === 0) return position;
    const y = way > 0 ? Math.min(...lines) : Math.max(...lines);
    return nearest((here.left + here.right) / 2, y, rects);
  }

  /** Tell `hand` where pointer and keys go. */
  function listen(hand) {
    const go = (to) => hand.move(Math.min(last, Math.max(first, to)));
    let held = null; // the characters' places, and where to go back to, while a pointer is down
    box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      box.focus({ preventScroll: true });
      box.setPointerCapture(event.pointerId);
      held = { rects: spans.map((span) => span.getBoundingClientRect()), from: hand.where() };
      go(nearest(event.clientX, event.clientY, held.rects));
    });
    box.addEventListener("pointermove", (event) => {
      if (held) go(nearest(event.clientX, event.clientY, held.rects));
    });
    box.addEventListener("pointerup", () => {
      held = null;
      hand.letGo();
    });
    box.addEventListener("pointercancel", () => {
      if (held) hand.move(held.from); // the finger scrolled the page instead
      held = null;
    });
    box.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const here = hand.where();
      const goes = {
        ArrowLeft: () => here - 1,
        ArrowRight: () => here + 1,
        ArrowUp: () => beside(here, -1),
        ArrowDown: () => beside(here, 1),
        Home: () => first,
        End: () => last,
      }[event.key];
      if (!goes) return;
      event.preventDefault();
      event.stopPropagation(); // a notebook would move to another cell
      go(goes());
      hand.letGo();
    });
  }
  return { box, spans, listen };
}
