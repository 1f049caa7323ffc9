// SurgeryTable, first part: which tile claims what, and that in words.

// ---------------------------------------------------------------- routing

/** Score of each tile: token · signature. */
const scoresOf = (token, signatures) =>
  signatures.map((signature) => sum(signature.map((sign, i) => sign * token[i])));

const claimsOf = (tokens, signatures) => tokens.map((token) => argmax(scoresOf(token, signatures)));

/** The float32 numbers behind a DataView, `[count][dim]`. */
function tokensIn(bytes, count) {
  const numbers = floatsIn(bytes);
  const dim = numbers.length / count;
  return indices(count).map((n) => numbers.slice(n * dim, (n + 1) * dim));
}

/** Of the class, the share that the tile claims; and of what the tile claims, the class's share. */
function ratesOf(claims, members, tile) {
  const count = (wanted) => claims.filter((claim, i) => wanted(claim === tile, members[i])).length;
  const both = count((claimed, member) => claimed && member);
  return {
    rate: both / count((_, member) => member), // NaN where there is nothing to have a share of
    purity: both / count((claimed) => claimed),
  };
}

// ---------------------------------------------------------------- in words

const short = (number) => minus(String(Number(number.toPrecision(3))));
const rate = (share) => (Number.isNaN(share) ? "\u2013" : percent(share));

/** By how much the winner is ahead, as in "0.5 ahead of tile 3"; nothing where it is alone. */
function lead(scores) {
  const first = argmax(scores);
  const others = indices(scores.length).filter((i) => i !== first);
  if (!others.length) return "";
  const second = others[argmax(others.map((i) => scores[i]))];
  const margin = scores[first] - scores[second];
  return margin > 0
    ? `${short(margin)} ahead of tile ${second}`
    : `level with tile ${second}, and the lower number wins`;
}

/** What changed hands: "12 characters changed tile: 9 from tile 3, 3 from tile 5." */
function movesBetween(before, now) {
  const from = new Map();
  before.forEach((tile, i) => {
    if (tile !== now[i]) from.set(tile, (from.get(tile) ?? 0) + 1);
  });
  if (!from.size) return "No character changed tile.";
  const total = sum([...from.values()]);
  const list = [...from]
    .sort(([a, m], [b, n]) => n - m || a - b)
    .map(([tile, count]) => `${count} from tile ${tile}`);
  return `${many(total, "character")} changed tile: ${list.join(", ")}.`;
}
