// What widgets that plot share: paths, words and round numbers in an SVG.

const SMALL = { "-": "\u207b", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3" };
const raised = (power) =>
  [...String(power)].map((c) => SMALL[c] ?? String.fromCharCode(0x2070 + Number(c))).join("");

/** A number with its power of ten: "1.2×10⁻⁵". */
function scientific(number) {
  const [digits, power] = number.toExponential(1).split("e");
  return `${minus(digits)}\u00d710${raised(Number(power))}`;
}

const pathThrough = (points) =>
  points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");

const words = (x, y, text, anchor, kind = "") =>
  shape("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, class: kind }, text);

/** Round numbers from low to high, `most` steps or fewer, each with how it is written. */
function ticks(low, high, most) {
  const rough = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((times) => times * unit >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const first = Math.ceil(low / step - 1e-9);
  return indices(Math.floor(high / step + 1e-9) - first + 1)
    .map((i) => [(first + i) * step, minus(((first + i) * step).toFixed(digits))]);
}
