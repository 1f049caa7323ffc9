import json

import pytest
import torch

from trix.models.storage import (
    INDEX,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)

VALUES = {"step": 100, "curve": [[20, 1.1234567890123456], [40, 1e-17]], "name": "ä"}


def _tensors():
    torch.manual_seed(1)
    weights = torch.randn(5, 7)
    return {
        "weights": weights,
        "tied": weights,
        "part": weights[:, 2:5],
        "turned": weights.T,
        "rng": torch.get_rng_state(),
        "half": torch.randn(3).bfloat16(),
        "step": torch.tensor(3.0),
        "none": torch.zeros(0, 4),
    }


def _load(folder):
    loaded = load_checkpoint(folder)
    assert loaded is not None
    return loaded


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def test_round_trip(tmp_path):
    assert load_checkpoint(tmp_path) is load_checkpoint(tmp_path / "missing") is None
    tensors = _tensors()
    save_checkpoint(tmp_path / "new" / "run", tensors, VALUES)
    loaded = _load(tmp_path / "new" / "run")
    assert loaded.values == VALUES
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype, name
        assert torch.equal(loaded.tensors[name], tensor), name


def test_a_new_one_replaces_the_old_and_what_a_killed_process_left(tmp_path):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    save_checkpoint(tmp_path, _tensors(), {"step": 1})  # the same tensors again
    assert _load(tmp_path).values == {"step": 1}
    (tmp_path / ".tensors-12.safetensors.a8").write_bytes(b"half")
    (tmp_path / f".{INDEX}.b9").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, {"weights": torch.ones(2)}, {"step": 200})
    assert _load(tmp_path).values == {"step": 200}
    index, notes, tensors = sorted(path.name for path in tmp_path.iterdir())
    assert (index, notes, tensors[:8]) == (INDEX, "notes.txt", "tensors-")


@pytest.mark.parametrize("damage", [_truncate, flip, lambda path: path.unlink()])
def test_damaged_tensors_are_refused_by_name_and_left(tmp_path, damage):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    (path,) = tmp_path.glob("tensors-*")
    damage(path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"corrupt checkpoint.*{path.name}") as error:
        load_checkpoint(tmp_path)
    expected = json.loads((tmp_path / INDEX).read_text())["sha256"]
    assert not path.exists() or f"expected SHA-256 {expected}, got " in str(error.value)
    assert contents(tmp_path) == before


def test_every_flipped_byte_of_the_index_is_refused_or_harmless(tmp_path):
    save_checkpoint(tmp_path, {"weights": torch.ones(2)}, VALUES)
    path = tmp_path / INDEX
    good = path.read_bytes()
    messages = []
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        try:
            loaded = _load(tmp_path)
        except ValueError as error:
            messages.append(str(error))
        else:  # white space, or a last digit beyond a number's precision
            assert loaded.values == VALUES
    assert all("corrupt checkpoint" in m and str(tmp_path) in m for m in messages)
    assert len(messages) > 0.7 * len(good)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"{}", b'{"tensors": 3}', b"\xff"])
def test_a_bad_index_is_refused_by_name_and_left(tmp_path, content):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    (tmp_path / INDEX).write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"corrupt checkpoint index .*{INDEX}"):
        load_checkpoint(tmp_path)
    assert contents(tmp_path) == before


def test_optimizers_go_on_as_if_never_stopped(tmp_path):
    def start():
        torch.manual_seed(2)
        weights = torch.nn.Parameter(torch.randn(3, 5))
        bias = torch.nn.Parameter(torch.randn(5))
        groups = [{"params": [bias], "weight_decay": 0.3}]
        return weights, bias, [torch.optim.AdamW(groups, lr=0.1), torch.optim.Muon([weights], 0.1)]

    def step(weights, bias, optimizers, scale):
        ((scale - weights + bias) ** 4).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    one, other = start(), start()
    for scale in (1.0, -2.0):
        step(*one, scale)
    save_checkpoint(tmp_path, optimizer_tensors(one[2]), {})
    for mine, theirs in zip(other[:2], one[:2], strict=True):
        mine.data.copy_(theirs.data)
    load_optimizer_tensors(other[2], _load(tmp_path))
    for run in (one, other):
        step(*run, 3.0)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
