"""Splits what a child prints into lines, each labelled by the call that printed it, and bounded.

A child's standard output and error are one pipe, so no lines are mixed. At the end of a call in
which something was printed, the child writes a mark into the pipe: what comes before it is of that
call, however late it is read. A call that prints nothing costs nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import os
import secrets
import struct
import sys
import termios
from collections import deque
from typing import NamedTuple

from segue.job_progress import ChildPage
from segue.printable import escape_lines
from segue.worker.protocol import Line
from segue.worker.secrets import mask

# Of each call: so many lines in each window of time. After that, lines are dropped and counted,
# except for the last ones, which may say why it died.
MAX_LINES = 100
WINDOW_S = 10.0
LAST_LINES = 10
LAST_BYTES = 4096  # that hold them
MAX_LINE = 2000  # bytes
READ_BYTES = 2**16  # the size of a pipe on Linux
MAX_FILE = 2**24  # bytes; then what was read of it is removed
_LINE_BUFFERED = 1  # _IOLBF


def build_mark() -> bytes:
    """Return a line that no job prints."""
    return b"\0segue " + secrets.token_hex(8).encode() + b"\n"


def prepare_streams() -> None:
    """Have Python and C write each line at once, and say where it was if the process crashes."""
    sys.stdout = sys.stderr
    with contextlib.suppress(AttributeError, OSError, ValueError):  # another C library
        libc = ctypes.CDLL(None)
        name = "stdout" if sys.platform != "darwin" else "__stdoutp"
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, name), None, _LINE_BUFFERED, 0)
    faulthandler.enable(2)


def flush_streams() -> None:
    """Write what Python and C have buffered, or else each process that is forked would do so."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()  # type: ignore[union-attr]
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).fflush(None)


class ChildOutput:
    """A child's end of the pipe, which becomes its standard output and error."""

    def __init__(self, fd: int, mark: bytes, page: ChildPage) -> None:
        self.page = page
        self._fd = fd
        self._id = os.fstat(fd).st_ino
        self._mark = mark
        self._unread = bytearray(struct.calcsize("i"))

    def redirect(self) -> None:
        """Have all that this process, and those that it starts, print go into the pipe."""
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)

    def end_call(self) -> bool:
        """Write a mark if something was printed since the last one; return whether it was."""
        try:  # noqa: SIM105 - a context manager would take longer than all the rest
            sys.__stderr__.flush()  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):  # a job may have closed it
            pass
        # In this order: what is not there any more was read, and that is known before it is read.
        if not (self._has_unread() or self.page.was_read):
            return False
        self.page.was_read = False  # the supervisor sets it before it reads what comes next
        with contextlib.suppress(OSError):
            # If a job has closed it, a file of its own may have got the number since.
            if os.fstat(self._fd).st_ino == self._id:
                os.write(self._fd, self._mark)
                return True
        return False

    def _has_unread(self) -> bool:
        try:
            fcntl.ioctl(self._fd, termios.FIONREAD, self._unread)
        except OSError:
            return False
        return any(self._unread)


class ChildPipe:
    """The supervisor's end of what a child prints, and the page that they share."""

    def __init__(self, mark: bytes) -> None:
        self.page = ChildPage()
        self.fd, self._child_end = os.pipe()
        os.set_blocking(self.fd, False)
        self.reader = OutputReader(mark)
        self.is_open = True
        self._mark = mark

    def build_child_output(self) -> ChildOutput:
        """Return the child's end, in the child."""
        os.close(self.fd)
        return ChildOutput(self._child_end, self._mark, self.page)

    def read(self) -> bytes | None:
        """Return what has been printed; nothing if there is nothing yet, None at the end."""
        self.page.was_read = True
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""
        if data.endswith(self._mark):  # else the child would write another one, and so on
            self.page.was_read = False
        return data or None

    def close_child_end(self) -> None:
        """Close the end that is not needed in this process."""
        os.close(self._child_end)

    def close(self) -> None:
        """Read nothing more."""
        if self.is_open:
            self.is_open = False
            os.close(self.fd)


class SupervisorOutput:
    """What a supervisor prints, such as the modules that it imports: a file that the pool reads.

    A pipe would be full while nobody reads it.
    """

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        self._reader = OutputReader(build_mark())
        self._size = 0  # that was read
        self._is_open = True

    def read(self, now_s: float, *, is_last: bool = False) -> list[Line]:
        """Return the lines that are new, and with the last ones what has no end yet."""
        if not self._is_open:
            return []
        while data := os.pread(self.fd, READ_BYTES, self._size):
            self._size += len(data)
            self._reader.add(data, now_s)
        if self._size > MAX_FILE:
            os.ftruncate(self.fd, 0)
            self._size = 0
        if is_last:
            self._reader.end()
        return self._reader.take_lines()

    def close(self) -> None:
        """Read nothing more."""
        if self._is_open:
            self._is_open = False
            os.close(self.fd)


class CallLabel(NamedTuple):
    """What a line is labelled with."""

    job: str = ""  # empty: no job has been started
    uri: str = ""  # of its file; empty while it is set up
    files: int = 0  # in this call


class OutputReader:
    """Turns the bytes that come out of a child's pipe into lines; has no clock and reads nothing.

    ``follow`` is called with each message of the child, before the bytes that were read before it.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._rest = b""  # that may be the beginning of a mark
        self._label = self._latest = CallLabel()
        self._next: deque[tuple[CallLabel, bool]] = deque()  # and whether a mark comes before it
        self._early_marks = 0  # that were read before the messages that tell of them
        self._lines: list[Line] = []
        self._partial = b""  # the beginning of a line
        self._cut = 0  # how many more bytes that line has
        self._left = MAX_LINES
        self._window_s: float | None = None  # when it began; None: nothing was printed yet
        self._dropped = 0  # lines
        self._last = b""  # of those

    @property
    def has_unfinished(self) -> bool:
        """Whether a line, or a count of dropped ones, waits for what comes next."""
        return bool(self._partial or self._dropped)

    def follow(self, label: CallLabel | None, *, is_marked: bool) -> None:
        """Accept what the child runs from now on; None: nothing, so the last label still counts."""
        self._latest = label or self._latest
        if is_marked and self._early_marks:
            self._early_marks -= 1
            self._label = self._latest
        elif is_marked or self._next:
            self._next.append((self._latest, is_marked))
        else:
            self._label = self._latest

    def add(self, data: bytes, now_s: float) -> None:
        """Accept bytes that were read."""
        *calls, rest = (self._rest + data).split(self._mark)
        for printed in calls:
            self._add_text(printed, now_s)
            self._end_call()
        start = rest.rfind(b"\0", max(0, len(rest) - len(self._mark)))
        may_be_mark = start >= 0 and self._mark.startswith(rest[start:])
        self._rest = rest[start:] if may_be_mark else b""
        self._add_text(rest[:start] if may_be_mark else rest, now_s)

    def take_lines(self) -> list[Line]:
        """Return the lines that are finished."""
        lines, self._lines = self._lines, []
        return lines

    def renew(self, now_s: float) -> None:
        """If a window has passed, show what was left out or is unfinished, and allow more lines."""
        if self._window_s is not None and now_s - self._window_s >= WINDOW_S:
            self._finish()
            self._window_s, self._left = now_s, MAX_LINES

    def end(self) -> None:
        """Finish what the child has printed before it exited."""
        self._add_text(self._rest, self._window_s or 0.0)
        self._rest = b""
        self._finish()

    def _end_call(self) -> None:
        self._finish()
        self._window_s, self._left = None, MAX_LINES
        if not self._next:
            self._early_marks += 1
            return
        self._label, _ = self._next.popleft()
        while self._next and not self._next[0][1]:
            self._label, _ = self._next.popleft()

    def _finish(self) -> None:
        last = self._last.split(b"\n")[:-1][-LAST_LINES:]
        if dropped := self._dropped - len(last):
            self._write(f"[{dropped:,} lines are left out here]".encode())
        for line in last:
            self._write(line)
        if self._partial:
            self._write(self._partial, self._cut, is_open=True)
        self._partial = self._last = b""
        self._cut = self._dropped = 0

    def _add_text(self, text: bytes, now_s: float) -> None:
        if not text:
            return
        self._window_s = now_s if self._window_s is None else self._window_s
        self.renew(now_s)
        if self._cut:
            more, newline, text = text.partition(b"\n")
            self._cut += len(more)
            if not newline:
                return
            self._add_line(self._partial, self._cut)
            self._partial, self._cut = b"", 0
        *lines, rest = (self._partial + text).split(b"\n", self._left)
        for line in lines:
            self._add_line(line)
        if not self._left and b"\n" in rest:
            dropped, _, rest = rest.rpartition(b"\n")
            self._drop(dropped + b"\n")
        if len(rest) > MAX_LINE:
            rest = rest[rest.rfind(b"\r", 0, -1) + 1 :]  # a progress bar overwrites its line
            self._cut = max(0, len(rest) - MAX_LINE)
        self._partial = rest[:MAX_LINE]

    def _add_line(self, line: bytes, cut: int = 0) -> None:
        if self._left:
            self._left -= 1
            self._write(line, cut)
        else:
            self._drop(line + b"\n")

    def _drop(self, lines: bytes) -> None:
        self._dropped += lines.count(b"\n")
        self._last = (self._last + lines[-LAST_BYTES:])[-LAST_BYTES:]

    def _write(self, line: bytes, cut: int = 0, *, is_open: bool = False) -> None:
        """Add a line; one that is open may go on with the rest of a secret."""
        shown = line.rstrip().rpartition(b"\r")[2]
        cut += max(0, len(shown) - MAX_LINE)
        text = escape_lines(shown[:MAX_LINE].decode("utf-8", "backslashreplace"))
        text = mask(text, is_cut=is_open or bool(cut))
        if cut:
            text += f" [{cut:,} more bytes]"
        if text:
            self._lines.append(Line(*self._label, text))
