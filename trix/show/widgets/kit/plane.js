// What widgets share that show signatures as arrows in a plane.

/** The float32 pairs behind a DataView. */
function pairsIn(view) {
  const numbers = floatsIn(view);
  return indices(numbers.length / 2).map((i) => [numbers[2 * i], numbers[2 * i + 1]]);
}

/** Cut a signature to -1, 0 and 1 at half its mean absolute value, as trix's ternarize does. */
function ternarize(signature) {
  const cut = (0.5 * sum(signature.map(Math.abs))) / signature.length;
  return signature.map((value) => (Math.abs(value) > cut ? Math.sign(value) : 0));
}

/** The direction of a place in a drawing, in degrees clockwise. */
const turnOf = ([x, y]) => (Math.atan2(y, x) * 180) / Math.PI;
