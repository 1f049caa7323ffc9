import math
import subprocess
import sys

import pytest
import torch

from trix.tiles import packed_lookup
from trix.tiles import table as table_kernel
from trix.tiles.spline import CellSpline, KnotSpline, TernarySpline
from trix.tiles.table import Quantizer, compile_table

QUANTIZERS = [
    Quantizer(2),
    Quantizer(7, -1.7, 0.9),
    Quantizer(16),
    Quantizer(256, -3.3, 3.1),
    Quantizer(300),
]
SPLINES = 3


@pytest.fixture(params=["numba", "torch"])
def by(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
        assert table_kernel.kernel(torch.float32) is not None
    else:
        monkeypatch.setattr(table_kernel, "kernel", lambda dtype: None)


def drawn(kind, dims, dtype=torch.float32, cells=5):
    spline = kind(SPLINES, cells, dims, -1.0, 1.2).to(dtype)
    draw = torch.Generator().manual_seed(cells)
    with torch.no_grad():
        for parameter in spline.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return spline


def inputs(quantizer, dims, dtype):
    draw, n = torch.Generator().manual_seed(1), 400
    span = quantizer.high - quantizer.low
    free = torch.rand(n, dtype=torch.float64, generator=draw) * 1.4 * span
    free += quantizer.low - 0.2 * span
    levels = quantizer.values(torch.arange(quantizer.levels), torch.float64)
    halves = (levels[1:] + levels[:-1]) / 2
    odd = torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, 1e30, -1e30], dtype=torch.float64)
    x = torch.cat([free, levels, halves, odd]).to(dtype)
    x = torch.cat([x, *(torch.nextafter(x, x.new_tensor(far)) for far in (9.0, -9.0))])
    if dims == 2:
        x = torch.stack([x, x[torch.randperm(len(x), generator=draw)]], dim=-1)
    return x, torch.randint(SPLINES, (len(x),), generator=draw)


def same_bits(left, right):
    assert left.dtype == right.dtype
    whole = torch.int32 if left.dtype == torch.float32 else torch.int64
    nan = left.isnan()
    return torch.equal(nan, right.isnan()) and torch.equal(
        left[~nan].view(whole), right[~nan].view(whole)
    )


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_codes_are_the_nearest_levels(quantizer):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(300, dtype=torch.float64, generator=draw) * 9 - 4.5
    step = (quantizer.high - quantizer.low) / (quantizer.levels - 1)
    levels = [quantizer.low + code * step for code in range(quantizer.levels)]
    nearest = [min(range(len(levels)), key=lambda c: abs(v - levels[c])) for v in x.tolist()]
    codes = quantizer.codes(x)
    assert codes.dtype == torch.int64
    assert codes.tolist() == nearest
    odd = quantizer.codes(torch.tensor([-math.inf, math.inf, math.nan]))
    assert odd.tolist() == [0, quantizer.levels - 1, 0]
    every = torch.arange(quantizer.levels)
    for dtype in (torch.float32, torch.bfloat16):
        values = quantizer.values(every, dtype)
        torch.testing.assert_close(values, torch.tensor(levels, dtype=torch.float64).to(dtype))
        assert (
            values[[0, -1]].tolist()
            == torch.tensor([quantizer.low, quantizer.high]).to(dtype).tolist()
        )
    assert torch.equal(quantizer.codes(quantizer.values(every)), every)
    small = x.to(torch.bfloat16)  # cut as finely as large floats
    assert torch.equal(quantizer.codes(small), quantizer.codes(small.float()))
    turned = quantizer.values(torch.tensor([[1], [0]], dtype=torch.uint8))
    assert torch.equal(turned[:, 0], quantizer.values(every)[[1, 0]])


def test_quantizing_lets_the_gradient_of_the_clamp_through():
    quantizer = Quantizer(16)
    x = torch.tensor([-2.0, -0.51, 0.3, 1.5, math.inf, math.nan], requires_grad=True)
    y = quantizer.quantize(x)
    assert torch.equal(y[:5], quantizer.values(quantizer.codes(x[:5])))
    assert y[5].isnan()
    (grad,) = torch.autograd.grad(y[:5] @ torch.arange(1.0, 6.0), x)
    assert grad.tolist() == [0.0, 2.0, 3.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize(
    ("kind", "dims", "dtype"),
    [
        (CellSpline, 1, torch.float32),
        (CellSpline, 2, torch.float64),
        (KnotSpline, 2, torch.float32),
        (TernarySpline, 1, torch.float64),
    ],
)
def test_a_table_is_the_quantized_spline_bit_for_bit(by, kind, quantizer, dims, dtype):
    spline = drawn(kind, dims, dtype)
    table = compile_table(spline, quantizer)
    assert table.entries.shape == (SPLINES, quantizer.levels**dims)
    assert not table.entries.requires_grad
    x, which = inputs(quantizer, dims, dtype)
    y, expected = table(x, which), spline(quantizer.quantize(x), which).detach()
    assert same_bits(y, expected)
    assert torch.equal(y.isnan(), x.isnan() if dims == 1 else x.isnan().any(-1))
    codes = quantizer.codes(x)
    for given in (codes, codes.to(torch.uint8) if quantizer.levels <= 256 else codes.int()):
        assert same_bits(table.read(given, which)[~y.isnan()], y[~y.isnan()])
    one = torch.tensor(1)
    assert same_bits(table(x, one), spline(quantizer.quantize(x), one).detach())
    for length in (1, 2, 3, 5, 8, 13, 17, 31, 37):  # the same bits in any company
        x, which = x.roll(7, 0), which.roll(5)
        part, whose = x[:length], which[:length]
        assert same_bits(table(part, whose), spline(quantizer.quantize(part), whose).detach())


def test_a_table_can_be_compiled_for_wider_inputs():
    spline, quantizer = drawn(KnotSpline, 2), Quantizer(16)
    x, which = inputs(quantizer, 2, torch.float64)
    expected = spline(quantizer.quantize(x), which).detach()
    assert same_bits(compile_table(spline, quantizer, torch.float64)(x, which), expected)
    near = compile_table(spline, quantizer)(x, which)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, expected.float(), rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("dims", [1, 2])
def test_shapes_strides_and_broadcasting(by, dims):
    spline, quantizer = drawn(KnotSpline, dims), Quantizer(16)
    table = compile_table(spline, quantizer)
    x = torch.rand((5, 7, 2)[: dims + 1], generator=torch.Generator().manual_seed(0))
    which = torch.arange(35).view(5, 7) % SPLINES
    cases = [
        (x, which),
        (x.transpose(0, 1), which.T),
        (x[:, 1], which[:, 2]),  # with gaps between them
        (x, which[:, :1]),
        (x, which[:1]),
        (x[:, :1], which),
        (x[0, 0], which[0, 0]),
        (x[0, 0], which[0]),
        (x, torch.tensor([[1]])),
        (x[0], torch.tensor([[1]])),
        (x[:0], which[:0]),
    ]
    for given, whose in cases:
        expected = spline(quantizer.quantize(given), whose).detach()
        assert torch.equal(table(given, whose), expected)
        codes = quantizer.codes(given.transpose(0, -1)).to(torch.uint8).transpose(0, -1)
        assert torch.equal(table.read(codes, whose), expected)
    hot = x.clone().requires_grad_()
    assert torch.equal(table(hot, which), table(x, which))
    assert not table(hot, which).requires_grad


@pytest.mark.parametrize(("levels", "dims"), [(16, 1), (255, 1), (256, 1), (16, 2)])
def test_codes_and_splines_out_of_range_are_named(by, levels, dims):
    table = compile_table(drawn(CellSpline, dims), Quantizer(levels))
    zeros = torch.zeros((5, 2)[:dims], dtype=torch.int64)
    highest = zeros.clone()
    highest[2] = levels - 1
    which = torch.tensor(0)  # so that a code too high would read the next spline
    assert table.read(highest.to(torch.uint8), which)[2] == table.entries[0, -1]
    for wrong in (levels, -1):
        codes = zeros.clone()
        codes.view(-1)[-1] = wrong
        told = rf"codes must be in 0 … {levels - 1}, got {min(wrong, 0)} … {max(wrong, 0)}"
        with pytest.raises(IndexError, match=told):
            table.read(codes, which)
        if 0 < wrong < 256:
            with pytest.raises(IndexError, match=told):
                table.read(codes.to(torch.uint8), which)
    for wrong in (SPLINES, -1):
        for whose in (torch.tensor(wrong), torch.tensor([0, 0, wrong, 0, 0])):
            told = rf"which must be in 0 … 2, got {wrong if whose.ndim == 0 else min(wrong, 0)} … "
            for read, x in (
                (table, zeros.float()),
                (table.read, zeros.to(torch.uint8)),
                (table.read, zeros),
            ):
                with pytest.raises(IndexError, match=told):
                    read(x, whose)


def test_a_table_of_another_size_is_refused_and_one_of_the_same_is_read(by):
    small, large = (compile_table(drawn(CellSpline, 1), Quantizer(levels)) for levels in (16, 256))
    with pytest.raises(RuntimeError, match=r"\[3, 16\].*\[3, 256\]"):
        large.load_state_dict(small.state_dict())
    other = compile_table(drawn(KnotSpline, 1), Quantizer(16))
    x, which = torch.linspace(-1, 1, 37), torch.tensor(2)
    assert not torch.equal(other(x, which), small(x, which))
    other.load_state_dict(small.state_dict())
    assert torch.equal(other(x, which), small(x, which))
    assert set(small.state_dict()) == {"entries"}
    assert small.bits == 3 * 16 * 32
    assert repr(small) == "LookupTable(splines=3, levels=16, dims=1)"


@pytest.mark.parametrize("dims", [1, 2])
def test_forward_and_read_compile_to_one_graph(dims):
    quantizer = Quantizer(16)
    table = compile_table(drawn(CellSpline, dims), quantizer)
    x, which = inputs(quantizer, dims, torch.float32)
    codes = quantizer.codes(x).to(torch.uint8)
    forward = torch.compile(table, fullgraph=True, backend="eager")
    read = torch.compile(table.read, fullgraph=True, backend="eager")
    assert same_bits(forward(x, which), table(x, which))
    assert torch.equal(read(codes, which), table.read(codes, which))
    if table_kernel.kernel(torch.float32) is not None:  # it serves float32 alone
        whole = (which, which.shape, table.entries, quantizer)
        assert same_bits(table_kernel.fused_read(x, *whole), table(x, which))
        assert table_kernel.fused_read(x.double(), *whole) is None
        double = (which, which.shape, table.entries.double(), quantizer)
        assert table_kernel.fused_read(x, *double) is None


def test_numba_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert table_kernel.kernel.__wrapped__(torch.float32) is None
    assert packed_lookup.kernel.__wrapped__() is None


@pytest.mark.slow
def test_numba_is_asked_for_late():
    program = "import sys, trix; raise SystemExit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
