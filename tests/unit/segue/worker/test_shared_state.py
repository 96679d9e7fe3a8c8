"""What a child leaves in the memory it shares is whole, told once, and says where it was."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from segue.worker.shared_state import UNSENT_BYTES, Cell, Phase, new_handle


@pytest.fixture
def sides() -> Iterator[tuple[Cell, Cell]]:
    """The child's and the parent's view of the same memory."""
    handle = new_handle()
    child, parent = Cell(handle), Cell(handle)
    os.close(handle)
    yield child, parent
    child.close()
    parent.close()


def test_the_parent_sees_where_the_child_is(sides: tuple[Cell, Cell]) -> None:
    child, parent = sides
    assert parent.place() is None
    child.enter(2**40, 300, Phase.COLD, 12.5, files=16)
    place = parent.place()
    assert place is not None
    assert place == (2**40, 300, Phase.COLD, 16, 12.5)
    child.leave()
    assert parent.place() is None


def test_an_order_that_was_revoked_is_not_taken_up_and_a_later_one_is(
    sides: tuple[Cell, Cell],
) -> None:
    child, parent = sides
    assert child.take(3)
    assert parent.revoke(5) == 3
    assert not child.take(4)
    assert not child.take(5)
    assert child.take(6)
    assert parent.taken == 6


def test_what_is_kept_is_heard_before_it_is_sent_and_not_twice(sides: tuple[Cell, Cell]) -> None:
    child, parent = sides
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert child.put(b"one")
        assert parent.unsent(0) == b"one"
        assert child.put(b"two")
        assert parent.unsent(3) == b"two"
        child.flush(theirs)
        assert ours.recv(100) == b"onetwo"
        assert parent.unsent(6) == b""
        child.put(b"three")
        assert parent.unsent(6) == b"three"
        assert parent.unsent(0) == b""  # what comes before is still on its way


def test_a_message_that_was_sent_in_part_is_completed(sides: tuple[Cell, Cell]) -> None:
    child, parent = sides
    child.put(b"half sent")
    assert parent.unsent(5) == b"sent"


def test_what_has_no_room_is_not_kept(sides: tuple[Cell, Cell]) -> None:
    child, parent = sides
    assert child.put(b"x" * UNSENT_BYTES)
    assert not child.put(b"y")
    assert parent.unsent(0) == b"x" * UNSENT_BYTES
