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


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(tmp_path):
    tensors = _tensors()
    save_checkpoint(tmp_path / "new" / "run", tensors, VALUES)
    loaded = load_checkpoint(tmp_path / "new" / "run")
    assert loaded is not None
    assert loaded.values == VALUES
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype, name
        assert torch.equal(loaded.tensors[name], tensor), name


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


def test_a_new_one_replaces_the_old_and_what_a_killed_process_left(tmp_path):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    (tmp_path / ".tensors-12.safetensors.a8").write_bytes(b"half")
    (tmp_path / f".{INDEX}.b9").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, {"weights": torch.ones(2)}, {"step": 200})
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.values == {"step": 200}
    assert len([p for p in tmp_path.iterdir() if "tensors" in p.name]) == 1
    assert sorted(p.name for p in tmp_path.iterdir() if "tensors" not in p.name) == [
        INDEX,
        "notes.txt",
    ]


def test_the_same_tensors_twice_are_kept(tmp_path):
    save_checkpoint(tmp_path, _tensors(), {"step": 1})
    save_checkpoint(tmp_path, _tensors(), {"step": 2})
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.values == {"step": 2}


def test_a_save_that_fails_leaves_the_last_one(tmp_path):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, {"weights": torch.ones(2)}, {"step": object()})  # not JSON
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.values == VALUES
    assert torch.equal(loaded.tensors["weights"], _tensors()["weights"])


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _lose(path):
    path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _flip, _lose])
def test_damaged_tensors_are_refused_by_name_and_left(tmp_path, damage):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    (path,) = tmp_path.glob("tensors-*")
    damage(path)
    before = _contents(tmp_path)
    with pytest.raises(ValueError, match=f"corrupt checkpoint.*{path.name}"):
        load_checkpoint(tmp_path)
    assert _contents(tmp_path) == before


def test_wrong_tensors_state_both_hashes(tmp_path):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    (path,) = tmp_path.glob("tensors-*")
    _flip(path)
    expected = json.loads((tmp_path / INDEX).read_text())["sha256"]
    with pytest.raises(ValueError, match=f"expected SHA-256 {expected}, got [0-9a-f]{{64}}"):
        load_checkpoint(tmp_path)


def test_every_flipped_byte_of_the_index_is_refused_or_harmless(tmp_path):
    save_checkpoint(tmp_path, {"weights": torch.ones(2)}, VALUES)
    path = tmp_path / INDEX
    good = path.read_bytes()
    messages = []
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        try:
            loaded = load_checkpoint(tmp_path)
        except ValueError as error:
            messages.append(str(error))
        else:  # white space, or a last digit beyond a number's precision
            assert loaded is not None
            assert loaded.values == VALUES
    assert all("corrupt checkpoint" in m and str(tmp_path) in m for m in messages)
    assert len(messages) > 0.7 * len(good)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"tensors": 3}', "\udcff"])
def test_a_bad_index_is_refused_by_name_and_left(tmp_path, content):
    save_checkpoint(tmp_path, _tensors(), VALUES)
    (tmp_path / INDEX).write_bytes(content.encode("utf-8", "surrogateescape"))
    before = _contents(tmp_path)
    with pytest.raises(ValueError, match=f"corrupt checkpoint index .*{INDEX}"):
        load_checkpoint(tmp_path)
    assert _contents(tmp_path) == before


def test_an_optimizer_goes_on_as_if_never_stopped(tmp_path):
    def start():
        torch.manual_seed(2)
        weights = torch.nn.Parameter(torch.randn(3, 5))
        bias = torch.nn.Parameter(torch.randn(5))
        groups = [{"params": [weights], "weight_decay": 0.3}, {"params": [bias]}]
        return weights, bias, torch.optim.AdamW(groups, lr=0.1, fused=True)

    def step(weights, bias, optimizer, scale):
        optimizer.zero_grad()
        ((scale - weights + bias) ** 4).sum().backward()
        optimizer.step()

    weights, bias, optimizer = start()
    for scale in (1.0, -2.0):
        step(weights, bias, optimizer, scale)
    save_checkpoint(tmp_path, optimizer_tensors([optimizer]), {})
    kept = weights.detach().clone(), bias.detach().clone()
    step(weights, bias, optimizer, 3.0)

    other_weights, other_bias, other = start()
    with torch.no_grad():
        other_weights.copy_(kept[0])
        other_bias.copy_(kept[1])
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    load_optimizer_tensors([other], loaded.tensors)
    step(other_weights, other_bias, other, 3.0)
    assert torch.equal(other_weights, weights)
    assert torch.equal(other_bias, bias)
