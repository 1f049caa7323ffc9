import math

import pytest
import torch

from trix.tiles.spline import CellSpline, KnotSpline

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
    at = torch.cartesian_prod(
        fine, fine
    )  # a quarter of a cell apart: edges and diagonals among them
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


@pytest.mark.parametrize(("splines", "cells", "dims"), SIZES)
@pytest.mark.parametrize("factor", [1, 2, 3])
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
    for length in range(1, 38):
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [1, 2])
def test_bad_arguments_are_named(kind, dims):
    spline = kind(3, 5, dims)
    x = torch.zeros(4, 2)[:, :dims].squeeze(-1)
    for wrong in (-1, 3):
        with pytest.raises(
            IndexError, match=rf"which must be 0 to 2, got {min(wrong, 0)} to {max(wrong, 0)}"
        ):
            spline(x, torch.tensor([0, 0, wrong, 0]))
    with pytest.raises(TypeError, match=r"which must be int64, got .*int32"):
        spline(x, torch.zeros(4, dtype=torch.int32))
    with pytest.raises(TypeError, match=r"x must be floating, got .*int64"):
        spline(x.long(), torch.tensor(0))
    with pytest.raises(ValueError, match=r"broadcast with \[4\], got \[3\]"):
        spline(x, torch.zeros(3, dtype=torch.int64))
    if dims == 2:
        with pytest.raises(ValueError, match=r"\[\.\.\., 2\], got \[4, 3\]"):
            spline(torch.zeros(4, 3), torch.tensor(0))
    with pytest.raises(ValueError, match=r"function must return shape \[\d+\], got \[\d+, 1\]"):
        spline.fit_(lambda at: at[:, :1] if dims == 2 else at.unsqueeze(1))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_sizes_are_named(kind):
    with pytest.raises(ValueError, match="splines must be at least 1, got 0"):
        kind(0, 5)
    with pytest.raises(TypeError, match=r"cells must be an integer, got 2\.0"):
        kind(1, 2.0)
    with pytest.raises(ValueError, match="dims must be 1 or 2, got 3"):
        kind(1, 5, 3)
    for low, high in [(1.0, 1.0), (2.0, 1.0), (-math.inf, 1.0), (0.0, math.nan)]:
        with pytest.raises(ValueError, match=f"low first, got {low} and {high}"):
            kind(1, 5, 1, low, high)
    with pytest.raises(ValueError, match="factor must be at least 1, got 0"):
        KnotSpline(1, 5).refined(0)
