import copy
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trix.address import packed as module
from trix.address.packed import PackedTernary, pack, unpack
from trix.address.ternary import row_scale, ternarize

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]
SIZES = [(1, 1), (3, 5), (5, 7), (4, 13), (2, 64), (7, 130), (2, 4095)]


def _pack_loop(row):
    out = [0] * ((len(row) + 3) // 4)
    for i, value in enumerate(row):
        out[i // 4] += {0: 0, 1: 1, -1: 3}[int(value)] * 4 ** (i % 4)
    return out


def _drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _normal(*shape, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=draw).to(dtype)


@pytest.fixture(params=["numba", "torch"])
def by(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
        assert module.kernel(torch.float32) is not None
    else:
        monkeypatch.setattr(module, "kernel", lambda dtype: None)
    return request.param


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 7, 8, 13, 4095])
def test_pack_equals_the_loop(length):
    ternary = _drawn(3, length, seed=length)
    assert pack(ternary).tolist() == [_pack_loop(row) for row in ternary.tolist()]


@given(
    st.lists(st.integers(0, 4), max_size=3),
    st.integers(0, 40),
    st.sampled_from(FLOATS + SIGNED),
    st.sampled_from(FLOATS + SIGNED),
    st.integers(0, 10_000),
)
def test_what_is_packed_comes_back(lead, length, given_as, asked_as, seed):
    ternary = _drawn(*lead, length, seed=seed)
    small = pack(ternary.to(given_as))
    assert small.dtype == torch.uint8
    assert small.shape == (*lead, (length + 3) // 4)
    back = unpack(small, length, asked_as)
    assert back.dtype == asked_as
    assert torch.equal(back.double(), ternary)


def test_axes_may_lie_in_any_order_and_bytes_of_zero_and_one_will_do():
    ternary = _drawn(6, 5, 9).transpose(0, 2)
    assert not ternary.is_contiguous()
    assert torch.equal(unpack(pack(ternary), 6, torch.float64), ternary)
    assert pack(torch.tensor([0, 1], dtype=torch.uint8)).tolist() == [4]


@pytest.mark.parametrize(("rows", "dim"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_product_is_the_dense_one_and_exact_for_whole_numbers(by, rows, dim, dtype):
    ternary, scale, x = _drawn(rows, dim), _normal(rows, 1), _normal(3, dim, seed=1)
    layer, expected = PackedTernary(ternary, scale), x @ (scale * ternary).T
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x[0]), expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x.float()), expected.float(), rtol=1e-4, atol=1e-4)
    whole = torch.randint(-99, 100, (2, dim), generator=torch.Generator().manual_seed(3))
    y = PackedTernary(ternary)(whole.to(dtype))
    assert y.dtype == dtype
    assert torch.equal(y, (whole @ ternary.long().T).to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_dtypes_are_rounded_once_at_the_end(by, dtype):
    layer = PackedTernary(_drawn(5, 67))
    x = torch.randint(-9, 10, (4, 67), generator=torch.Generator().manual_seed(4)).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert torch.equal(y, layer(x.double()).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("place", "value"), [(0, torch.nan), (4, torch.inf), (12, -torch.inf)])
def test_what_is_not_finite_comes_out_as_from_the_dense_product(by, value, place, dtype):
    ternary, scale = _drawn(6, 13, dtype=dtype), _normal(6, 1, dtype=dtype)
    ternary[0], ternary[1] = 0, 1
    x = _normal(3, 13, seed=1, dtype=dtype)
    x[1, place] = value
    y = PackedTernary(ternary, scale)(x)
    torch.testing.assert_close(y, x @ (scale * ternary).T, equal_nan=True)
    assert y[[0, 2]].isfinite().all()
    assert not y[1].isfinite().any()
    # sums near the largest number do not overflow on the way
    x = torch.tensor([3e38, -3e38, 3e38])
    assert torch.equal(PackedTernary(torch.ones(1, 3))(x), torch.tensor([3e38]))


def test_leading_axes_strides_and_gradients_do_not_matter(by):
    layer = PackedTernary(_drawn(3, 7))
    assert layer.to("meta")(torch.ones(2, 7, device="meta")).shape == (2, 3)
    layer = PackedTernary(_drawn(3, 7))
    x = torch.arange(7 * 4 * 2.0).reshape(7, 4, 2).permute(2, 1, 0).requires_grad_()
    y = layer(x)
    assert torch.equal(y, x.detach() @ layer.unpack().float().T)
    assert y.shape == (2, 4, 3)
    assert not y.requires_grad
    for rows, dim, lead in ((0, 5, 2), (3, 0, 2), (3, 5, 0)):
        empty = PackedTernary.from_weights(torch.ones(rows, dim))
        assert torch.equal(empty(torch.ones(lead, dim)), torch.zeros(lead, rows))
    # bytes that lie apart are read right too
    state = layer.state_dict()
    layer.load_state_dict(state | {"packed": state["packed"].T.contiguous().T}, assign=True)
    assert not layer.packed.is_contiguous()
    assert torch.equal(layer(x), y)


def test_the_product_before_leaves_no_trace(by):
    full, short = PackedTernary(torch.ones(1, 4096)), PackedTernary(torch.ones(1, 4093))
    for _ in range(5):  # the bytes of the one are often lent to the next
        assert full(torch.full((4096,), float("nan"))).isnan().all()
        assert short(torch.ones(4093)).item() == 4093


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("relative", [True, False])
def test_from_weights_is_ternarize_and_row_scale(dtype, relative):
    weights = _normal(5, 21, dtype=dtype).requires_grad_()
    layer = PackedTernary.from_weights(weights, 0.7, relative)
    ternary = ternarize(weights, 0.7, relative)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert layer.shape == (5, 21)
    assert repr(layer) == "PackedTernary(rows=5, dim=21)"
    assert torch.equal(layer.unpack(), ternary.to(wide))
    assert torch.equal(layer.scale, row_scale(weights.detach().to(wide), ternary.to(wide)))
    assert layer.scale.dtype == wide
    assert layer.packed.numel() == 5 * 6
    assert not list(layer.parameters())


def test_the_state_is_two_buffers_and_loading_them_counts(by):
    first, second = PackedTernary.from_weights(_normal(5, 13)), PackedTernary(_drawn(5, 13))
    x = _normal(2, 13, seed=2)
    expected = first(x)
    assert set(first.state_dict()) == {"packed", "scale"}
    assert not torch.equal(second(x), expected)
    for assign in (False, True):
        target = copy.deepcopy(second)
        target.load_state_dict(first.double().state_dict(), assign=assign)
        torch.testing.assert_close(target(x), expected, rtol=1e-6, atol=1e-6)
    second.packed.copy_(first.packed)
    second.scale.copy_(first.scale)
    torch.testing.assert_close(second(x), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="13 values"):
        second.load_state_dict(PackedTernary(torch.ones(5, 14)).state_dict())


def test_numba_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert module.kernel.__wrapped__(torch.float32) is None
