"""Whole messages arrive however the stream is chunked, and neither end ever blocks."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest

from segue.model.media_file import MediaFile
from segue.model.record import Failure, State
from segue.model.transitions import Result
from segue.worker.protocol import (
    Aborted,
    Channel,
    Done,
    Phase,
    Started,
    Task,
    decode_frames,
    decode_tasks,
    encode,
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_messages_arrive_however_the_stream_is_chunked(ends) -> None:
    sender, receiver = ends
    channel = Channel(receiver)
    media = MediaFile(uri="file:///a", version="1", order=1)
    tasks = [Task(task_id=n, media=media, run=("a", "b"), inputs={"c": "u"}) for n in range(3)]
    data = b"".join(
        len(encoded).to_bytes(4, "little") + encoded for encoded in (encode(tasks), encode([]))
    )
    for size in (1, 3, 7, len(data)):
        messages = []
        for start in range(0, len(data), size):
            sender.sendall(data[start : start + size])
            messages += channel.receive() or []
        assert [decode_tasks(message) for message in messages] == [tasks, []]


def test_frames_arrive_unchanged(ends) -> None:
    failure = Failure(kind="timeout", type="JobTimeout", message="late")
    frames = [
        Done(1, Result(job="a", state=State.FAILED, error=failure, seconds=1.5), cold=True),
        Aborted("no model", "unavailable"),
        Started(2, "a", Phase.SETUP, 0.5, 2),
    ]
    Channel(ends[0]).send(frames)
    [message] = Channel(ends[1]).receive() or []
    assert decode_frames(message) == frames


def test_two_ends_that_send_much_at_the_same_time_do_not_block_each_other(ends) -> None:
    channels = [Channel(end) for end in ends]
    text = "x" * 5_000_000
    for channel in channels:
        channel.send([text])
        assert channel.has_unsent
    received = {0: [], 1: []}
    while not all(received.values()):
        for number, channel in enumerate(channels):
            channel.flush()
            received[number] += channel.receive() or []
    assert {msgspec.msgpack.decode(m)[0] for m in received[0] + received[1]} == {text}


def test_what_was_sent_before_the_other_end_closed_is_received(ends) -> None:
    sender, receiver = (Channel(end) for end in ends)
    receiver.send("never read")  # so the close is not orderly
    words = ["last words", "x" * 150_000]  # more than one read
    for word in words:
        sender.send(word)
    sender.socket.close()
    assert receiver.receive() == [encode(word) for word in words]
    assert receiver.receive() is None
    receiver.send("to nobody")
    assert not receiver.has_unsent


@pytest.mark.parametrize("data", [b"\xff\xff\xff\x7f", b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1"])
def test_data_that_is_no_message_is_rejected_after_the_messages_before_it(
    ends, data: bytes
) -> None:
    sender, receiver = ends
    frames = [Started(2, "a", Phase.CALL, 0.5, 2)]
    Channel(sender).send(frames)
    sender.sendall(data)
    first, rest = Channel(receiver).receive() or []
    assert decode_frames(first) == frames
    with pytest.raises(msgspec.MsgspecError):
        decode_frames(rest)
