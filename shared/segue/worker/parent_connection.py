"""The child's end of the channel: receives orders, buffers results, and sends them later."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from segue.worker.protocol import StreamDecoder, encode_frame

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from segue.worker.protocol import Frame, Order
    from segue.worker.shared_state import SharedState

_RECEIVE_BYTES = 2**18


class ChannelLost(Exception):
    """The parent is dead, or a job has closed the channel; buffered frames are in shared memory."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.by_job = not isinstance(error, BrokenPipeError | ConnectionResetError)


class ParentConnection:
    """Receives orders from the parent, and sends frames to it."""

    def __init__(self, channel: socket.socket, shared_state: SharedState) -> None:
        self._channel = channel
        self._shared_state = shared_state
        self._decoder = StreamDecoder.for_orders()
        self._identity = os.fstat(channel.fileno()).st_ino

    def receive_orders(self) -> Iterator[Sequence[Order]]:
        """Wait for orders, and yield each message until the parent closes the channel."""
        while True:
            try:
                data = self._channel.recv(_RECEIVE_BYTES)
            except OSError as error:
                raise ChannelLost(error) from error
            if not data:
                return
            yield from self._decoder.feed(data)

    def send(self, frame: Frame) -> None:
        """Buffer a frame in shared memory: the parent gets it even if this process crashes."""
        data = encode_frame(frame)
        if self._shared_state.append(data):
            return
        self.flush()
        if not self._shared_state.append(data):
            self._channel.sendall(data)
            self._shared_state.mark_sent(len(data))

    def flush(self) -> None:
        """Send the buffered frames."""
        self._shared_state.clear_progress()  # waiting for the parent must not count against a job
        try:
            self._check_identity()
            self._shared_state.flush(self._channel)
        except OSError as error:
            raise ChannelLost(error) from error

    def _check_identity(self) -> None:
        """Raise if a job closed the channel; a file of the job may have got its number since."""
        if os.fstat(self._channel.fileno()).st_ino != self._identity:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
