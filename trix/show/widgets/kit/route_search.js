// RouteTree, first part: the trees, the search in them, and both in words.

const NUMBERS = ["one", "two", "three", "four", "five", "six"];

// ---------------------------------------------------------------- reading the model

/**
 * The trees by their depth. A tree is its levels from the top; the tiles are the last. Of each
 * level: `parent` and `children` by node, the tiles `lo` to `hi` below a node as they stand side
 * by side, the nodes in that `order`, and `score(input, node)`.
 */
function readTrees(model) {
  const parents = numbersIn(model.get("parents"), 2, "getUint16");
  const groups = floatsIn(model.get("group_scores"));
  const tiles = floatsIn(model.get("scores"));
  const inputs = model.get("labels").length;
  let [nodeAt, scoreAt] = [0, 0];
  const trees = model.get("nodes").map((counts) => {
    const levels = counts.map((count, depth) => {
      const parent = parents.slice(nodeAt, nodeAt + count);
      nodeAt += count;
      const isLast = depth === counts.length - 1;
      const [from, scores] = isLast ? [0, tiles] : [scoreAt, groups];
      if (!isLast) scoreAt += inputs * count;
      return {
        count,
        parent,
        children: [],
        lo: Array(count),
        hi: Array(count),
        order: [],
        score: (input, node) => scores[from + input * count + node],
      };
    });
    layOut(levels);
    return [counts.length, levels];
  });
  return new Map(trees);
}

/** Say which children each node has, and where it stands above the tiles. */
function layOut(levels) {
  levels.forEach((level, depth) => {
    const below = levels[depth + 1];
    level.children = Array.from({ length: level.count }, () => []);
    below?.parent.forEach((parent, node) => level.children[parent].push(node));
  });
  let placed = 0;
  const place = (depth, node) => {
    const level = levels[depth];
    level.order.push(node);
    level.lo[node] = placed;
    if (depth === levels.length - 1) placed++;
    else level.children[node].forEach((child) => place(depth + 1, child));
    level.hi[node] = placed;
  };
  levels[0].parent.forEach((_, node) => place(0, node));
}

// ---------------------------------------------------------------- searching

/** The nodes with the best first; of equal scores the lower index comes first. */
function ranked(nodes, score) {
  return nodes.slice().sort((a, b) => score(b) - score(a) || a - b);
}

/**
 * Search a tree: on each level compare with the children of the nodes that were kept above, and
 * keep the `beam` best; of the tiles, the best one.
 *
 * Gives, for each level, the nodes compared with (best first) and the nodes kept; how many were
 * compared in all; and the tile chosen.
 */
function search(levels, input, beam) {
  const compared = [];
  const kept = [];
  let candidates = levels[0].parent.map((_, node) => node);
  levels.forEach((level, depth) => {
    const best = ranked(candidates, (node) => level.score(input, node));
    const isLast = depth === levels.length - 1;
    compared.push(best);
    kept.push(best.slice(0, isLast ? 1 : beam));
    if (!isLast) candidates = kept[depth].flatMap((node) => level.children[node]);
  });
  const count = sum(compared.map((nodes) => nodes.length));
  return { compared, kept, count, chosen: kept.at(-1)[0] };
}

/** The tile that comparing with all of them would choose. */
function bestTile(levels, input) {
  const tiles = levels.at(-1);
  return argmax(indices(tiles.count).map((tile) => tiles.score(input, tile)));
}

/** A node and those above it, from the top down: its place in each level. */
function lineage(levels, depth, node) {
  const line = [node];
  for (let above = depth; above > 0; above--) line.unshift(levels[above].parent[line[0]]);
  return line;
}

/** Everything there is to show about one input. */
function routeOf(levels, input, beam) {
  const found = search(levels, input, beam);
  const last = levels.length - 1;
  const best = bestTile(levels, input);
  const wayToBest = lineage(levels, last, best);
  const isFound = best === found.chosen;
  const isLost = (node, depth) => !found.kept[depth].includes(node);
  const lost = isFound ? -1 : wayToBest.findIndex(isLost);
  return {
    ...found,
    way: lineage(levels, last, found.chosen),
    best,
    wayToBest,
    isFound,
    lost, // the level on which the best tile fell out of the beam
    state: levels.map((_, depth) => ({
      rank: new Map(found.compared[depth].map((node, rank) => [node, rank + 1])),
      kept: new Set(found.kept[depth]),
    })),
  };
}

// ---------------------------------------------------------------- in words

const counted = (count) => count.toLocaleString("en");

function ordinal(n) {
  const end = n % 100 >= 11 && n % 100 <= 13 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th";
  return `${counted(n)}${end}`;
}

/** How scores are written: three digits of the largest of them. */
function scoreWriter(levels, inputs) {
  let most = 0;
  const tiles = levels.at(-1);
  for (let input = 0; input < inputs; input++) {
    for (let tile = 0; tile < tiles.count; tile++) {
      most = Math.max(most, Math.abs(tiles.score(input, tile)));
    }
  }
  const digits = most > 0 ? Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(most)))) : 2;
  return (score) => {
    const text = score.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : minus(text);
  };
}

/** A node's name: groups are numbered within their level, tiles are tiles. */
function nameOf(levels, depth, node) {
  return depth === levels.length - 1 ? `tile ${node}` : `group ${node}`;
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** What became of a node. */
function nodeText(levels, route, input, written, { depth, node }) {
  const level = levels[depth];
  const isTile = depth === levels.length - 1;
  const { rank, kept } = route.state[depth];
  const size = level.hi[node] - level.lo[node];
  const holds = many(size, "tile");
  const where = isTile ? "" : ` of level ${depth + 1}, ${holds}`;
  const name = capital(nameOf(levels, depth, node)) + where;
  const score = written(level.score(input, node));
  const isMissed = isTile && !route.isFound && node === route.best;
  const most = isMissed ? ", the best of all tiles" : "";
  if (!rank.has(node)) return `${name}: not compared; its score would be ${score}${most}`;
  const place = `score ${score}, ${ordinal(rank.get(node))} of ${counted(rank.size)} compared`;
  const [taken, passed] = isTile ? [", chosen", ""] : [", kept", ", not kept"];
  const fate = kept.has(node) ? taken : passed;
  return `${name}: ${place}${fate}`;
}

/** The outcome in a sentence or two, as pieces of which the strong ones are marked. */
function verdict(levels, route, input, written) {
  const tiles = levels.at(-1);
  const tile = (node) => `tile\u00a0${node} (score\u00a0${written(tiles.score(input, node))})`;
  const cost = [
    "Compared ",
    { strong: counted(route.count) },
    ` ${route.count === 1 ? "signature" : "signatures"} (flat: ${counted(tiles.count)}). `,
  ];
  if (route.isFound) return [...cost, { strong: "Found the best tile" }, `: ${tile(route.best)}.`];
  const rank = route.state[route.lost].rank;
  const group = route.wayToBest[route.lost];
  return [
    ...cost,
    { strong: "Missed the best tile" },
    `: chose ${tile(route.chosen)}, the best is ${tile(route.best)}. It was lost on level `
      + `${route.lost + 1}, where its group ${group} came ${ordinal(rank.get(group))} of `
      + `${counted(rank.size)}.`,
  ];
}

function captionOf(levels, route, depth, isNarrow) {
  const isLast = depth === levels.length - 1;
  const [compared, all] = [route.compared[depth].length, levels[depth].count];
  if (isNarrow) return [`Level ${depth + 1}`, `${counted(compared)} of ${counted(all)} compared`];
  const what = isLast ? (all === 1 ? "tile" : "tiles") : all === 1 ? "group" : "groups";
  const end = isLast ? "" : `, kept ${counted(route.kept[depth].length)}`;
  return [`Level ${depth + 1}`, `compared ${counted(compared)} of ${counted(all)} ${what}${end}`];
}

function depthName(depth) {
  return depth === 1 ? "one level (flat)" : `${NUMBERS[depth - 1]} levels`;
}
