"""The numbers behind `MixtureLens`, against the model's own parts and loops over strings."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from trix.counts.words import REACH, word_keys
from trix.models.charlm import LMConfig
from trix.models.lookup import LookupConfig, LookupLM, count
from trix.show.widgets.mixture_lens import MixtureLens

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
KINDS = [(True, True), (True, False), (False, True), (False, False)]


def encode(text: str) -> torch.Tensor:
    return torch.tensor([ALPHABET.index(c) for c in text], dtype=torch.int64)


def made(network: bool = True, words: bool = False) -> LookupLM:
    torch.manual_seed(5)
    memory = {"mixer": "routed-memory", "mixer_options": {"heads": 2, "slots": 4}}
    inner = LMConfig(SIZE, 8, layers=1, positions=0, **memory, ffn="dense", dropout=0.5)
    config = LookupConfig(
        SIZE, ORDER, 0, 8, network=inner if network else None, words=words, echoes=words
    )
    model = LookupLM(config, *count(config, encode(TEXT), ALPHABET))
    for parameter in model.parameters():  # so that no two places weigh the same
        torch.nn.init.normal_(parameter, std=0.7)
    return model


def mixture_lens(model: Any = ..., alphabet=ALPHABET, lines=tuple(LINES), alt=ALT) -> MixtureLens:
    return MixtureLens(made() if model is ... else model, alphabet, lines, alt=alt)


def sent(read: dict, name: str, kind: str, *shape: int) -> np.ndarray:
    return np.frombuffer(read[name], kind).reshape(shape)


@pytest.mark.parametrize(("network", "words"), KINDS)
def test_costs_and_likeliest_are_those_of_every_place_and_of_the_blend(network, words):
    model = made(network, words)
    lens = MixtureLens(model, ALPHABET, LINES, alt=ALT)
    assert (lens.orders, lens.network) == (ORDER, network)
    assert lens.words == (["word", "pair", "apart", "line", "echo", "refrain"] if words else [])
    sources = ORDER + 6 * words + network + 1
    model.eval()
    for line, read in zip(LINES, lens.lines, strict=True):
        tokens, length = encode(line), len(line) - 1
        said = []
        memory = model.read(tokens[None, :-1])
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


@pytest.mark.parametrize(("network", "words"), KINDS)
def test_weights_of_what_was_never_seen_count_for_what_is_asked(network, words):
    model = made(network, words)
    tables = ORDER + 6 * words
    # a word asks order 5, a line order 4, an echo order 5
    asked = {5: 4, 6: 5, 7: 5, 8: 3, 9: 4, 10: 9}
    moved = dict.fromkeys(range(tables), 0)
    for line, read in zip(LINES, MixtureLens(model, ALPHABET, LINES, alt=ALT).lines, strict=True):
        length = len(line) - 1
        routed = model.eval().routed(encode(line)[None, :-1])
        weights = sent(read, "weights", "<u2", length, tables + network) / 65535
        totals = sent(read, "totals", "<u4", length, tables)
        np.testing.assert_allclose(
            sent(read, "inverse_temperature", "<f4", length),
            routed.inverse_temperature[0].detach(),
            rtol=1e-5,
        )
        for t in range(length):
            given = dict(
                zip(
                    routed.gate.index[0, t].tolist(),
                    routed.gate.weight[0, t].tolist(),
                    strict=True,
                )
            )
            expected = [0.0] * (tables + network)
            speaks = {}
            for n in range(ORDER):
                address = line[t + 1 - n : t + 1]
                last = len(TEXT) - n
                seen = sum(TEXT[i : i + n] == address for i in range(last)) if n <= t + 1 else 0
                assert totals[t, n] == seen
                speaks[n] = n if seen or n == 0 else speaks[n - 1]
            for n in range(ORDER, tables):
                before, kind = line[: t + 1], n - ORDER
                assert totals[t, n] == (
                    _followed(before, kind) if kind < 4 else _echoed(before, (kind - 3) * 2)
                )
                speaks[n] = n if totals[t, n] else speaks[asked[n]]
            for n in range(tables):
                moved[n] += speaks[n] != n
                expected[speaks[n]] += given[n]
            if network:
                expected[tables] = given[tables]
            np.testing.assert_allclose(weights[t], expected, atol=2e-5)
    assert sum(moved.values()) > 10
    assert all(moved[n] for n in range(ORDER, tables))


def _address(before: str, kind: int) -> tuple | None:
    """What the end of a text is, to the word, the pair, the words apart or the line."""
    if kind == 3:
        turn = before.rfind("\n")
        return None if turn < 0 or len(before) < 3 else (before[-3:], (len(before) - 1 - turn) // 6)
    begins = [found.start() for found in re.finditer("[a-z]+", before)]
    here = before[begins[-1] :] if begins and before[-1].isalpha() else ""
    finished = begins[:-1] if here else begins
    begin = [len(before) - len(here), *finished[::-1]][kind] if len(finished) >= kind else 0
    if begin == 0:
        return None
    first = re.match("[a-z]*", before[begin:])
    return (here, before[-1], first.group() if first and kind else "")


def _followed(before: str, kind: int) -> int:
    """How often something followed the address in the counted text."""
    address = _address(before, kind)
    return sum(
        address is not None and _address(TEXT[:end], kind) == address for end in range(1, len(TEXT))
    )


def _echoed(before: str, length: int) -> int:
    """How often the end of a text stood in it earlier."""
    address = before[-length:]
    ends = range(length, len(before))
    return sum(before[end - length : end] == address for end in ends)


def test_addresses_begin_where_they_are_said_to():
    text = "on a\nhat  no s"
    (read,) = MixtureLens(made(words=True), ALPHABET, [text], alt=ALT).lines
    reaches = sent(read, "reaches", "u1", len(text) - 1, ORDER + 6)
    addresses = [
        [text[: t + 1][-n:] if n else "" for n in row] for t, row in enumerate(reaches.tolist())
    ]
    assert [row[:ORDER] for row in addresses[:5]] == [
        ["", "o", "", "", ""],
        ["", "n", "on", "", ""],
        ["", " ", "n ", "on ", ""],
        ["", "a", " a", "n a", "on a"],
        ["", "\n", "a\n", " a\n", "n a\n"],
    ]
    assert [row[ORDER:-2] for row in addresses] == [
        ["", "", "", ""],  # the first word may have begun before the line
        ["", "", "", ""],
        [" ", "", "", ""],
        ["a", "", "", ""],
        ["\n", "a\n", "", " a\n"],
        ["h", "a\nh", "", "a\nh"],
        ["ha", "a\nha", "", "\nha"],
        ["hat", "a\nhat", "", "hat"],
        [" ", "hat ", "a\nhat ", "at "],
        [" ", "hat  ", "a\nhat  ", "t  "],
        ["n", "hat  n", "a\nhat  n", "  n"],
        ["no", "hat  no", "a\nhat  no", " no"],
        [" ", "no ", "hat  no ", "no "],
    ]
    assert [row[-2:] for row in addresses] == [
        [text[t - 1 : t + 1] if t else "", text[t - 3 : t + 1] if t >= 3 else ""]
        for t in range(len(addresses))
    ]


def test_what_is_known_begins_somewhere_and_not_too_far_back():
    model = made(words=True)
    rng = np.random.default_rng(4)
    lines = [
        "\n"
        + "".join(
            rng.choice(["\n", " ", "hat", "o" * 31, "a" * 78], 9, p=[0.1, 0.3, 0.3, 0.2, 0.1])
        )
        for _ in range(7)
    ]
    assert model.words is not None
    for read in MixtureLens(model, ALPHABET, [line[:300] for line in lines], alt=ALT).lines:
        _, known = word_keys(encode(read["text"])[None, :-1], model.words.letters)
        reaches = sent(read, "reaches", "u1", len(read["text"]) - 1, ORDER + 6)[:, ORDER:-2]
        np.testing.assert_array_equal(reaches > 0, known[0])
        assert reaches.max() < REACH


def test_a_dropped_table_has_no_weight_and_is_not_seen():
    model = made(words=True)
    for name in ("order 3", "word"):
        model.drop(name)
    (read,) = MixtureLens(model, ALPHABET, LINES[:1], alt=ALT).lines
    length = len(LINES[0]) - 1
    for place in (2, ORDER):
        assert (sent(read, "weights", "<u2", length, ORDER + 7)[:, place] == 0).all()
        assert (sent(read, "totals", "<u4", length, ORDER + 6)[:, place] == 0).all()


def test_a_typed_line_is_read_and_stands_last():
    model = made().train()
    lens = mixture_lens(model)
    assert model.training
    assert not model.gate._forward_hooks
    given = lens.lines
    assert (lens.line, lens.position) == (0, len(LINES[0]) // 2)
    lens.line = 1
    assert lens.position == 1  # within what there is
    lens.typed = "the sand ran"
    assert lens.lines[:-1] == given
    assert (lens.line, lens.lines[-1]["text"], lens.position) == (len(LINES), "the sand ran", 6)
    lens.typed = "no hat"
    assert [read["text"] for read in lens.lines] == [*LINES, "no hat"]
    assert lens.position == 3
    same = MixtureLens(made(), ALPHABET, ["no hat"], alt=ALT).lines[0]
    assert lens.lines[-1] == same
    for typed, refused in (
        ("no Xylophone", "'X'"), ("a", "2 to 300 characters, received 1"), ("no hat", ""),
    ):  # fmt: skip
        lens.typed = typed
        assert refused in lens.refused
        assert lens.lines[-1] == same
    assert lens.refused == lens.heard == ""
    lens.hail = "anybody"
    assert lens.heard == "anybody"
