"""Slow, obvious versions of what trix does fast: plain loops that a reader can check by eye."""

import math
from collections import Counter

import torch
from torch import Tensor


def ternarize(x: Tensor, threshold: float, relative: bool) -> Tensor:
    """Cut a matrix `[rows, dim]`, entry by entry."""
    out = torch.zeros_like(x)
    for r in range(x.shape[0]):
        cut = threshold * sum(abs(v) for v in x[r].tolist()) / x.shape[1] if relative else threshold
        for c in range(x.shape[1]):
            value = x[r, c].item()
            if abs(value) > cut:
                out[r, c] = 1.0 if value > 0 else -1.0
    return out


def weight_signatures(weights: Tensor, threshold: float) -> Tensor:
    """Let each tile's hidden units vote on each input feature."""
    tiles, hidden, dim = weights.shape
    out = torch.zeros(tiles, dim, dtype=weights.dtype)
    for t in range(tiles):
        rows = ternarize(weights[t], threshold, relative=True)
        for c in range(dim):
            votes = sum(rows[h, c].item() for h in range(hidden))
            out[t, c] = (votes > 0) - (votes < 0)
    return out


def best_tiles(token: Tensor, signatures: Tensor, k: int) -> list[int]:
    """Return the k best tiles of one token; the lower one first among equals."""
    scores = [
        sum(a * b for a, b in zip(token.tolist(), row, strict=True)) for row in signatures.tolist()
    ]
    return sorted(range(len(scores)), key=lambda t: (-scores[t], t))[:k]


def scaled_ternary(weights: Tensor) -> Tensor:
    """Ternary rows times the least-squares scale of each row, `[rows, dim]`."""
    cut = ternarize(weights, 0.5, relative=True)
    out = torch.zeros_like(weights)
    for r in range(weights.shape[0]):
        kept = [abs(w) for w, t in zip(weights[r].tolist(), cut[r].tolist(), strict=True) if t]
        out[r] = cut[r] * (sum(kept) / len(kept) if kept else 0.0)
    return out


def gelu(v: float) -> float:
    """Return v times the normal distribution function at v."""
    return v * 0.5 * (1 + math.erf(v / math.sqrt(2)))


def trix_ffn(x: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    """Read each token's tiles one by one, `[tokens, dim]`."""
    dim = x.shape[1]
    signatures = weight_signatures(up, 0.5)
    out = torch.zeros_like(x)
    for n, token in enumerate(x):
        chosen = best_tiles(token, signatures, k)
        scores = [float(token @ signatures[t]) for t in chosen]
        total = sum(math.exp(s) for s in scores)
        for t, score in zip(chosen, scores, strict=True):
            hidden = [gelu(float(row @ token)) for row in scaled_ternary(up[t])]
            read = scaled_ternary(down[t]) @ torch.tensor(hidden, dtype=x.dtype)
            gate = 1 / (1 + math.exp(-score / math.sqrt(dim)))
            out[n] += math.exp(score) / total * gate * read
    return out


def causal_attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Softmax attention of one head, `[time, dim]` each."""
    out = torch.zeros_like(values)
    for i in range(len(query)):
        scores = [float(query[i] @ keys[j]) / math.sqrt(query.shape[1]) for j in range(i + 1)]
        total = sum(math.exp(s) for s in scores)
        for j in range(i + 1):
            out[i] += math.exp(scores[j]) / total * values[j]
    return out


def followers(text: list[int], address: list[int]) -> dict[int, int]:
    """Return what followed an address in a text, and how often."""
    found: dict[int, int] = {}
    n = len(address)
    for i in range(len(text) - n):
        if text[i : i + n] == address:
            found[text[i + n]] = found.get(text[i + n], 0) + 1
    return found


def witten_bell(text: list[int], context: list[int], order: int, vocab_size: int) -> list[float]:
    """Return the distribution after a context, from the shortest address to the longest."""
    p = [1 / vocab_size] * vocab_size
    for n in range(min(order - 1, len(context)) + 1):
        found = followers(text, context[len(context) - n :])
        if found:
            count, kinds = sum(found.values()), len(found)
            p = [(found.get(c, 0) + kinds * p[c]) / (count + kinds) for c in range(vocab_size)]
    return p


def add_one(text: list[int], context: list[int], order: int, vocab_size: int) -> list[float]:
    """Return the distribution after a context, each count one higher than seen."""
    n = min(order - 1, len(context))
    found = followers(text, context[len(context) - n :])
    total = sum(found.values()) + vocab_size
    return [(found.get(c, 0) + 1) / total for c in range(vocab_size)]


def spline_value(x: float, values: list[float], reach: float) -> float:
    """Return the straight line between the two knots around x; the outer lines go on."""
    step = 2 * reach / (len(values) - 1)
    cell = min(max(math.floor((x + reach) / step), 0), len(values) - 2)
    left = -reach + cell * step
    return values[cell] + (values[cell + 1] - values[cell]) * (x - left) / step


def tiled_ffn(x: Tensor, layer, index: Tensor, weight: Tensor) -> Tensor:
    """Read each token's tiles of a `TiledFFN` one by one, `[tokens, dim]`, along given routes."""
    out = torch.zeros_like(x)
    gates, signatures = layer.gate.values().tolist(), layer.signatures.detach()
    for n, token in enumerate(x):
        for t, w in zip(index[n].tolist(), weight[n].tolist(), strict=True):
            score = float(token @ signatures[t])
            gate = spline_value(score / math.sqrt(len(token)), gates, 4.0)
            units = layer.mix[t].detach() @ (layer.bottleneck[t].detach() @ token)
            for h, unit in enumerate(units.tolist()):
                activated = spline_value(unit, layer.spline[t, h].tolist(), 3.0)
                out[n] += w * gate * activated * layer.down[t, h].detach()
    return out


def sparse_lookup(x: Tensor, layer, index: Tensor) -> Tensor:
    """Add up each token's values, one read at a time, `[tokens, dim]`, along given routes."""
    out = torch.zeros_like(x)
    signatures = layer.signatures.detach()
    for n, token in enumerate(x):
        for t in index[n].tolist():
            score = float(token @ signatures[t]) / math.sqrt(len(token))
            if layer.activation is None:
                loud = gelu(score)
            else:  # held at the ends
                knots = layer.activation.knots[t].tolist()
                loud = spline_value(min(max(score, -4.0), 4.0), knots, 4.0)
            out[n] += loud * layer.values[t].detach()
    return out


def nested_tiles(
    token: Tensor, signatures: Tensor, branching: tuple[int, ...], beam: int, k: int = 1
) -> list[int]:
    """Return the k best tiles that one token reaches down groups of neighbours, best first."""
    groups = [list(range(len(signatures)))]
    for width in branching[:-1]:
        children = []
        for group in groups:
            parts = min(width, len(group))
            sizes = [len(group) // parts + (n < len(group) % parts) for n in range(parts)]
            ends = [sum(sizes[: n + 1]) for n in range(parts)]
            children += [group[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        means = torch.stack([signatures[child].mean(dim=0) for child in children])
        chosen = best_tiles(token, means, min(beam, len(children)))
        groups = [children[c] for c in sorted(chosen)]
    reached = [t for group in groups for t in group]
    return [reached[t] for t in best_tiles(token, signatures[reached], k)]


def grams(text: list[int], n: int, folds: int = 1, left_out: int = -1) -> Counter:
    """Count the n-grams of a text, but for those whose last character is in the block left out."""
    found: Counter = Counter()
    for last in range(n - 1, len(text)):
        if last * folds // len(text) != left_out:
            found[tuple(text[last - n + 1 : last + 1])] += 1
    return found


def continuations(counts: list[Counter]) -> list[Counter]:
    """Return, below the longest n-grams, how many different characters stood before each."""
    return [*(Counter(gram[1:] for gram in longer) for longer in counts[1:]), counts[-1]]


def chen_goodman(counts: Counter) -> list[float]:
    """Return what modified Kneser–Ney takes from counts of 0, 1, 2 and more."""
    n = [sum(count == k for count in counts.values()) for k in range(5)]
    if 0 in n[1:]:
        return [0.0, 0.75, 0.75, 0.75]
    y = n[1] / (n[1] + 2 * n[2])
    return [0.0] + [min(max(k - (k + 1) * y * n[k + 1] / n[k], 0.1), k) for k in (1, 2, 3)]


def kneser_ney(
    weights: list[Counter], taken: list[list[float]], context: list[int], vocab_size: int
) -> list[list[float]]:
    """Return the distribution after a context, by the address of 0, 1, 2, … characters.

    `weights` are `continuations`, `taken` the discounts of each order.
    """
    p, levels = [1 / vocab_size] * vocab_size, []
    for n, (counts, discount) in enumerate(zip(weights, taken, strict=True)):
        address = tuple(context[len(context) - n :])
        after = [counts[(*address, c)] for c in range(vocab_size)]
        if n <= len(context) and sum(after) > 0:
            off = [discount[min(count, 3)] for count in after]
            p = [
                (count - less + sum(off) * q) / sum(after)
                for count, less, q in zip(after, off, p, strict=True)
            ]
        levels.append(p)
    return levels


def spoken(alphabet: str, text: str, t: int, reach: int, step: int) -> list[tuple | None]:
    """Return the word, pair, apart and line addresses after `text[: t + 1]`; None: not known."""
    seen = text[: t + 1]

    def letter(character: str) -> bool:
        return character.isalpha() or character == "'"

    # the words so far, last first, each with the place before it; the first may have begun earlier
    words, place = [], t
    while place >= 0 and len(words) < 3:
        if words and not letter(seen[place]):  # what stands between words
            place -= 1
            continue
        end = place
        while place >= 0 and letter(seen[place]):
            place -= 1
        if place < 0 or t - place >= reach:
            break
        words.append(seen[place + 1 : end + 1].lower())
    last = seen[-1]
    found: list[tuple | None] = [
        (words[0], last) if words else None,
        (words[0], last, words[1]) if len(words) > 1 else None,
        (words[0], last, words[2]) if len(words) > 2 else None,
    ]
    turn = seen.rfind("\n")
    on_line = turn >= 0 and t - turn < reach and t >= 2
    return [*found, (seen[-3:], (t - turn) // step) if on_line else None]


def echo(
    text: list[int],
    vocab_size: int,
    lower: list[float],
    lengths: tuple[int, ...] = (2, 4),
    reach: int = 256,
    discount: float = 0.5,
) -> list[tuple[int, list[float], list[float]]]:
    """Look the end of a text up in the text itself: for each length, from the lower one on.

    Gives the place of the latest echo, the distribution of what follows, and the evidence.
    """
    end = len(text) - 1
    heard = []
    for length in lengths:
        address = text[len(text) - length :] if len(text) >= length else None
        places = [
            s
            for s in range(length - 1, end)
            if text[s - length + 1 : s + 1] == address and end - (s - length + 1) < reach
        ]
        after = Counter(text[s + 1] for s in places)
        if places:
            lower = [
                (max(after[x] - discount, 0) + discount * len(after) * lower[x]) / len(places)
                for x in range(vocab_size)
            ]
        known = (len(places), len(after), max(after.values(), default=0))
        heard.append((places[-1] if places else -1, lower, [math.log1p(k) for k in known]))
    return heard


def routing_case(
    tokens: int = 29,
    tiles: int = 13,
    dim: int = 7,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Return tokens `[tokens, dim]` and ternary signatures `[tiles, dim]`, the same each call."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, dim, dtype=torch.float64, generator=generator)
    rows = torch.randn(tiles, dim, dtype=torch.float64, generator=generator)
    return x.to(dtype), ternarize(rows, 0.5, relative=True).to(dtype)


def tree_search(router, token: Tensor, signatures: Tensor, top_k: int) -> tuple[list[int], int]:
    """Search the tree as `levels` shows it, node by node; return tiles, and how many compared."""
    levels = router.levels(signatures)
    reached, compared = [0], 0
    for number, level in enumerate(levels):
        children = [n for n, p in enumerate(level.parent.tolist()) if p in reached]
        score = {n: sum((token * level.signatures[n]).tolist()) for n in children}
        compared += len(children)
        keep = top_k if number == len(levels) - 1 else router.beam
        reached = sorted(children, key=lambda n: (-score[n], n))[:keep]
    return reached, compared
