"""Messages are decoded however the stream is chunked, and invalid data is rejected."""

from __future__ import annotations

import msgspec
import pytest

from segue.model.record import Failure, State
from segue.worker.protocol import (
    BatchJobLoaded,
    Done,
    Exiting,
    Order,
    StreamDecoder,
    encode_frame,
    encode_orders,
)


def test_messages_are_decoded_however_the_stream_is_chunked() -> None:
    orders = [Order(n, f"file:///{n}", n, ("a", "b"), {"a": "u"}, ("b",), True) for n in range(3)]
    data = encode_orders(orders) + encode_orders(orders[:1])
    for size in (1, 3, 7, len(data)):
        decoder = StreamDecoder.for_orders()
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        messages = [message for piece in pieces for message in decoder.feed(piece)]
        assert messages == [orders, orders[:1]]


def test_frames_are_encoded_and_decoded_unchanged() -> None:
    failure = Failure(kind="timeout", type="JobTimeout", message="late")
    frames = [
        Done(1, "a", State.FAILED, 1.5, 0.5, True, None, None, failure),
        BatchJobLoaded("a", 8),
        Exiting(),
    ]
    data = b"".join(encode_frame(frame) for frame in frames)
    assert list(StreamDecoder.for_frames().feed(data)) == frames


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1"])
def test_invalid_data_is_rejected(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        list(StreamDecoder.for_frames().feed(data))
