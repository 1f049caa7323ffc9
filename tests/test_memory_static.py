"""Static memory: it equals its loop, and a model of it sees one character."""

import pytest
import torch

import trix
from trix.lab.recipes import protocol


def _layer(top_k=2):
    torch.manual_seed(0)
    return trix.StaticMemory(12, heads=3, slots=5, top_k=top_k, bias=True).double()


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_it_equals_the_loop_over_tokens_and_slots(top_k):
    layer, x = _layer(top_k), torch.randn(2, 7, 12, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for b in range(2):
        for t in range(7):
            query, heads = layer.query(x[b, t]), []
            for h in range(3):
                rows = layer.rows()[5 * h : 5 * h + 5]
                share = (rows @ query[4 * h : 4 * h + 4] / 2).softmax(0)
                order = share.argsort(descending=True, stable=True)[:top_k].tolist()
                heads.append(sum(share[m] * layer.contents[h, m] for m in order))
            expected[b, t] = layer.out(torch.cat(heads))
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("top_k", [1, 5])
def test_every_parameter_hears_of_the_task(top_k):
    layer = _layer(top_k)
    layer(torch.randn(2, 7, 12, dtype=torch.float64))[0].square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_model_of_it_predicts_from_one_character_and_has_the_notes_parameters():
    torch.manual_seed(0)
    options = {"heads": 4, "bias": True}
    config = protocol("seed").with_model(mixer="static-memory", mixer_options=options)
    model = trix.lab.CharLM(config).eval()
    assert model.parameter_count() == 809_025
    tokens = torch.randint(65, (2, 13))
    other = torch.randint(65, (2, 13))
    other[:, -1] = tokens[:, -1]
    with torch.no_grad():
        last = [model(t)[:, -1] for t in (tokens, other)]
        assert torch.equal(*last)
        assert not torch.equal(model(other.roll(1, 1))[:, -1], last[0])


def test_bad_input_is_named():
    for arguments, message in (
        ((12, 5), "dim=12, heads=5"),
        ((12, 3, 0), "slots must be at least 1"),
        ((12, 3, 5, 6), "at most the 5 slots, got 6"),
    ):
        with pytest.raises(ValueError, match=message):
            trix.StaticMemory(*arguments)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"got \[7, 12\]"):
        _layer()(torch.zeros(7, 12, dtype=torch.float64))
    with pytest.raises(TypeError, match="floating"):
        _layer()(torch.zeros(2, 7, 12, dtype=torch.int64))
