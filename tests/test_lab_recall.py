"""Tasks of recall: every answer stands in the text before its question; a dictionary finds it."""

import pytest
import torch

from trix.lab.tasks import NOTHING, POWER, Task, Varied, induction, mqar, selective_copying


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def solved_mqar(tokens, half):
    """Answer by a dictionary of what followed each key, in one pass."""
    known, answers = {}, []
    for at, token in enumerate(tokens):
        answers.append(known.get(token, NOTHING))
        if at and 0 < tokens[at - 1] < half <= token:
            known[tokens[at - 1]] = token
    return answers


@pytest.mark.parametrize(
    ("length", "pairs", "vocab"), [(64, 4, 256), (29, 7, 16), (13, 3, 9), (128, 8, 8192)]
)
def test_a_dictionary_answers_every_mqar_question(length, pairs, vocab):
    asked = mqar(13, length, pairs, vocab, generator())
    for tokens, targets in zip(asked.tokens.tolist(), asked.targets.tolist(), strict=True):
        assert len(tokens) == len(targets) == length
        keys, values = tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2]
        assert len(set(keys)) == len(set(values)) == pairs
        assert all(0 < key < vocab // 2 for key in keys)
        assert all(vocab // 2 <= value < vocab for value in values)
        assert sorted(token for token in tokens[2 * pairs :] if token) == sorted(keys)
        assert solved_mqar(tokens, vocab // 2) == targets


def test_mqar_uses_every_key_and_every_value():
    asked = mqar(500, 13, 3, 9, generator())
    assert asked.tokens[:, 0:6:2].unique().tolist() == [1, 2, 3]
    assert asked.tokens[:, 1:6:2].unique().tolist() == [4, 5, 6, 7, 8]


def test_the_first_mqar_question_comes_where_the_law_says():
    # of one question in a text, place r has the weight r^(POWER - 1)
    pairs, length, texts = 1, 12, 40_000
    asked = mqar(texts, length, pairs, 8, generator())
    place = (asked.targets != NOTHING).long().argmax(dim=1)
    share = torch.bincount(place, minlength=length)[2::2].double() / texts
    law = torch.tensor([(r + 1) ** (POWER - 1) for r in range(5)], dtype=torch.float64)
    torch.testing.assert_close(share, law / law.sum(), atol=0.01, rtol=0)


@pytest.mark.parametrize(("length", "vocab"), [(64, 16), (3, 2), (7, 5)])
def test_induction_asks_what_followed_the_special_token(length, vocab):
    asked = induction(50, length, vocab, generator())
    seen = set()
    for tokens, targets in zip(asked.tokens.tolist(), asked.targets.tolist(), strict=True):
        special = [at for at, token in enumerate(tokens) if token == vocab - 1]
        assert len(special) == 2
        assert special[1] == length - 1
        assert targets == [NOTHING] * (length - 1) + [tokens[special[0] + 1]]
        assert targets[-1] != vocab - 1
        seen.add(special[0])
    assert seen <= set(range(length - 2))
    assert len(seen) > min(length - 3, 20)


@pytest.mark.parametrize(("length", "kept", "vocab"), [(64, 8, 16), (10, 5, 3), (13, 5, 7)])
def test_selective_copying_asks_for_what_is_no_noise_in_order(length, kept, vocab):
    asked = selective_copying(50, length, kept, vocab, generator())
    for tokens, targets in zip(asked.tokens.tolist(), asked.targets.tolist(), strict=True):
        text, questions = tokens[: length - kept], tokens[length - kept :]
        wanted = [token for token in text if token != vocab - 2]
        assert len(wanted) == kept
        assert all(0 <= token < vocab - 2 for token in wanted)
        assert questions == [vocab - 1] * kept
        assert targets == [NOTHING] * (length - kept) + wanted
    places = (asked.tokens[:, : length - kept] != vocab - 2).any(dim=0)
    assert places.all()  # nowhere is it noise in every text


TASKS = [
    Task("mqar", 256, {"pairs": 4}),
    Task("induction", 16),
    Task("selective-copying", 16, {"kept": 8}),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_seed_decides_the_texts(task):
    first, again, other = (task(5, 37, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.tokens, other.tokens)


def test_varied_texts_are_of_every_length_up_to_the_longest():
    varied, draw = Varied(TASKS[0], 16), generator()
    lengths = [varied(2, 21, draw).tokens.shape[1] for _ in range(100)]
    assert set(lengths) == set(range(16, 22))


@pytest.mark.parametrize(
    "task",
    [
        lambda: Varied(TASKS[0], 22)(2, 21, generator()),
        lambda: mqar(2, 15, 4, 256, generator()),  # room for three questions
        lambda: mqar(2, 64, 4, 8, generator()),  # three keys
        lambda: mqar(0, 64, 4, 256, generator()),
        lambda: induction(2, 2, 16, generator()),
        lambda: induction(2, 64, 1, generator()),
        lambda: selective_copying(2, 15, 8, 16, generator()),
        lambda: selective_copying(2, 64, 8, 2, generator()),
        lambda: Task("counting", 16),
    ],
)
def test_what_cannot_be_asked_is_refused(task):
    with pytest.raises(ValueError, match="got"):
        task()


def test_the_smallest_texts_that_fit_can_be_drawn():
    assert mqar(2, 16, 4, 10, generator()).tokens.shape == (2, 16)
    assert induction(2, 3, 2, generator()).tokens.shape == (2, 3)
    assert selective_copying(2, 16, 8, 3, generator()).tokens.shape == (2, 16)


def test_counts_are_integers():
    with pytest.raises(TypeError, match="pairs must be an integer"):
        mqar(2, 64, 4.0, 256, generator())  # pyright: ignore[reportArgumentType]
