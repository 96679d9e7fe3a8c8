"""Messages survive the pieces in which they come, and nonsense is seen to be that."""

from __future__ import annotations

import msgspec
import pytest

from segue.model.record import Failure, State
from segue.worker.protocol import Built, Done, Inbox, Leaving, Order, encode_frame, encode_orders


def test_messages_are_whole_whatever_the_pieces() -> None:
    orders = [Order(n, f"file:///{n}", n, ("a", "b"), {"a": "u"}, ("b",), True) for n in range(3)]
    data = encode_orders(orders) + encode_orders(orders[:1])
    for size in (1, 3, 7, len(data)):
        inbox = Inbox.of_orders()
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        found = [message for piece in pieces for message in inbox.feed(piece)]
        assert found == [orders, orders[:1]]


def test_every_frame_comes_back_as_it_was() -> None:
    failure = Failure(kind="timeout", type="JobTimeout", message="late")
    frames = [
        Done(1, "a", State.FAILED, 1.5, 0.5, True, None, None, failure),
        Built("a", 8),
        Leaving(),
    ]
    data = b"".join(encode_frame(frame) for frame in frames)
    assert list(Inbox.of_frames().feed(data)) == frames


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1"])
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        list(Inbox.of_frames().feed(data))
