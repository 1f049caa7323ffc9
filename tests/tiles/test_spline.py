import math

import pytest
import torch

from tests.tiles.helpers import agree, grad
from trix.address.packed import unpack
from trix.tiles.spline import CellSpline, KnotSpline, TernarySpline

SIZES = [(1, 1, 1), (3, 5, 1), (2, 7, 1), (1, 1, 2), (3, 5, 2)]
KINDS = [CellSpline, KnotSpline, TernarySpline]
LOW, HIGH = -1.5, 2.0


def drawn(kind, splines, cells, dims, *options, seed=0):
    spline = kind(splines, cells, dims, LOW, HIGH, *options).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in spline.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=draw))
    return spline


def inputs(splines, dims, *shape, seed=1):
    # numbers within the cells and beyond, and a spline for each
    draw = torch.Generator().manual_seed(seed)
    size = shape if dims == 1 else (*shape, 2)
    x = torch.rand(size, dtype=torch.float64, generator=draw) * 5 - 2.3
    return x, torch.randint(splines, shape, generator=draw)


def fall(x, cells):
    at = (x.clamp(LOW, HIGH) - LOW) / (HIGH - LOW) * cells
    cell = min(math.floor(at.item()), cells - 1)
    return cell, at - cell


def cell_loop(spline, position, w):
    cells = [fall(p, spline.cells) for p in position]
    row = 0
    for cell, _ in cells:
        row = row * spline.cells + cell
    base, *slopes = spline.coefficients[w, row]
    return base + sum(s * (2 * p - 1) for s, (_, p) in zip(slopes, cells, strict=True))


def knot_loop(spline, position, w):
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("splines", "cells", "dims"), SIZES)
def test_values_and_gradients_equal_the_loop(kind, splines, cells, dims):
    spline = drawn(kind, splines, cells, dims)
    x, which = inputs(splines, dims, 13, 5)
    x.requires_grad_()
    read = knot_loop if kind is KnotSpline else cell_loop
    pairs = zip(x.reshape(-1, dims), which.flatten().tolist(), strict=True)
    expected = torch.stack([read(spline, position, w) for position, w in pairs]).view(13, 5)
    agree(spline(x, which), expected, [x, *spline.parameters()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cells", [1, 5, 16])
def test_knots_leave_no_jump_at_an_edge(cells, dtype):
    spline, which = drawn(KnotSpline, 3, cells, 1).to(dtype), torch.arange(3)
    edges = torch.linspace(LOW, HIGH, cells + 1, dtype=dtype).unsqueeze(1)
    before, after = (spline(torch.nextafter(edges, edges + by), which) for by in (-1, 1))
    assert (before - after).abs().max() <= 1e-5
    torch.testing.assert_close(spline(edges, which).T, spline.knots, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (1, -1)])
def test_two_inputs_leave_no_jump_at_an_edge_a_diagonal_or_a_corner(direction):
    spline, fine = drawn(KnotSpline, 1, 5, 2), torch.linspace(LOW, HIGH, 21).double()
    at = torch.cartesian_prod(fine, fine)  # a quarter of a cell apart
    step = 1e-7 * torch.tensor(direction, dtype=torch.float64)
    gap = spline(at - step, torch.tensor(0)) - spline(at + step, torch.tensor(0))
    assert gap.abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("splines", "cells", "dims", "factor"), [(1, 1, 1, 2), (3, 5, 1, 3), (2, 7, 1, 1), (3, 5, 2, 2)]
)
def test_refining_leaves_the_functions_as_they_are(splines, cells, dims, factor):
    spline = drawn(KnotSpline, splines, cells, dims)
    finer = spline.refined(factor)
    x, which = inputs(splines, dims, 500)
    assert finer.cells == factor * cells
    assert finer.knots.requires_grad
    torch.testing.assert_close(finer(x, which), spline(x, which), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [CellSpline, KnotSpline])
@pytest.mark.parametrize("dims", [1, 2])
def test_a_new_spline_is_the_identity_or_the_sum_and_planes_are_fitted_to_every_spline(kind, dims):
    fresh, plane = kind(3, 7, dims, LOW, HIGH), kind(3, 7, dims, LOW, HIGH).double()
    x, which = inputs(3, dims, 50)
    at = x.clamp(LOW, HIGH).view(50, dims)
    expected = at.sum(-1).float()
    torch.testing.assert_close(fresh(x.float(), which), expected, rtol=1e-5, atol=1e-5)
    slope = torch.tensor([2.0, -3.0]).double()[:dims]
    plane.fit_(lambda position: position.view(-1, dims) @ slope + 0.5)
    torch.testing.assert_close(plane(x, which), at @ slope + 0.5, rtol=1e-12, atol=1e-12)


def test_each_kind_is_fitted_as_it_can_be():
    # One cell, −1 … 1: x² is even, so its line is flat, as high as the mean over the grid's points.
    spline = CellSpline(1, 1).double().fit_(torch.square)
    expected = torch.tensor([[[63 / 192, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(spline.coefficients.detach(), expected, rtol=1e-12, atol=1e-12)
    # x³ in a cell: the slope is Σu⁴ / Σu² over the eight points ±1/8, ±3/8, ±5/8, ±7/8.
    spline.fit_(lambda at: at**3)
    slope = sum(k**4 for k in (1, 3, 5, 7)) / sum(k**2 for k in (1, 3, 5, 7)) / 64
    assert spline.coefficients[0, 0, 1].item() == pytest.approx(slope, rel=1e-12)
    knots = KnotSpline(2, 4, 1, LOW, HIGH).double().fit_(torch.sin).knots.detach()
    edges = torch.linspace(LOW, HIGH, 5, dtype=torch.float64)
    assert torch.equal(knots, edges.sin().expand(2, 5))
    cut = TernarySpline(2, 2).double().fit_(lambda at: torch.where(at < 0, -3.0, 4 * at - 2))
    expected = torch.tensor([[-3.0, 0.0], [0.0, 2.0]], dtype=torch.float64).expand(2, 2, 2)
    torch.testing.assert_close(cut.coefficients.detach(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(TernarySpline(2, 5).raw, CellSpline(2, 5).coefficients)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_beyond_the_ends_are_read_there_and_nan_stays_nan(kind):
    inf, nan, zero = math.inf, math.nan, torch.tensor(0)
    far = torch.tensor([-inf, -9.0, LOW, HIGH, 9.0, inf, nan], dtype=torch.float64)
    y = drawn(kind, 1, 5, 1)(far, zero)
    assert y[:6].tolist() == [y[2].item()] * 3 + [y[3].item()] * 3
    assert y[6].isnan()
    y = drawn(kind, 1, 5, 2)(torch.cartesian_prod(far, far), zero).view(7, 7)
    assert torch.equal(y[:6, :6], y[2:4, 2:4].repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert y[6].isnan().all()
    assert y[:, 6].isnan().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_an_input_reads_the_same_bits_in_any_company_and_which_broadcasts(kind, dims):
    spline = drawn(kind, 4, 5, dims).float()
    x, which = inputs(4, dims, 37)
    x = x.float()
    alone = torch.cat([spline(x[i : i + 1], which[i : i + 1]) for i in range(37)])
    for length in (1, 2, 3, 5, 8, 13, 17, 31, 37):
        assert torch.equal(spline(x[:length], which[:length]), alone[:length])
    x, which = inputs(4, dims, 7, 3)
    assert torch.equal(spline(x, which[0]), spline(x, which[:1].expand(7, 3)))
    assert torch.equal(spline(x, torch.tensor(2)), spline(x, torch.full((7, 3), 2)))
    assert torch.equal(spline(x[:1], which), spline(x[:1].expand_as(x), which))
    assert spline(x.bfloat16(), which).dtype == torch.float32
    assert spline(x.double(), which).dtype == torch.float64
    assert spline.bfloat16()(x.bfloat16(), which).dtype == torch.bfloat16


def test_bits_are_those_of_what_is_stored():
    assert [CellSpline(3, 4, dims).bits for dims in (1, 2)] == [3 * 32 * 8, 3 * 32 * 48]
    assert [KnotSpline(3, 4, dims).bits for dims in (1, 2)] == [3 * 32 * 5, 3 * 32 * 25]
    assert KnotSpline(3, 4).double().bits == 2 * KnotSpline(3, 4).bits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_it_compiles_to_one_graph_and_writes_nothing(kind, dims):
    spline = drawn(kind, 3, 5, dims)
    x, which = inputs(3, dims, 7)
    before = {name: value.clone() for name, value in spline.state_dict().items()}
    compiled = torch.compile(spline, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, which), spline(x, which))
    assert all(torch.equal(value, before[name]) for name, value in spline.state_dict().items())
    assert f"splines=3, cells=5, dims={dims}, low=-1.5, high=2.0" in repr(spline)


# What is ternary about a ternary spline

SCALES = ["cell", "tile", "layer"]
BANK, CELLS, TILE = 6, 5, 3
"""Splines, cells, and splines that share a tile."""


def ternary(scale, dims=1, dtype=torch.float64, seed=0):
    return drawn(TernarySpline, BANK, CELLS, dims, scale, TILE, seed=seed).to(dtype)


def groups(raw, scale):
    members = {}
    for s, c, n in torch.cartesian_prod(*(torch.arange(n) for n in raw.shape)).tolist():
        key = {"cell": (s, c), "tile": s // TILE, "layer": 0}[scale]
        members.setdefault(key, []).append((s, c, n))
    return list(members.values())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dims", [1, 2])
def test_coefficients_are_cut_and_scaled_group_by_group(scale, dims):
    spline = ternary(scale, dims)
    with torch.no_grad():
        spline.raw[1] = 0  # a group of nothing, where a scale serves a cell
    raw, expected = spline.raw.detach(), torch.zeros_like(spline.raw)
    for places in groups(raw, scale):
        sizes = [abs(raw[i].item()) for i in places]
        cut = sum(sizes) / len(sizes) / 2
        kept = [size for size in sizes if size > cut]
        for i, size in zip(places, sizes, strict=True):
            if size > cut:
                expected[i] = math.copysign(sum(kept) / len(kept), raw[i].item())
    torch.testing.assert_close(spline.coefficients.detach(), expected, rtol=1e-12, atol=1e-12)
    assert spline.groups == len(groups(raw, scale))
    body = 2 * raw.numel()
    assert spline.bits == body + 32 * spline.groups
    packed, scales = spline.packed()
    assert packed.shape == (BANK, math.ceil(CELLS**dims * (1 + dims) / 4))
    assert scales.shape == (spline.groups,)


@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_is_that_of_the_cut_and_of_the_scale(scale):
    spline = ternary(scale)
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(spline.raw.shape, dtype=torch.float64, generator=draw)
    (spline.coefficients * weight).sum().backward()
    # y = s·t: straight through the cut, dy/draw = s; and s is the mean of t·raw over what was kept.
    coefficients, expected = spline.coefficients.detach(), torch.zeros_like(weight)
    for places in groups(weight, scale):
        at = torch.tensor(places).unbind(-1)
        sign, size = coefficients[at].sign(), coefficients[at].abs().max()
        pull = (weight[at] * sign).sum() / sign.abs().sum()
        expected[at] = size * weight[at] + sign * pull
    torch.testing.assert_close(grad(spline.raw), expected, rtol=1e-10, atol=1e-10)


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
            if seed == 4:  # a bank of nothing
                spline.raw.zero_()
        packed, scales = spline.packed()
        other = ternary(scale, dims, dtype, seed=99).load_packed_(packed, scales)
        x, which = inputs(BANK, dims, 101)
        assert torch.equal(other(x.to(dtype), which), spline(x.to(dtype), which))
        again, same = other.packed()
        assert torch.equal(again, packed)
        assert torch.equal(same, scales)


def test_the_codes_are_bases_and_slopes_in_order():
    spline = TernarySpline(1, 2, scale="layer")
    with torch.no_grad():
        spline.raw.copy_(torch.tensor([[[3.0, -3.0], [0.1, 3.0]]]))
    packed, scales = spline.packed()
    assert unpack(packed, 4).tolist() == [[1, -1, 0, 1]]
    assert scales.tolist() == [3.0]
