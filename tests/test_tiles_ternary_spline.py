import math

import pytest
import torch

from trix.address.packed import unpack
from trix.tiles.spline import CellSpline, TernarySpline

SCALES = ["cell", "tile", "layer"]
SPLINES, CELLS, TILE = 6, 5, 3


def drawn(scale, dims=1, dtype=torch.float64, seed=0):
    spline = TernarySpline(SPLINES, CELLS, dims, -1.5, 2.0, scale, TILE).to(dtype)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        spline.raw.copy_(torch.randn(spline.raw.shape, dtype=torch.float64, generator=draw))
    return spline


def inputs(dims, count=101, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    x = torch.rand((count, 2)[:dims], dtype=torch.float64, generator=draw) * 5 - 2.3
    return x.to(dtype), torch.randint(SPLINES, (count,), generator=draw)


def group(scale, spline, cell):
    """Say which numbers share a scale."""
    return {"cell": (spline, cell), "tile": spline // TILE, "layer": 0}[scale]


def loop(raw, scale):
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
    spline = drawn(scale, dims)
    with torch.no_grad():
        spline.raw[1] = 0  # a group of nothing, where a scale serves a cell
    expected, scales = loop(spline.raw.detach(), scale)
    torch.testing.assert_close(spline.coefficients.detach(), expected, rtol=1e-12, atol=1e-12)
    plain = CellSpline(SPLINES, CELLS, dims, -1.5, 2.0).double()
    plain.load_state_dict({"coefficients": expected})
    x, which = inputs(dims)
    torch.testing.assert_close(spline(x, which), plain(x, which), rtol=1e-12, atol=1e-12)
    assert spline.groups == len(scales)


@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_is_that_of_the_cut_and_of_the_scale(scale):
    spline = drawn(scale)
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
        size = max(abs(v.item()) for i in range(SPLINES) for j in range(CELLS)
                   if group(scale, i, j) == key for v in coefficients[i, j])  # fmt: skip
        expected[s, c, n] = size * weight[s, c, n] + sign * sums[key] / counts[key]
    assert spline.raw.grad is not None
    torch.testing.assert_close(spline.raw.grad, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_packed_comes_back_bit_for_bit(scale, dims, dtype):
    for seed in range(10):
        spline = drawn(scale, dims, dtype, seed)
        with torch.no_grad():
            spline.raw[1] = 0
            spline.raw[SPLINES - 1, 2] = 0
        packed, scales = spline.packed()
        other = drawn(scale, dims, dtype, seed=99).load_packed_(packed, scales)
        x, which = inputs(dims, dtype=dtype)
        assert torch.equal(other(x, which), spline(x, which))
        again, same = other.packed()
        assert torch.equal(again, packed)
        assert torch.equal(same, scales)


def test_a_bank_of_nothing_comes_back_as_nothing():
    for scale in SCALES:
        spline, other = drawn(scale), drawn(scale, seed=1)
        torch.nn.init.zeros_(spline.raw)
        other.load_packed_(*spline.packed())
        x, which = inputs(1)
        assert torch.equal(other(x, which), torch.zeros_like(x))


def test_two_bits_a_number_and_one_scale_a_group():
    for dims, bits in ((1, 4), (2, 6)):
        cells = CELLS**dims
        sizes = {scale: drawn(scale, dims).bits for scale in SCALES}
        body = SPLINES * cells * bits
        assert sizes["cell"] == body + 32 * SPLINES * cells
        assert sizes["tile"] == body + 32 * SPLINES // TILE
        assert sizes["layer"] == body + 32
        packed, scales = drawn("tile", dims).packed()
        assert packed.shape == (SPLINES, math.ceil(cells * (1 + dims) / 4))
        assert scales.shape == (SPLINES // TILE,)


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
def test_beyond_the_ends_and_nan(scale):
    spline, zero = drawn(scale), torch.tensor(0)
    low, high = spline(torch.tensor([-1.5, 2.0], dtype=torch.float64), zero).tolist()
    far = torch.tensor([-math.inf, -9.0, 9.0, math.inf, math.nan], dtype=torch.float64)
    y = spline(far, zero)
    assert y[:4].tolist() == [low, low, high, high]
    assert y[4].isnan()


@pytest.mark.parametrize("scale", SCALES)
def test_it_compiles_to_one_graph(scale):
    spline, (x, which) = drawn(scale), inputs(1)
    compiled = torch.compile(spline, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x, which), spline(x, which))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"scale must be one of .*, got 'row'"):
        TernarySpline(6, 5, scale="row")
    with pytest.raises(ValueError, match="multiple of per_tile=4, got 6"):
        TernarySpline(6, 5, per_tile=4)
    with pytest.raises(TypeError, match="per_tile must be an integer, got None"):
        TernarySpline(6, 5, per_tile=None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="dims must be 1 or 2, got 3"):
        TernarySpline(6, 5, 3)
    with pytest.raises(IndexError, match="which must be 0 to 5, got 6 to 6"):
        TernarySpline(6, 5)(torch.zeros(1), torch.tensor([6]))


def test_bad_packs_are_named_and_change_nothing():
    spline = drawn("tile")
    packed, scales = spline.packed()
    before = spline.raw.detach().clone()
    with pytest.raises(ValueError, match=r"6 rows, got \[5, 3\]"):
        spline.load_packed_(packed[:5], scales)
    with pytest.raises(ValueError, match=r"\[\.\.\., 3\], got \[6, 2\]"):
        spline.load_packed_(packed[:, :2], scales)
    with pytest.raises(ValueError, match="codes"):
        spline.load_packed_(torch.full_like(packed, 2), scales)
    with pytest.raises(TypeError, match=r"uint8, got .*int64"):
        spline.load_packed_(packed.long(), scales)
    with pytest.raises(ValueError, match=r"scales must have shape \[2\], got \[1\]"):
        spline.load_packed_(packed, scales[:1])
    for wrong in (-1.0, 0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"scales must be finite.* got \[{wrong}\]"):
            spline.load_packed_(packed, torch.tensor([1.0, wrong]))
    assert torch.equal(spline.raw, before)
