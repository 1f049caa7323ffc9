import math

import pytest
import torch

from trix.address.packed import unpack
from trix.tiles.spline import CellSpline, KnotSpline, TernarySpline

SIZES = [(1, 1, 1), (3, 5, 1), (2, 7, 1), (1, 1, 2), (3, 5, 2)]
KINDS = [CellSpline, KnotSpline]
LOW, HIGH = -1.5, 2.0


def drawn(kind, splines, cells, dims, seed=0):
    spline = kind(splines, cells, dims, LOW, HIGH).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in spline.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=draw))
    return spline


def inputs(splines, dims, *shape, seed=1):
    draw = torch.Generator().manual_seed(seed)
    size = shape if dims == 1 else (*shape, 2)
    x = torch.rand(size, dtype=torch.float64, generator=draw) * 5 - 2.3
    return x, torch.randint(splines, shape, generator=draw)


def fall(x, cells):
    """Return the cell of a number, and its place there, 0 … 1."""
    at = (min(max(x, LOW), HIGH) - LOW) / (HIGH - LOW) * cells
    cell = min(math.floor(at), cells - 1)
    return cell, at - cell


def cell_loop(spline, position, w):
    cells = [fall(p, spline.cells) for p in position]
    row = 0
    for cell, _ in cells:
        row = row * spline.cells + cell
    base, *slopes = spline.coefficients[w, row]
    return base + sum(s * (2 * p - 1) for s, (_, p) in zip(slopes, cells, strict=True))


def knot_loop(spline, position, w):
    """Weigh the corners of the input's triangle by the areas on their far sides."""
    cells = [fall(p, spline.cells) for p in position]
    if len(cells) == 1:
        ((c, p),) = cells
        return (1 - p) * spline.knots[w, c] + p * spline.knots[w, c + 1]
    (i, p), (j, q) = cells
    knots = spline.knots[w].view(spline.cells + 1, spline.cells + 1)
    near, far = knots[i, j], knots[i + 1, j + 1]
    if p >= q:
        return (1 - p) * near + (p - q) * knots[i + 1, j] + q * far
    return (1 - q) * near + (q - p) * knots[i, j + 1] + p * far


def loop(spline, x, which):
    read = cell_loop if isinstance(spline, CellSpline) else knot_loop
    at = x.reshape(-1, spline.dims).tolist()
    each = [
        read(spline, position, w) for position, w in zip(at, which.flatten().tolist(), strict=True)
    ]
    return torch.stack(each).view(which.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("splines", "cells", "dims"), SIZES)
def test_values_and_gradients_equal_the_loop(kind, splines, cells, dims):
    spline = drawn(kind, splines, cells, dims)
    x, which = inputs(splines, dims, 13, 5)
    expected = loop(spline, x, which)
    weight = torch.randn(13, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    slow = torch.autograd.grad((expected * weight).sum(), list(spline.parameters()))
    y = spline(x, which)
    fast = torch.autograd.grad((y * weight).sum(), list(spline.parameters()))
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_gradients_equal_small_differences(kind, dims):
    spline = drawn(kind, 3, 5, dims)
    x, which = inputs(3, dims, 13)
    assert torch.autograd.gradcheck(
        lambda x, _: spline(x, which), (x.requires_grad_(), *spline.parameters())
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_beyond_the_ends_has_no_gradient_and_one_within_has(kind):
    x = torch.tensor([LOW - 1, 0.3, HIGH + 1], dtype=torch.float64, requires_grad=True)
    drawn(kind, 1, 5, 1)(x, torch.tensor(0)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).tolist() == [False, True, False]


@pytest.mark.parametrize("cells", [1, 5, 16])
def test_knots_leave_no_jump_at_an_edge(cells):
    spline, which = drawn(KnotSpline, 3, cells, 1), torch.arange(3)
    edges = torch.linspace(LOW, HIGH, cells + 1, dtype=torch.float64).unsqueeze(1)
    before, after = spline(edges - 1e-7, which), spline(edges + 1e-7, which)
    assert (before - after).abs().max() <= 1e-5
    torch.testing.assert_close(spline(edges, which).T, spline.knots, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, 1.0), (1.0, -1.0), (1.0, 1.0)])
def test_knots_leave_no_jump_at_an_edge_a_diagonal_or_a_corner(direction):
    spline, cells = drawn(KnotSpline, 1, 5, 2), 5
    fine = torch.linspace(LOW, HIGH, 4 * cells + 1, dtype=torch.float64)
    at = torch.cartesian_prod(fine, fine)  # a quarter of a cell apart: edges, diagonals among them
    step = 1e-7 * torch.tensor(direction, dtype=torch.float64)
    which = torch.zeros(len(at), dtype=torch.int64)
    assert (spline(at - step, which) - spline(at + step, which)).abs().max() <= 1e-5


def test_float32_is_continuous_too():
    spline, which = drawn(KnotSpline, 3, 16, 1).float(), torch.arange(3)
    edges = torch.linspace(LOW, HIGH, 17).unsqueeze(1)
    before = spline(torch.nextafter(edges, torch.tensor(-9.0)), which)
    after = spline(torch.nextafter(edges, torch.tensor(9.0)), which)
    assert (before - after).abs().max() <= 1e-5


def test_free_cells_may_jump():
    spline = CellSpline(1, 2)
    with torch.no_grad():
        spline.coefficients.copy_(torch.tensor([[[5.0, 1.0], [-3.0, 2.0]]]))
    y = spline(torch.tensor([-1e-6, 1e-6]), torch.tensor(0))
    torch.testing.assert_close(y, torch.tensor([6.0, -5.0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("splines", "cells", "dims", "factor"), [(1, 1, 1, 2), (3, 5, 1, 3), (2, 7, 1, 1), (3, 5, 2, 2)]
)
def test_refining_leaves_the_functions_as_they_are(splines, cells, dims, factor):
    spline = drawn(KnotSpline, splines, cells, dims)
    finer = spline.refined(factor)
    x, which = inputs(splines, dims, 500)
    assert finer.cells == factor * cells
    assert finer.knots.shape == (splines, (factor * cells + 1) ** dims)
    assert finer.knots.requires_grad
    torch.testing.assert_close(finer(x, which), spline(x, which), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_a_new_spline_is_the_identity_or_the_sum(kind, dims):
    spline = kind(2, 7, dims, LOW, HIGH).double().fit_(lambda at: at if dims == 1 else at.sum(-1))
    fresh = kind(2, 7, dims, LOW, HIGH)
    x, which = inputs(2, dims, 50)
    expected = x.clamp(LOW, HIGH) if dims == 1 else x.clamp(LOW, HIGH).sum(-1)
    torch.testing.assert_close(spline(x, which), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fresh(x.float(), which), expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_planes_are_fitted_exactly_and_to_every_spline(kind):
    spline = kind(3, 5, 2, LOW, HIGH).double().fit_(lambda at: 2 * at[:, 0] - 3 * at[:, 1] + 0.5)
    x, which = inputs(3, 2, 50)
    clamped = x.clamp(LOW, HIGH)
    expected = 2 * clamped[:, 0] - 3 * clamped[:, 1] + 0.5
    torch.testing.assert_close(spline(x, which), expected, rtol=1e-12, atol=1e-12)


def test_the_line_of_a_square_is_the_one_of_least_squares():
    # One cell, −1 … 1: x² is even, so its line is flat, as high as the mean over the grid's points.
    spline = CellSpline(1, 1).double().fit_(torch.square)
    expected = torch.tensor([[[63 / 192, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(spline.coefficients.detach(), expected, rtol=1e-12, atol=1e-12)
    # x³ in a cell: the slope is Σu⁴ / Σu² over the eight points ±1/8, ±3/8, ±5/8, ±7/8.
    spline.fit_(lambda at: at**3)
    slope = sum(k**4 for k in (1, 3, 5, 7)) / sum(k**2 for k in (1, 3, 5, 7)) / 64
    assert spline.coefficients[0, 0, 1].item() == pytest.approx(slope, rel=1e-12)


def test_knots_are_fitted_to_the_values_there():
    spline = KnotSpline(2, 4, 1, LOW, HIGH).double().fit_(torch.sin)
    edges = torch.linspace(LOW, HIGH, 5, dtype=torch.float64)
    assert torch.equal(spline.knots.detach(), edges.sin().expand(2, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_inputs_beyond_the_ends_are_read_there_and_nan_stays_nan(kind, dims):
    spline = drawn(kind, 1, 5, dims)
    inf, nan = math.inf, math.nan
    far = torch.tensor([-inf, -9.0, LOW, HIGH, 9.0, inf, nan], dtype=torch.float64)
    zero = torch.tensor(0)
    if dims == 1:
        low, high = spline(torch.tensor([LOW, HIGH], dtype=torch.float64), zero).tolist()
        assert spline(far, zero)[:-1].tolist() == [low] * 3 + [high] * 3
        assert spline(far, zero)[-1].isnan()
    else:
        y = spline(torch.cartesian_prod(far, far), zero).view(7, 7)
        assert torch.equal(y[:6, :6], y[2:4, 2:4].repeat_interleave(3, 0).repeat_interleave(3, 1))
        assert y[6].isnan().all()
        assert y[:, 6].isnan().all()
        assert y[2, 2] != y[2, 3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_an_input_reads_the_same_bits_in_any_company(kind, dims):
    spline = drawn(kind, 3, 5, dims).float()
    x, which = inputs(3, dims, 37)
    x = x.float()
    alone = torch.cat([spline(x[i : i + 1], which[i : i + 1]) for i in range(37)])
    for length in (1, 2, 3, 5, 8, 13, 17, 31, 37):
        assert torch.equal(spline(x[:length], which[:length]), alone[:length])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_which_broadcasts(kind, dims):
    spline = drawn(kind, 4, 5, dims)
    x, which = inputs(4, dims, 7, 3)
    assert torch.equal(spline(x, which[0]), spline(x, which[:1].expand(7, 3)))
    assert torch.equal(spline(x, torch.tensor(2)), spline(x, torch.full((7, 3), 2)))
    one = spline(x[:1], which)
    assert torch.equal(one, spline(x[:1].expand_as(x), which))


@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_are_promoted(kind):
    spline = kind(1, 4)
    zero = torch.tensor(0)
    assert spline(torch.ones(1, dtype=torch.bfloat16), zero).dtype == torch.float32
    assert spline(torch.ones(1, dtype=torch.float64), zero).dtype == torch.float64
    low = spline.to(torch.bfloat16)
    y = low(torch.tensor([0.25], dtype=torch.bfloat16), zero)
    assert y.dtype == torch.bfloat16
    assert y.item() == 0.25
    assert kind(3, 4, 1).bits == 3 * 32 * (8 if kind is CellSpline else 5)
    assert kind(3, 4, 2).bits == 3 * 32 * (48 if kind is CellSpline else 25)
    assert kind(3, 4).double().bits == 2 * kind(3, 4).bits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_it_compiles_to_one_graph_and_writes_nothing(kind, dims):
    spline = drawn(kind, 3, 5, dims)
    x, which = inputs(3, dims, 7)
    before = {name: value.clone() for name, value in spline.state_dict().items()}
    compiled = torch.compile(spline, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, which), spline(x, which))
    assert all(torch.equal(value, before[name]) for name, value in spline.state_dict().items())


# Ternary

SCALES = ["cell", "tile", "layer"]
BANK, CUT, TILE = 6, 5, 3
"""Splines, cells, and splines that share a tile."""


def ternary(scale, dims=1, dtype=torch.float64, seed=0):
    spline = TernarySpline(BANK, CUT, dims, -1.5, 2.0, scale, TILE).to(dtype)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        spline.raw.copy_(torch.randn(spline.raw.shape, dtype=torch.float64, generator=draw))
    return spline


def places(dims, count=101, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    x = torch.rand((count, 2)[:dims], dtype=torch.float64, generator=draw) * 5 - 2.3
    return x.to(dtype), torch.randint(BANK, (count,), generator=draw)


def group(scale, spline, cell):
    """Say which numbers share a scale."""
    return {"cell": (spline, cell), "tile": spline // TILE, "layer": 0}[scale]


def in_group(key, scale):
    """Return a mask `[splines, cells]` of a group."""
    cells = [[group(scale, s, c) == key for c in range(CUT)] for s in range(BANK)]
    return torch.tensor(cells)


def cut_loop(raw, scale):
    """Cut and scale the coefficients group by group, number by number."""
    members = {}
    for index in torch.cartesian_prod(*(torch.arange(n) for n in raw.shape)).tolist():
        members.setdefault(group(scale, *index[:2]), []).append(tuple(index))
    out, scales = torch.zeros_like(raw), []
    for indices in members.values():
        cut = sum(abs(raw[i].item()) for i in indices) / len(indices) / 2
        kept = [abs(raw[i].item()) for i in indices if abs(raw[i].item()) > cut]
        scales.append(sum(kept) / len(kept) if kept else 0.0)
        for i in indices:
            value = raw[i].item()
            out[i] = math.copysign(scales[-1], value) if abs(value) > cut else 0.0
    return out, scales


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dims", [1, 2])
def test_it_is_a_cell_spline_of_cut_coefficients(scale, dims):
    spline = ternary(scale, dims)
    with torch.no_grad():
        spline.raw[1] = 0  # a group of nothing, where a scale serves a cell
    expected, scales = cut_loop(spline.raw.detach(), scale)
    torch.testing.assert_close(spline.coefficients.detach(), expected, rtol=1e-12, atol=1e-12)
    plain = CellSpline(BANK, CUT, dims, -1.5, 2.0).double()
    plain.load_state_dict({"coefficients": expected})
    x, which = places(dims)
    torch.testing.assert_close(spline(x, which), plain(x, which), rtol=1e-12, atol=1e-12)
    assert spline.groups == len(scales)


@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_is_that_of_the_cut_and_of_the_scale(scale):
    spline = ternary(scale)
    weight = torch.randn(
        spline.raw.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    (spline.coefficients * weight).sum().backward()
    # y = s·t: straight through the cut, dy/draw = s; and s is the mean of t·raw over what was kept.
    coefficients, expected = spline.coefficients.detach(), torch.zeros_like(weight)
    sums, counts = {}, {}
    for s, c, n in torch.cartesian_prod(*(torch.arange(n) for n in weight.shape)).tolist():
        key, sign = group(scale, s, c), coefficients[s, c, n].sign().item()
        sums[key] = sums.get(key, 0.0) + weight[s, c, n].item() * sign
        counts[key] = counts.get(key, 0) + abs(sign)
    for s, c, n in torch.cartesian_prod(*(torch.arange(n) for n in weight.shape)).tolist():
        key, sign = group(scale, s, c), coefficients[s, c, n].sign().item()
        size = coefficients[in_group(key, scale)].abs().max().item()
        expected[s, c, n] = size * weight[s, c, n] + sign * sums[key] / counts[key]
    assert spline.raw.grad is not None
    torch.testing.assert_close(spline.raw.grad, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("dims", "dtype"), [(1, torch.float32), (2, torch.float64), (1, torch.bfloat16)]
)
def test_what_is_packed_comes_back_bit_for_bit(scale, dims, dtype):
    for seed in range(5):
        spline = ternary(scale, dims, dtype, seed)
        with torch.no_grad():
            spline.raw[1] = 0
            spline.raw[BANK - 1, 2] = 0
        packed, scales = spline.packed()
        other = ternary(scale, dims, dtype, seed=99).load_packed_(packed, scales)
        x, which = places(dims, dtype=dtype)
        assert torch.equal(other(x, which), spline(x, which))
        again, same = other.packed()
        assert torch.equal(again, packed)
        assert torch.equal(same, scales)


def test_a_bank_of_nothing_comes_back_as_nothing():
    for scale in SCALES:
        spline, other = ternary(scale), ternary(scale, seed=1)
        torch.nn.init.zeros_(spline.raw)
        other.load_packed_(*spline.packed())
        x, which = places(1)
        assert torch.equal(other(x, which), torch.zeros_like(x))


def test_two_bits_a_number_and_one_scale_a_group():
    for dims, bits in ((1, 4), (2, 6)):
        cells = CUT**dims
        sizes = {scale: ternary(scale, dims).bits for scale in SCALES}
        body = BANK * cells * bits
        assert sizes["cell"] == body + 32 * BANK * cells
        assert sizes["tile"] == body + 32 * BANK // TILE
        assert sizes["layer"] == body + 32
        packed, scales = ternary("tile", dims).packed()
        assert packed.shape == (BANK, math.ceil(cells * (1 + dims) / 4))
        assert scales.shape == (BANK // TILE,)


def test_the_codes_are_bases_and_slopes_in_order():
    spline = TernarySpline(1, 2, scale="layer")
    with torch.no_grad():
        spline.raw.copy_(torch.tensor([[[3.0, -3.0], [0.1, 3.0]]]))
    packed, scales = spline.packed()
    assert unpack(packed, 4).tolist() == [[1, -1, 0, 1]]
    assert scales.tolist() == [3.0]


def test_fitting_finds_a_function_that_is_ternary():
    spline = TernarySpline(2, 2).double().fit_(lambda at: torch.where(at < 0, -3.0, 4 * at - 2))
    expected = torch.tensor([[-3.0, 0.0], [0.0, 2.0]], dtype=torch.float64).expand(2, 2, 2)
    torch.testing.assert_close(spline.coefficients.detach(), expected, rtol=1e-12, atol=1e-12)


def test_a_new_spline_is_the_cut_identity():
    fresh, plain = TernarySpline(2, 5), CellSpline(2, 5)
    assert torch.equal(fresh.raw, plain.coefficients)
    x = torch.linspace(-1, 1, 101)
    assert (fresh(x, torch.tensor(0)) - x).abs().max() < 0.3


@pytest.mark.parametrize("scale", SCALES)
def test_beyond_the_ends_and_nan_a_ternary_spline_does_the_same(scale):
    spline, zero = ternary(scale), torch.tensor(0)
    low, high = spline(torch.tensor([-1.5, 2.0], dtype=torch.float64), zero).tolist()
    far = torch.tensor([-math.inf, -9.0, 9.0, math.inf, math.nan], dtype=torch.float64)
    y = spline(far, zero)
    assert y[:4].tolist() == [low, low, high, high]
    assert y[4].isnan()


@pytest.mark.parametrize("scale", SCALES)
def test_a_ternary_spline_compiles_to_one_graph(scale):
    spline, (x, which) = ternary(scale), places(1)
    compiled = torch.compile(spline, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, which), spline(x, which))
