import pytest
import torch

from tests.models.small import stirred
from trix.lab.recipes import protocol
from trix.models.charlm import CharLM, LMConfig, LMRouted
from trix.tiles.ffn import WideDenseFFN


def _model(**changes):
    settings = {"vocab_size": 11, "dim": 12, "layers": 2, "positions": 13, "bias": True}
    settings["mixer_options"] = {"heads": 3}
    torch.manual_seed(5)
    return stirred(CharLM(LMConfig(**{**settings, **changes})).double())


def _tokens(batch, time, seed=0):
    return torch.randint(11, (batch, time), generator=torch.Generator().manual_seed(seed))


def test_parameters_are_those_of_a_hand_count_and_a_tied_head_counts_once():
    d, v, t = 12, 11, 13
    norm, attention, ffn = d, 3 * d * d + d * d, 2 * 4 * d * d
    untied = CharLM(LMConfig(v, d, 2, t, mixer_options={"heads": 3}, tied=False))
    tied = CharLM(LMConfig(v, d, 2, t, mixer_options={"heads": 3}, tied=True))
    blocks = 2 * (2 * norm + attention + ffn)
    assert untied.parameter_count() == v * d + t * d + blocks + norm + v * d
    assert tied.parameter_count() == untied.parameter_count() - v * d
    assert tied.head.weight is tied.embed.weight
    # the published number
    assert CharLM(protocol("seed").model).parameter_count() == 875_585


def test_initial_scales_are_the_documented_ones():
    torch.manual_seed(0)
    model = CharLM(LMConfig(dim=64, layers=8, bias=True, tied=False, ffn_options={"bias": True}))
    for name, weights in model.named_parameters():
        if name.endswith("bias"):
            assert not weights.any(), name
        elif "norm" in name:
            assert (weights == 1).all(), name
        else:
            expected = 0.02 / 4 if name.endswith(("out.weight", "down.weight")) else 0.02
            assert weights.std().item() == pytest.approx(expected, rel=0.1), name
    config = LMConfig(dim=64, layers=2, mixer_options={"heads": 4}, ffn="wide-dense")
    for block in CharLM(config).blocks:
        layer = block.ffn
        assert isinstance(layer, WideDenseFFN)
        assert layer.up.weight.std().item() == pytest.approx(1 / 8, rel=0.02)  # its own
        assert layer.down.weight.std().item() == pytest.approx(0.02 / 2, rel=0.02)


@pytest.mark.parametrize(
    ("mixer", "ffn", "chunks"),
    [
        ("attention", "trix", [1] * 13),
        ("attention", "dense", [5, 1, 7]),
        ("attention", "none", [12, 1]),
        ("none", "trix", [5, 1, 7]),
    ],
)
def test_chunks_equal_one_pass(mixer, ffn, chunks):
    options = {"heads": 3} if mixer == "attention" else {}
    routing = {"tiles": 5, "top_k": 2} if ffn == "trix" else {}
    model = _model(mixer=mixer, mixer_options=options, ffn=ffn, ffn_options=routing)
    tokens = _tokens(2, 13)
    whole = model.routed(tokens)
    parts: list[LMRouted] = []
    for part in tokens.split(chunks, dim=1):
        parts.append(model.routed(part, parts[-1].state if parts else None))
    logits = torch.cat([part.logits for part in parts], dim=1)
    torch.testing.assert_close(logits, whole.logits, rtol=0, atol=1e-10)
    for layer, route in enumerate(whole.routes):
        assert torch.equal(torch.cat([p.routes[layer].index for p in parts], dim=1), route.index)
    assert parts[-1].state.seen == whole.state.seen == 13


def test_the_future_changes_neither_logits_nor_addresses():
    model = _model(ffn="trix")
    tokens = _tokens(2, 13)
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 4) % 11
    whole = model.routed(tokens)
    for other in (model.routed(changed), model.routed(tokens[:, :6])):
        torch.testing.assert_close(other.logits[:, :6], whole.logits[:, :6], rtol=0, atol=1e-10)
        for route, expected in zip(other.routes, whole.routes, strict=True):
            assert torch.equal(route.index[:, :6], expected.index[:, :6])
    assert not torch.allclose(model(changed)[:, 6:], whole.logits[:, 6:])
    # without a mixer, the past does not either
    model = _model(mixer="none", mixer_options={})
    changed[:, 6:], changed[:, :5] = tokens[:, 6:], (tokens[:, :5] + 1) % 11
    assert torch.equal(model(changed)[:, 5:], model(tokens)[:, 5:])


def test_routes_come_up_block_by_block():
    model = _model(ffn="trix", ffn_options={"tiles": 7})
    seen = []
    for block in model.blocks:
        norm = block.get_submodule("ffn_norm")
        norm.register_forward_hook(lambda _module, _inputs, normed: seen.append(normed))
    out = model.routed(_tokens(2, 5))
    assert len(out.routes) == len(model.routed_layers()) == 2
    for layer, normed, route in zip(model.routed_layers(), seen, out.routes, strict=True):
        assert torch.equal((normed @ layer.signatures.T).argmax(-1, keepdim=True), route.index)
    assert _model().routed(_tokens(1, 3)).routes == ()


def test_more_tokens_than_positions_are_refused_in_one_call_and_in_two():
    model = _model()
    state = model.routed(_tokens(1, 9)).state
    for tokens, before in ((_tokens(1, 14), None), (_tokens(1, 5), state)):
        with pytest.raises(ValueError, match="at most 13 positions, got 14"):
            model.routed(tokens, before)
    assert _model(positions=0)(_tokens(1, 40)).shape[1] == 40


@pytest.mark.parametrize(("positions", "given"), [(1, 3), (2, 20), (13, 3), (13, 13), (13, 20)])
def test_generation_past_the_positions_starts_again_from_the_latest_half(positions, given):
    model = _model(positions=positions)
    tokens = _tokens(2, given)
    half = max(1, positions // 2)
    context = tokens if given <= positions else tokens[:, -half:]
    for _ in range(31):
        if context.shape[1] > positions:
            context = tokens[:, -half:]
        following = model(context)[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, following], dim=1)
        context = torch.cat([context, following], dim=1)
    assert torch.equal(model.generate(tokens[:, :given], 31, temperature=0), tokens)


def test_sampling_follows_the_distribution_and_the_generator():
    model = _model()
    prompt = _tokens(1, 4).expand(4000, -1)
    first, again, other = (
        model.generate(prompt, 1, 0.7, torch.Generator().manual_seed(s))[:, -1] for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    share = torch.bincount(first, minlength=11) / 4000
    expected = torch.softmax(model(prompt[:1])[0, -1] / 0.7, dim=-1)
    torch.testing.assert_close(share.double(), expected, rtol=0, atol=0.04)
    # the mode stays, and dropout is off
    model = _model(dropout=0.5)
    expected = model.generate(_tokens(1, 3), 5, temperature=0)
    model.train()
    assert torch.equal(model.generate(_tokens(1, 3), 5, temperature=0), expected)
    assert torch.equal(model.generate(_tokens(1, 3), 0), _tokens(1, 3))
    assert model.training
