"""What a memory is compared with: unwritten slots, attention behind a convolution, mixed heads."""

import pytest
import torch

import trix
from tests.memory.mixers import DIM, close, convolved, tensors, text
from trix.lab.recipes import protocol
from trix.memory.controls import ConvolvedStatic, HybridHeads


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_static_slots_equal_the_loop_over_tokens_and_slots(top_k):
    torch.manual_seed(0)
    layer, x = trix.StaticMemory(DIM, 3, 5, top_k, bias=True).double(), text(7)
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
    close(layer(x)[0], expected)


def test_a_model_of_static_slots_predicts_from_one_character_and_has_the_notes_parameters():
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


@pytest.mark.parametrize(
    ("make", "width"),
    [
        (trix.ConvolvedAttention, 4),
        (lambda *sizes: trix.ConvolvedAttention(*sizes, width=1), 1),
        (lambda *sizes: ConvolvedStatic(*sizes, slots=7, top_k=7), 4),
    ],
)
def test_a_mixer_behind_a_convolution_reads_what_that_saw(make, width):
    torch.manual_seed(0)
    layer, x = make(DIM, 3).double(), text(9)
    assert layer.convolution.kernel.shape == (DIM, width)
    close(layer(x)[0], layer.inner(convolved(layer.convolution, x))[0])


def test_a_hybrid_is_a_memory_and_a_window_behind_one_convolution():
    torch.manual_seed(0)
    layer, x = trix.HybridMixer(DIM, 3, routed=1, slots=5, window=4).double(), text(9)
    memory, window = layer.inner.memory, layer.inner.window
    seen = convolved(layer.convolution, x)
    close(layer(x)[0], memory(seen)[0] + window(seen)[0])
    assert memory.convolution is None
    assert (memory.heads, memory.width, window.heads, window.width) == (1, 4, 2, 4)
    assert (memory.slots, window.window) == (5, 4)


def test_a_hybrid_has_as_many_parameters_as_attention_and_as_large_a_state_as_a_memory():
    hybrid, memory = trix.HybridMixer(128, 4), trix.RoutedMemory(128, 4)
    counts = [sum(p.numel() for p in m.parameters()) for m in (hybrid, trix.CausalAttention(128))]
    signatures = 2 * 2 * 64 * 32
    few = 128 * 4 + 2 * 128 + 2 + 4 + 64 + 2  # kernel, decay, inverse temperature, norm, slopes
    assert counts[0] == counts[1] + signatures + few
    sizes = [sum(p.numel() for p in tensors(m.initial_state(1))) for m in (hybrid, memory)]
    assert sizes[0] == sizes[1] - 2 * 2 * 32 + 31  # less a token's keys and values, and marks


@pytest.mark.parametrize("mixer", ["convolved-attention", "routed-memory", "hybrid"])
def test_in_a_model_queries_keys_and_values_start_as_wide_as_alone(mixer):
    torch.manual_seed(0)
    model = trix.lab.CharLM(protocol("nano").with_model(mixer=mixer))
    layer = model.blocks[0].mixer
    ends = ("qkv.weight", "qkv", "query", "value")
    found = {n: p for n, p in layer.named_parameters() if n.endswith(ends)}
    assert len(found) == {"convolved-attention": 1, "routed-memory": 2, "hybrid": 3}[mixer]
    for weight in found.values():
        assert float(weight.detach().std()) == pytest.approx(128**-0.5, rel=0.05)
    if mixer == "convolved-attention":
        assert float(layer.inner.out.weight.detach().std()) == pytest.approx(0.0071, rel=0.05)


REFUSED = [
    (trix.CausalAttention, (DIM, 5), "multiple of heads, got dim=12, heads=5"),
    (trix.WindowAttention, (DIM, 5), "multiple of heads, got dim=12, heads=5"),
    (trix.WindowAttention, (DIM, 0), "heads must be at least 1, got 0"),
    (trix.StaticMemory, (DIM, 5), "multiple of heads, got dim=12, heads=5"),
    (trix.CausalAttention, (DIM, 3, False, 3.0), r"dropout must be in \[0, 1\), got 3"),
    (trix.CausalAttention, (DIM, 3, False, -0.1), r"dropout must be in \[0, 1\), got -0\.1"),
    (trix.ConvolvedAttention, (DIM, 3, 0), "width must be at least 1, got 0"),
    (trix.WindowAttention, (DIM, 3, 0), "window must be at least 1, got 0"),
    (trix.WindowAttention, (DIM, 3, 4, -1), "width must be at least 1, got -1"),
    (trix.StaticMemory, (DIM, 3, 0), "slots must be at least 1"),
    (trix.StaticMemory, (DIM, 3, 5, 6), "top_k must be at most the 5 slots, got 6"),
    (trix.StaticMemory, (DIM, 3, 5, 0), "top_k must be at least 1"),
    (trix.RoutedMemory, (0,), "dim must be at least 1"),
    (trix.RoutedMemory, (DIM, 0), "heads must be at least 1"),
    (trix.RoutedMemory, (DIM, 5), "multiple of heads, got dim=12, heads=5"),
    (trix.RoutedMemory, (DIM, 3, 0), "slots must be at least 1"),
    (trix.RoutedMemory, (DIM, 3, 5, 6), "at most the 5 slots, got 6"),
    (trix.RoutedMemory, (DIM, 3, 5, 0), "top_k must be at least 1"),
    (trix.RoutedMemory, (DIM, 3, 5, None, ("fade",)), "got .'fade'."),
    (trix.RoutedMemory, (DIM, 3, 5, None, ("rotation",)), "even to turn in pairs, got 5"),
    (trix.RoutedMemory, (DIM, 3, 6, None, ("content", "delta")), "neither rotation nor delta, got"),
    (trix.RoutedMemory, (DIM, 3, 6, None, ("content", "rotation")), "neither rotation nor delta"),
    (trix.RoutedMemory, (DIM, 3, 5, None, (), 0), "width must be at least 1, got 0"),
    (trix.HybridMixer, (DIM, 5), "multiple of heads, got dim=12, heads=5"),
    (trix.HybridMixer, (DIM, 3, 3), "routed must be less than the 3 heads, got 3"),
    (trix.HybridMixer, (DIM, 3, 0), "routed must be at least 1, got 0"),
    (trix.HybridMixer, (DIM, 3, 1, 5, 0), "window must be at least 1, got 0"),
    (HybridHeads, (trix.RoutedMemory(DIM, 3), trix.WindowAttention(8, 2)), "as wide, got 12, 8"),
]


@pytest.mark.parametrize(("kind", "arguments", "match"), REFUSED)
def test_bad_sizes_are_named(kind, arguments, match):
    with pytest.raises(ValueError, match=match):
        kind(*arguments)
