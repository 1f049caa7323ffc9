import pytest
import torch

import trix
from tests import reference


def _layer(dim=7, tiles=5, hidden=3, top_k=2):
    torch.manual_seed(3)
    return trix.TriXFFN(dim, tiles, hidden, top_k).double()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_trix_ffn_equals_the_loop(k):
    layer = _layer(top_k=k)
    x = torch.randn(13, 7, dtype=torch.float64)
    expected = reference.trix_ffn(x, layer.up.detach(), layer.down.detach(), k)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_dense_ffn_equals_the_formula():
    layer = trix.DenseFFN(5, 11, bias=True).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    hidden = (x @ layer.up.weight.T + layer.up.bias).detach().apply_(reference.gelu)
    expected = hidden @ layer.down.weight.T + layer.down.bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_the_task_alone_moves_every_address_that_was_read(k):
    layer = _layer(dim=16, tiles=6, hidden=4, top_k=k)
    x = torch.randn(200, 16, dtype=torch.float64)
    output, route = layer.routed(x)
    assert route.index.unique().tolist() == list(range(6))
    # through the address alone: the same reading with the tiles' own weights held still
    share = route.weight * torch.sigmoid(route.score / 4)
    (share * torch.randn_like(share)).sum().backward()
    assert layer.up.grad is not None
    assert layer.up.grad.isfinite().all()
    assert (layer.up.grad.abs().amax(dim=(1, 2)) > 0).all()
    assert (output.abs().amax(dim=-1) > 0).all()


def test_forward_is_repeatable_and_is_the_routed_output():
    layer = _layer()
    x = torch.randn(2, 3, 7, dtype=torch.float64)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    first = layer(x)
    assert torch.equal(first, layer(x))
    assert torch.equal(first, layer.routed(x).output)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_shapes_dtypes_and_no_tokens():
    layer = _layer()
    x = torch.randn(6, 7, dtype=torch.float64)
    assert torch.equal(layer(x.view(2, 3, 7)).view(6, 7), layer(x))
    torch.testing.assert_close(layer(x[1]), layer(x)[1])
    assert layer(x[:0]).shape == (0, 7)
    for dtype in (torch.float32, torch.bfloat16):
        assert layer.to(dtype)(x.to(dtype)).dtype == dtype


@pytest.mark.parametrize("k", [1, 2])
def test_autocast_comes_near_and_trains(k):
    layer = _layer(top_k=k).float()
    x = torch.randn(9, 7)
    with torch.autocast("cpu", torch.bfloat16):
        output, route = layer.routed(x)
    exact = layer.routed(x)
    same = (route.index == exact.route.index).all(dim=-1)
    assert same.float().mean() > 0.5
    torch.testing.assert_close(output.float()[same], exact.output[same], rtol=0.05, atol=0.05)
    output.float().sum().backward()
    assert layer.up.grad is not None
    assert layer.up.grad.isfinite().all()


def test_nan_tokens_spoil_no_others():
    layer = _layer()
    x = torch.randn(6, 7, dtype=torch.float64)
    clean = layer(x)
    x[2, 0] = float("nan")
    out = layer(x)
    assert out[2].isnan().all()
    others = [0, 1, 3, 4, 5]
    assert torch.equal(out[others], clean[others])


@pytest.mark.parametrize("k", [1, 2])
def test_compiles_as_one_graph(k):
    layer = _layer(top_k=k)
    x = torch.randn(4, 7, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="tiles must be at least 1, got 0"):
        trix.TriXFFN(8, tiles=0)
    with pytest.raises(ValueError, match="at most the 4 tiles, got 5"):
        trix.TriXFFN(8, tiles=4, top_k=5)
    with pytest.raises(TypeError, match="dim must be an integer"):
        trix.DenseFFN(8.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"\[\.\.\., 7\], got \[4, 6\]"):
        _layer()(torch.randn(4, 6))
    with pytest.raises(ValueError, match=r"\[\.\.\., 7\], got \[4, 6\]"):
        trix.DenseFFN(7)(torch.randn(4, 6))
