import ast
import math
from pathlib import Path

import pytest
import torch

import trix
from tests.reference import routing_case
from trix.address.kmeans import balanced_kmeans
from trix.address.route import flat_route
from trix.address.signatures import SignatureRows
from trix.address.sources import DataSource, LearnedSource, Shuffled, TokenHash, UniformRandom
from trix.address.ternary import row_scale

X, ROWS = routing_case()  # [29, 7] and [13, 7]
SPOILT = ROWS.clone()
SPOILT[4, 2] = math.nan
INTEGERS, BYTES = torch.ones(3, dtype=torch.int64), torch.zeros(3, 1, dtype=torch.uint8)
ROUTE = flat_route(X, ROWS)
TREE = trix.TreeRouter(13, 7, (3, 5), beam=2).double()
TREE.rebuild(ROWS)
GROUPS = trix.NestedRouter(13, 7, (3, 5))
FIVE = LearnedSource(5, 7)
PACKED = trix.PackedTernary(torch.ones(2, 3))

VALUES = [
    (lambda: trix.ternarize(torch.ones(2), threshold=-1), "not negative, got -1"),
    (lambda: trix.ternarize(torch.ones(2), threshold=math.nan), "finite"),
    (lambda: trix.ternarize(torch.ones(2), threshold=math.inf), "finite"),
    (lambda: row_scale(torch.ones(2, 3), torch.ones(3, 2)), r"\[2, 3\], got \[3, 2\]"),
    (lambda: trix.weight_signatures(ROWS), r"\[tiles, hidden, dim\], got \[13, 7\]"),
    (lambda: flat_route(X, ROWS, top_k=14), "top_k must be at most the 13 tiles, got 14"),
    (lambda: flat_route(X, ROWS, top_k=0), "top_k must be at least 1, got 0"),
    (lambda: flat_route(X[:, :6], ROWS), r"\[\.\.\., 7\], got \[29, 6\]"),
    (lambda: flat_route(X, ROWS[0]), r"\[tiles >= 1, dim\], got \[7\]"),
    (lambda: flat_route(X, ROWS[:0]), r"\[tiles >= 1, dim\], got \[0, 7\]"),
    (lambda: flat_route(X, SPOILT), r"signatures must be finite, got \[nan\]"),
    (lambda: flat_route(X, ROWS, bias=X[0]), r"bias must have shape \[13\], got \[7\]"),
    (lambda: flat_route(X, ROWS, temperature=0.0), "temperature must be positive and finite"),
    (lambda: trix.ScoreGate(8, knots=1), "knots must be at least 2, got 1"),
    (lambda: trix.ScoreGate(0), "dim must be at least 1, got 0"),
    (lambda: SignatureRows(0, 7), "tiles must be at least 1, got 0"),
    (lambda: SignatureRows(5, 0), "dim must be at least 1, got 0"),
    (lambda: trix.diversity(ROWS[:1]), r"\[tiles >= 2, dim\], got \[1, 7\]"),
    (lambda: trix.diversity(SPOILT), r"finite, got \[nan\]"),
    (lambda: trix.ternary_pull(SPOILT), "finite"),
    (lambda: trix.sparsity(SPOILT), "finite"),
    (lambda: trix.load_balance(ROUTE, 3), r"route\.index must be in 0 … 2, got 0 … 12"),
    (lambda: trix.load_balance(ROUTE, 0), "tiles must be at least 1, got 0"),
    (lambda: trix.load_balance(flat_route(X[:0], ROWS), 13), "at least one token, got none"),
    (lambda: trix.annealed(0, 1, 0.5), "start must be positive and finite, got 0"),
    (lambda: trix.annealed(1, math.inf, 0.5), "end must be positive and finite, got inf"),
    (lambda: trix.annealed(1, 2, 1.5), r"progress must be in 0 … 1, got 1\.5"),
    (lambda: balanced_kmeans(ROWS, [[6, 6]]), "add up to the 13 points, got 12"),
    (lambda: balanced_kmeans(ROWS, []), "at least 1 point"),
    (lambda: balanced_kmeans(ROWS, [[]]), "at least 1 point"),
    (lambda: balanced_kmeans(ROWS, [[14, -1]]), "at least 1 point"),
    # sources
    (lambda: DataSource(5, 7, decay=1.0), r"decay must be in \[0, 1\), got 1\.0"),
    (lambda: DataSource(5, 7, decay=-0.1), r"decay must be in \[0, 1\), got -0\.1"),
    (lambda: UniformRandom(0, 7), "tiles must be at least 1, got 0"),
    (lambda: DataSource(13, 7).update(ROUTE._replace(token=None)), "token=None"),
    (lambda: UniformRandom(7, 7).route(X, ROWS, 8), "at most the 7 tiles, got 8"),
    (lambda: TokenHash(7, 7).route(X, ROWS), r"labels must be \[29\], one per token, got None"),
    (lambda: TokenHash(7, 7).route(X, ROWS, labels=X[0].long()), r"shape \[29\], got \[7\]"),
    (lambda: Shuffled(FIVE, torch.tensor([0, 0, 1])), r"permutation, got \[0, 0, 1\]"),
    (lambda: Shuffled(FIVE, torch.arange(3)).rows(None), "of 5 tiles, got 3"),  # pyright: ignore
    # routers
    (lambda: trix.TreeRouter(13, 7, (3, 4)), r"room for 13 tiles, got \(3, 4\)"),
    (lambda: trix.TreeRouter(13, 7, ()), "room for 13 tiles"),
    (lambda: trix.TreeRouter(13, 7, (3, 0)), "branching must be at least 1, got 0"),
    (lambda: trix.TreeRouter(13, 7, (3, 5), beam=0), "beam must be at least 1, got 0"),
    (lambda: trix.TreeRouter(0, 7, (3, 5)), "tiles must be at least 1, got 0"),
    (lambda: trix.TreeRouter(13, 0, (3, 5)), "dim must be at least 1, got 0"),
    (lambda: trix.TreeRouter.hierarchical(13, 7, 0), "cluster_size must be at least 1, got 0"),
    (lambda: trix.TreeRouter.hierarchical(0, 7), "tiles must be at least 1, got 0"),
    (lambda: trix.TreeRouter.fractal(13, 7, levels=0), "levels must be at least 1, got 0"),
    (lambda: trix.TreeRouter.fractal(13, 7, beam=0), "beam must be at least 1, got 0"),
    (lambda: trix.NestedRouter(13, 7, (3, 4)), "room for 13 tiles"),
    (lambda: TREE(X, ROWS, 9), "at most the 8 tiles that beam 2 is sure to reach, got 9"),
    (lambda: GROUPS(X, ROWS, 5), "at most the 4 tiles that beam 1 is sure to reach, got 5"),
    (lambda: TREE(X, ROWS, 0), "top_k must be at least 1, got 0"),
    (lambda: GROUPS(X, ROWS, 0), "top_k must be at least 1, got 0"),
    (lambda: TREE(X[:, :6], ROWS), r"\[\.\.\., 7\], got \[29, 6\]"),
    (lambda: GROUPS(X[:, :6], ROWS), r"\[\.\.\., 7\], got \[29, 6\]"),
    (lambda: TREE(X, ROWS[:12]), r"\[13, 7\], got \[12, 7\]"),
    (lambda: GROUPS(X, ROWS[:12]), r"\[13, 7\], got \[12, 7\]"),
    (lambda: TREE(X, ROWS, temperature=0.0), "temperature"),
    (lambda: GROUPS(X, ROWS, temperature=0.0), "temperature"),
    (lambda: TREE.levels(SPOILT), "finite"),
    (lambda: TREE.rebuild(ROWS[:, :6]), r"\[13, 7\], got \[13, 6\]"),
    (lambda: TREE.rebuild(SPOILT), "finite"),
    (lambda: TREE.rebuild(ROWS, X[:, :5]), r"\[\.\.\., 7\], got \[29, 5\]"),
    (lambda: TREE.rebuild(ROWS, X[:0]), "inputs must hold at least one token, got none"),
    (lambda: TREE.rebuild(ROWS, X * math.nan), "inputs must be finite"),
    # packed
    (lambda: trix.pack(torch.tensor([0, 1, 0.5])), r"0\.5"),
    (lambda: trix.pack(torch.tensor([0, -2])), "-2"),
    (lambda: trix.pack(torch.tensor([0, math.nan])), "nan"),
    (lambda: trix.pack(torch.tensor([0, 1 + 1e-12], dtype=torch.float64)), r"1\.0+1"),
    (lambda: trix.pack(torch.tensor([0, 255], dtype=torch.uint8)), "255"),
    (lambda: trix.pack(torch.tensor(1.0)), r"got \[\]"),
    (lambda: trix.unpack(BYTES, 5), r"\[\.\.\., 2\], got \[3, 1\]"),
    (lambda: trix.unpack(BYTES[:, :0], -1), "length must be at least 0, got -1"),
    (lambda: trix.unpack(BYTES + 0b10, 4), "codes"),
    (lambda: trix.unpack(BYTES + 0b10_00_00_00, 4), "codes"),
    (lambda: trix.unpack(BYTES + 0b01_00, 1), "codes"),
    (lambda: trix.PackedTernary(torch.ones(3)), r"\[rows, dim\], got \[3\]"),
    (lambda: trix.PackedTernary(torch.ones(2, 3), torch.ones(2)), r"\[2, 1\], got \[2\]"),
    (lambda: trix.PackedTernary(torch.ones(1, 3), torch.tensor([[math.nan]])), "scale .* finite"),
    (lambda: trix.PackedTernary.from_weights(torch.tensor([[1.0, math.inf]])), "finite|nan"),
    (lambda: PACKED(torch.ones(4)), r"\[\.\.\., 3\], got \[4\]"),
]

TYPES = [
    (lambda: trix.ternarize(INTEGERS), r"x must be floating, got torch\.int64"),
    (lambda: flat_route(X, ROWS, top_k=1.5), r"top_k must be an integer, got 1\.5"),  # pyright: ignore
    (lambda: SignatureRows(5.0, 7), r"tiles must be an integer, got 5\.0"),  # pyright: ignore
    (lambda: TREE(X.long(), ROWS), "x must be floating"),
    (lambda: GROUPS(X.long(), ROWS), "x must be floating"),
    (lambda: TokenHash(7, 7).route(X, ROWS, labels=X[:, 0]), "labels must be integers"),
    (lambda: trix.unpack(INTEGERS[:, None], 4), r"packed must be uint8, got torch\.int64"),
    (lambda: PACKED(INTEGERS), "int64"),
    (lambda: trix.PackedTernary(torch.ones(2, 3), INTEGERS[:2, None]), "scale .* floating"),
    (lambda: trix.pack(X > 0), "ternary must be .*bool"),
    (lambda: trix.unpack(BYTES, 4, torch.uint8), "dtype must be .*uint8"),
    (lambda: trix.unpack(BYTES, 4, torch.bool), "dtype must be .*bool"),
]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [(call, ValueError, says) for call, says in VALUES]
    + [(call, TypeError, says) for call, says in TYPES],
)
def test_bad_arguments_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_no_assert_guards_anything_so_an_optimized_python_refuses_the_same():
    for path in Path(trix.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}"
            assert not (isinstance(node, ast.Name) and node.id == "__debug__"), path
