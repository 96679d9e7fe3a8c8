"""The parent reads a child's progress, and each of its frames once and complete."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from segue.worker.shared_state import UNSENT_BYTES, Phase, SharedState, create_memory


@pytest.fixture
def sides() -> Iterator[tuple[SharedState, SharedState]]:
    """Return the child's and the parent's view of the same memory."""
    memory = create_memory()
    child, parent = SharedState(memory), SharedState(memory)
    os.close(memory)
    yield child, parent
    child.close()
    parent.close()


def test_the_parent_reads_what_the_child_is_doing(sides: tuple[SharedState, SharedState]) -> None:
    child, parent = sides
    assert parent.read_progress() is None
    child.set_progress(2**40, 300, Phase.COLD, 12.5, files=16)
    progress = parent.read_progress()
    assert progress is not None
    assert progress == (2**40, 300, Phase.COLD, 16, 12.5)
    child.clear_progress()
    assert parent.read_progress() is None


def test_a_revoked_order_is_not_taken_and_a_later_one_is(
    sides: tuple[SharedState, SharedState],
) -> None:
    child, parent = sides
    assert child.take(3)
    assert parent.revoke(5) == 3
    assert not child.take(4)
    assert not child.take(5)
    assert child.take(6)
    assert parent.last_taken == 6


def test_a_frame_can_be_read_before_it_is_sent_and_is_not_read_twice(
    sides: tuple[SharedState, SharedState],
) -> None:
    child, parent = sides
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert child.append(b"one")
        assert parent.read_unsent(0) == b"one"
        assert child.append(b"two")
        assert parent.read_unsent(3) == b"two"
        child.flush(theirs)
        assert ours.recv(100) == b"onetwo"
        assert parent.read_unsent(6) == b""
        child.append(b"three")
        assert parent.read_unsent(6) == b"three"
        assert parent.read_unsent(0) == b""  # the bytes before it are still in the channel


def test_a_partly_sent_message_is_completed(
    sides: tuple[SharedState, SharedState],
) -> None:
    child, parent = sides
    child.append(b"half sent")
    assert parent.read_unsent(5) == b"sent"


def test_a_frame_without_room_is_not_buffered(sides: tuple[SharedState, SharedState]) -> None:
    child, parent = sides
    assert child.append(b"x" * UNSENT_BYTES)
    assert not child.append(b"y")
    assert parent.read_unsent(0) == b"x" * UNSENT_BYTES
