"""What a job says about its own progress, and how that gets to the supervisor.

A child and its supervisor share a page of memory. So a report costs no system call, waits for
nobody, and cannot be mixed up with the messages about tasks; the supervisor looks now and then.
"""

from __future__ import annotations

import mmap
import struct

MAX_TEXT = 100  # characters
_WAS_READ = 0  # the byte of the page that says so
_REPORT = struct.Struct("<QdH400s")  # the call's number, the fraction, the text and its size
_REPORT_AT = 8


class ChildPage:
    """The memory that a child and its supervisor share."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, mmap.PAGESIZE)
        self.call = 0  # the number of the running one; each process counts by itself

    def report(self, fraction: float, text: str) -> None:
        """Write how far the running call has come; called by the child."""
        # In one step, and all of it: another thread or process of the job may report, too.
        data = text[:MAX_TEXT].encode("utf-8", "replace")
        _REPORT.pack_into(self._bytes, _REPORT_AT, self.call, fraction, len(data), data)

    def read_report(self) -> tuple[float, str] | None:
        """Return the fraction and the text of the running call; None if it has reported nothing.

        What is written at this moment may be garbled; the next look corrects it.
        """
        call, fraction, size, data = _REPORT.unpack_from(self._bytes, _REPORT_AT)
        if call != self.call or not call or not 0.0 <= fraction <= 1.0:
            return None
        return fraction, data[:size].decode("utf-8", "replace")

    @property
    def was_read(self) -> bool:
        """Whether the supervisor has read what the child prints, since the child has reset this."""
        return self._bytes[_WAS_READ] != 0

    @was_read.setter
    def was_read(self, value: bool) -> None:
        self._bytes[_WAS_READ] = value

    def close(self) -> None:
        """Unmap the page in this process."""
        self._bytes.close()


_page: ChildPage | None = None  # of this process, if it is a child of a worker


def use_page(page: ChildPage) -> None:
    """Let jobs that run in this process report to a page."""
    global _page  # noqa: PLW0603 - a job calls a plain function, which finds its process's page here
    _page = page


def progress(fraction: float, text: str = "") -> None:
    """Report how far the running job has come on its file, for those who watch.

    It may be called as often as you like: nothing is sent, and whoever shows it looks twice per
    second. Outside a worker, as in a test, it does nothing. It never changes a result, and gives a
    job no more time: ``timeout_s`` counts on. In a batch, it is the progress of all its files.
    Processes that a job forks may call it, too.

    Parameters
    ----------
    fraction : float
        The part that is done, from 0 to 1.
    text : str, optional
        What the job is doing, such as ``"separating"``; 100 characters are kept.

    Raises
    ------
    ValueError
        If the fraction is not a number from 0 to 1, or the text is no string.
    """
    try:
        is_share = bool(0.0 <= fraction <= 1.0)
    except (TypeError, ValueError):
        is_share = False
    if not is_share:
        raise ValueError(
            f"the fraction is {fraction!r}; report a number from 0 to 1, such as done / total"
        )
    if not isinstance(text, str):
        raise ValueError(f"the text is {text!r}; report a string, such as 'separating'")  # noqa: TRY004
    if _page is not None:
        _page.report(float(fraction), text)
