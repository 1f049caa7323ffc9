"""The house stays small: files, rooms and public names, as `make size` counts them."""

import pytest

from tests import size

ROOMS = size.rooms()


@pytest.mark.parametrize(("room", "kind"), ROOMS)
def test_a_room_is_small(room, kind):
    assert len(ROOMS[room, kind]) <= size.FILES
    assert [path.name for path in ROOMS[room, kind] if size.lines([path]) > size.LINES] == []


def test_the_public_names_are_few():
    assert len(size.public_names()) <= size.FIRST["public names"][1]
