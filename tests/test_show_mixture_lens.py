"""The numbers behind `MixtureLens`, against the model's own parts and loops over strings."""

import numpy as np
import pytest
import torch

from trix.lab.charlm import LMConfig
from trix.lab.lookup_lm import LookupConfig, LookupLM
from trix.memory.context_memory import ContextMemory
from trix.show.mixture_lens import MixtureLens

TEXT = """the sun sets
the moon rose
and the water was calm
no one saw the hen that ran at dawn
"""
ALPHABET = "".join(sorted(set(TEXT)))
SIZE = len(ALPHABET)
ORDER = 5
LINES = ["the hut\nwas hot", "no", "a mad hatter"]
LINES = ["".join(c for c in line if c in ALPHABET) for line in LINES]
ALT = "Three lines, tinted."


def encode(text: str) -> torch.Tensor:
    return torch.tensor([ALPHABET.index(c) for c in text], dtype=torch.int64)


def made(network: bool = True) -> LookupLM:
    torch.manual_seed(5)
    inner = LMConfig(
        vocab_size=SIZE,
        dim=8,
        layers=1,
        positions=0,
        mixer="routed-memory",
        mixer_options={"heads": 2, "slots": 4},
        ffn="dense",
        dropout=0.5,
    )
    config = LookupConfig(
        vocab_size=SIZE, order=ORDER, folds=0, hidden=8, network=inner if network else None
    )
    model = LookupLM(config, ContextMemory(encode(TEXT), ORDER, SIZE, folds=0))
    for parameter in model.parameters():  # so that no two places weigh the same
        torch.nn.init.normal_(parameter, std=0.7)
    return model


def sent(read: dict, name: str, kind: str, *shape: int) -> np.ndarray:
    return np.frombuffer(read[name], kind).reshape(shape)


@pytest.mark.parametrize("network", [True, False])
def test_costs_and_likeliest_are_those_of_every_place_and_of_the_blend(network):
    model = made(network)
    lens = MixtureLens(model, ALPHABET, LINES, alt=ALT)
    sources = ORDER + network + 1
    model.eval()
    for line, read in zip(LINES, lens.lines, strict=True):
        tokens, length = encode(line), len(line) - 1
        said = []
        memory = model.memory.read(model.memory.addresses(tokens[None, :-1]))
        said += list(memory.probabilities[0].log().unbind(1))
        with torch.no_grad():
            if network:
                told = model._told(memory)
                assert model.network is not None
                seen, _, _ = model.network.features(tokens[None, :-1], None, told)
                said.append(model.network.head(seen)[0].log_softmax(-1))
            said.append(model(tokens[None, :-1])[0])
        logs = torch.stack(said, dim=1).double().numpy()
        p = np.exp(logs)
        costs = sent(read, "costs", "<f4", length, sources)
        likeliest = sent(read, "likeliest", "<u2", length, sources, 5)
        shares = sent(read, "shares", "<u2", length, sources, 5) / 65535
        for t in range(length):
            np.testing.assert_allclose(costs[t], -logs[t, :, tokens[t + 1]], rtol=1e-4)
            for source in range(sources):
                best = np.sort(p[t, source])[::-1][:5]
                np.testing.assert_allclose(shares[t, source], best, atol=1e-5)
                listed = p[t, source][likeliest[t, source]]
                np.testing.assert_allclose(listed, best, atol=1e-6)
                assert len(set(likeliest[t, source])) == 5


@pytest.mark.parametrize("network", [True, False])
def test_weights_of_what_was_never_seen_count_for_the_longest_that_was(network):
    model = made(network)
    moved = 0
    for line, read in zip(LINES, MixtureLens(model, ALPHABET, LINES, alt=ALT).lines, strict=True):
        length = len(line) - 1
        routed = model.eval().routed(encode(line)[None, :-1])
        weights = sent(read, "weights", "<u2", length, ORDER + network) / 65535
        totals = sent(read, "totals", "<u4", length, ORDER)
        np.testing.assert_allclose(
            sent(read, "sharpness", "<f4", length), routed.sharpness[0].detach(), rtol=1e-5
        )
        for t in range(length):
            given = dict(
                zip(
                    routed.gate.index[0, t].tolist(),
                    routed.gate.weight[0, t].tolist(),
                    strict=True,
                )
            )
            expected = [0.0] * (ORDER + network)
            here = 0
            for n in range(ORDER):
                address = line[t + 1 - n : t + 1]
                last = len(TEXT) - n
                seen = sum(TEXT[i : i + n] == address for i in range(last)) if n <= t + 1 else 0
                assert totals[t, n] == seen
                here = n if seen else here
                moved += here != n
                expected[here] += given[n]
            if network:
                expected[ORDER] = given[ORDER]
            np.testing.assert_allclose(weights[t], expected, atol=2e-5)
    assert moved > 10


def test_a_dropped_order_has_no_weight_and_no_address():
    model = made()
    model.drop(3)
    (read,) = MixtureLens(model, ALPHABET, LINES[:1], alt=ALT).lines
    length = len(LINES[0]) - 1
    assert (sent(read, "weights", "<u2", length, ORDER + 1)[:, 2] == 0).all()
    assert (sent(read, "totals", "<u4", length, ORDER)[:, 2] == 0).all()


def test_the_model_is_left_as_it_was():
    model = made().train()
    MixtureLens(model, ALPHABET, LINES, alt=ALT)
    assert model.training
    assert not model.gate._forward_hooks


def test_a_typed_line_is_read_and_stands_last():
    lens = MixtureLens(made(), ALPHABET, LINES, alt=ALT)
    given = lens.lines
    lens.typed = "the sand ran"
    assert lens.lines[:-1] == given
    assert (lens.line, lens.lines[-1]["text"], lens.position) == (len(LINES), "the sand ran", 6)
    lens.typed = "no hat"
    assert [read["text"] for read in lens.lines] == [*LINES, "no hat"]
    assert lens.position == 3
    same = MixtureLens(made(), ALPHABET, ["no hat"], alt=ALT).lines[0]
    assert lens.lines[-1] == same

    lens.typed = "no Xylophone"
    assert "'X'" in lens.refused
    assert lens.lines[-1] == same
    lens.typed = "a"
    assert "2 to 300 characters, received 1" in lens.refused
    lens.typed = "no hat"
    assert lens.refused == ""


def test_a_page_that_asks_is_heard():
    lens = MixtureLens(made(), ALPHABET, LINES, alt=ALT)
    assert lens.heard == ""
    lens.hail = "anybody"
    assert lens.heard == "anybody"


def test_line_and_position_keep_within_what_there_is():
    lens = MixtureLens(made(), ALPHABET, LINES, alt=ALT)
    assert (lens.line, lens.position) == (0, len(LINES[0]) // 2)
    lens.line = 1
    assert lens.position == 1
    for name, value in (("line", 3), ("line", -1), ("position", 0), ("position", 2)):
        with pytest.raises(ValueError, match=f"{name}: expected"):
            setattr(lens, name, value)
    assert (lens.line, lens.position) == (1, 1)
    assert {"_esm", "_css", "lines", "line", "position", "heard"} <= lens.get_state().keys()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": None}, TypeError, "model: expected a LookupLM, received NoneType"),
        ({"alt": ""}, ValueError, "alt: expected a description"),
        ({"lines": []}, ValueError, "lines: expected 1 to 12 texts, received 0"),
        ({"lines": "the"}, ValueError, "received 'the'"),
        ({"lines": ["a"]}, ValueError, "line: expected 2 to 300 characters, received 1"),
        ({"lines": ["a" * 301]}, ValueError, "received 301"),
        ({"lines": ["the cat?"]}, ValueError, r"the model knows, received \['\?'\]"),
        ({"alphabet": "ab"}, ValueError, "the model knows"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    given = {"model": made(), "alphabet": ALPHABET, "lines": LINES, "alt": ALT, **change}
    with pytest.raises(error, match=message):
        MixtureLens(given["model"], given["alphabet"], given["lines"], alt=given["alt"])
