"""The child's end of the channel: orders come in; results are kept at once, and sent later."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from segue.worker.protocol import Inbox, encode_frame

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from segue.worker.protocol import Frame, Order
    from segue.worker.shared_state import Cell

_RECEIVE_BYTES = 2**18


class ChannelLost(Exception):
    """The parent is dead, or a job has closed our handles; what was told is in the cell."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.by_job = not isinstance(error, BrokenPipeError | ConnectionResetError)


class Uplink:
    """What a child hears of its parent, and tells it."""

    def __init__(self, channel: socket.socket, cell: Cell) -> None:
        self._channel = channel
        self._cell = cell
        self._inbox = Inbox.of_orders()
        self._identity = os.fstat(channel.fileno()).st_ino

    def messages(self) -> Iterator[Sequence[Order]]:
        """Wait for orders, and yield each message; ends when the parent hangs up."""
        while True:
            try:
                data = self._channel.recv(_RECEIVE_BYTES)
            except OSError as error:
                raise ChannelLost(error) from error
            if not data:
                return
            yield from self._inbox.feed(data)

    def tell(self, frame: Frame) -> None:
        """Keep a frame; whatever happens to this process, the parent will have it."""
        data = encode_frame(frame)
        if self._cell.put(data):
            return
        self.flush()
        if not self._cell.put(data):
            self._channel.sendall(data)
            self._cell.sent(len(data))

    def flush(self) -> None:
        """Send what is kept."""
        self._cell.leave()  # the parent's slowness counts as no job's
        try:
            self._check_identity()
            self._cell.flush(self._channel)
        except OSError as error:
            raise ChannelLost(error) from error

    def _check_identity(self) -> None:
        """If a job has closed our handle, a file of its own may have got the number since."""
        if os.fstat(self._channel.fileno()).st_ino != self._identity:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
