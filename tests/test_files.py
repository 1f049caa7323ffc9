import hashlib

import pytest

from trix.files import atomic_path, file_sha256, json_sha256, locked, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "page.txt"
    write_text(target, "ä")
    assert target.read_bytes() == "ä".encode()
    assert target.stat().st_mode & 0o777 == 0o644
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert target.read_text(encoding="utf-8") == "ä"
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "ä"
    assert [path.name for path in target.parent.iterdir()] == ["page.txt"]


def test_a_folder_is_kept_to_one_until_it_is_left(tmp_path):
    folder = tmp_path / "kept"
    with (
        locked(folder),
        pytest.raises(BlockingIOError, match="kept is in use"),
        locked(folder, wait=False),
    ):
        pass
    with locked(folder, wait=False):
        pass


def test_the_hash_is_of_bytes_and_of_values_in_any_order(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
    assert json_sha256({"a": 1, "b": 2}) == json_sha256({"b": 2, "a": 1})
    assert json_sha256({"a": 1}) != json_sha256({"a": 2})
