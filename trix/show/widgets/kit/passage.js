// What the lenses and the reader share: a passage to move through, and costs in words.

const quoted = (characters) => `\u201c${characters.map(glyph).join("")}\u201d`;
const nats = (cost) => `${cost.toFixed(2)} nats`;
const times = (count) => (count === 1 ? "once" : `${count.toLocaleString("en")} times`);
const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(" ");

/** A share in two digits or more, and never as none or all when it is neither. */
function fine(share) {
  if (share < 0.001) return "<\u00a00.1\u00a0%";
  if (share > 0.999) return ">\u00a099.9\u00a0%";
  const plain = share >= 0.0995 && share < 0.995;
  return `${(100 * share).toFixed(plain ? 0 : 1)}\u00a0%`;
}

/**
 * A passage: one focusable control, whose value is a character's position, from `first` on. Where
 * it `hovers`, a mouse chooses without a press.
 */
function makePassage(characters, label, { first = 0, hovers = false } = {}) {
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
  spell(box, characters, spans);

  const rectsOf = () => spans.map((span) => span.getBoundingClientRect());

  /** The character nearest to a point: on the nearest line, then along it. */
  function nearest(x, y, rects) {
    const away = (low, high, value) => Math.max(low - value, 0, value - high);
    let [best, least] = [0, Infinity];
    rects.forEach((rect, at) => {
      const far = 1e4 * away(rect.top, rect.bottom, y) + away(rect.left, rect.right, x);
      if (far < least) [best, least] = [at, far];
    });
    return best;
  }

  /** The character above or below another; the same one where there is no such line. */
  function beside(position, way) {
    const rects = rectsOf();
    const here = rects[position];
    const middle = (rect) => (rect.top + rect.bottom) / 2;
    const lines = rects.map(middle).filter((y) => way * (y - middle(here)) > here.height / 2);
    if (lines.length === 0) return position;
    const y = way > 0 ? Math.min(...lines) : Math.max(...lines);
    return nearest((here.left + here.right) / 2, y, rects);
  }

  /** Tell `hand` where pointer and keys go. */
  function listen(hand) {
    const go = (to) => hand.move(within(first, last, to));
    let held = null; // the characters' places, and where to go back to, while a pointer is down
    const letGo = () => {
      held = null;
      hand.letGo();
    };
    box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      box.focus({ preventScroll: true });
      box.setPointerCapture(event.pointerId);
      held = { rects: rectsOf(), from: hand.where() };
      go(nearest(event.clientX, event.clientY, held.rects));
    });
    box.addEventListener("pointermove", (event) => {
      const hovered = hovers && event.pointerType === "mouse" && event.target.closest("[data-at]");
      if (held) go(nearest(event.clientX, event.clientY, held.rects));
      else if (hovered) go(Number(hovered.dataset.at));
    });
    box.addEventListener("pointerup", letGo);
    if (hovers) box.addEventListener("pointerleave", letGo);
    box.addEventListener("pointercancel", () => {
      if (held) hand.move(held.from); // the finger scrolled the page instead
      held = null;
    });
    box.addEventListener("keydown", (event) => {
      const here = hand.where();
      const goes = keyWay(event, {
        ArrowLeft: () => here - 1,
        ArrowRight: () => here + 1,
        ArrowUp: () => beside(here, -1),
        ArrowDown: () => beside(here, 1),
        Home: () => first,
        End: () => last,
      });
      if (!goes) return;
      event.preventDefault();
      go(goes());
      hand.letGo();
    });
  }
  return { box, spans, listen };
}
