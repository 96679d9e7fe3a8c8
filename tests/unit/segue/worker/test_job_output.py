"""What a child prints becomes lines with the right label, and never too many of them."""

from __future__ import annotations

import os

import pytest

from segue.worker import secrets
from segue.worker.job_output import (
    LAST_LINES,
    MAX_LINE,
    MAX_LINES,
    WINDOW_S,
    CallLabel,
    ChildOutput,
    ChildPipe,
    OutputReader,
    build_mark,
)

MARK = build_mark()
ONE = CallLabel("one", "file:///a.wav", 1)
TWO = CallLabel("two", "file:///b.wav", 1)


@pytest.fixture
def reader() -> OutputReader:
    made = OutputReader(MARK)
    made.follow(ONE, is_marked=False)
    return made


def take(reader: OutputReader) -> list[tuple[str, str]]:
    return [(line.job, line.text) for line in reader.take_lines()]


def texts(reader: OutputReader) -> list[str]:
    return [text for _, text in take(reader)]


def test_lines_are_labelled_with_the_job_and_its_file(reader: OutputReader) -> None:
    reader.add(b"a\nb\n", 0.0)
    [first, second] = reader.take_lines()
    assert (first.job, first.uri, first.files, first.text) == (*ONE, "a")
    assert (second.job, second.uri, second.files, second.text) == (*ONE, "b")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_the_pieces_in_which_it_is_read_make_no_difference(reader: OutputReader, size: int) -> None:
    reader.follow(TWO, is_marked=True)
    data = "grün\nthe end".encode() + MARK + b"\0 next\n"
    for start in range(0, len(data), size):
        reader.add(data[start : start + size], 0.0)
    assert take(reader) == [("one", "grün"), ("one", "the end"), ("two", "\\x00 next")]


def test_what_is_printed_before_the_mark_is_of_the_call_before(reader: OutputReader) -> None:
    reader.follow(TWO, is_marked=True)  # is known before its bytes are read
    reader.add(b"late\n", 0.0)
    reader.add(MARK + b"mine\n", 0.0)
    assert take(reader) == [("one", "late"), ("two", "mine")]


def test_calls_that_print_nothing_in_between_are_skipped(reader: OutputReader) -> None:
    reader.follow(TWO, is_marked=True)
    reader.follow(ONE._replace(job="three"), is_marked=False)
    reader.follow(ONE._replace(job="four"), is_marked=False)
    reader.add(b"late\n" + MARK + b"mine\n", 0.0)
    assert take(reader) == [("one", "late"), ("four", "mine")]


def test_a_mark_may_be_read_before_the_message_that_tells_of_it(reader: OutputReader) -> None:
    reader.add(b"a\n" + MARK, 0.0)
    reader.follow(TWO, is_marked=True)
    reader.add(b"b\n", 0.0)
    reader.follow(ONE, is_marked=False)
    reader.add(b"c\n", 0.0)
    assert take(reader) == [("one", "a"), ("two", "b"), ("one", "c")]


def test_a_child_that_rests_keeps_the_label_of_its_last_job(reader: OutputReader) -> None:
    reader.add(b"a\n", 0.0)
    reader.follow(None, is_marked=True)
    reader.add(MARK + b"from a thread\n", 0.0)
    assert take(reader) == [("one", "a"), ("one", "from a thread")]


def test_before_any_job_there_is_no_label() -> None:
    reader = OutputReader(MARK)
    reader.add(b"a\n", 0.0)
    assert take(reader) == [("", "a")]


def test_bytes_that_are_no_text_and_control_characters_are_escaped(reader: OutputReader) -> None:
    reader.add(b"\xff\xfe \x1b[31mred\x07\n\xe2\x80\xae\ttab\n", 0.0)
    assert texts(reader) == ["\\xff\\xfe \\x1b[31mred\\x07", "\\u202e\ttab"]


def test_empty_lines_are_left_out(reader: OutputReader) -> None:
    reader.add(b"\n  \na\r\n\n", 0.0)
    assert texts(reader) == ["a"]


def test_of_a_line_that_is_overwritten_the_last_state_is_shown(reader: OutputReader) -> None:
    for percent in range(100):
        reader.add(b"\r%3d %% " % percent + b"#" * percent, 0.0)
    reader.add(b"\rdone\nnext\n", 0.0)
    assert texts(reader) == ["done", "next"]


def test_a_progress_bar_is_shown_once_per_window(reader: OutputReader) -> None:
    reader.add(b"\r 1 %", 0.0)
    reader.renew(WINDOW_S - 1)
    assert reader.has_unfinished
    assert texts(reader) == []
    reader.add(b"\r 2 %", WINDOW_S - 1)
    reader.renew(WINDOW_S)
    assert texts(reader) == [" 2 %"]
    assert not reader.has_unfinished


def test_a_long_line_is_cut(reader: OutputReader) -> None:
    reader.add(b"x" * (MAX_LINE + 5) + b"\n" + b"y" * 10 * MAX_LINE, 0.0)
    reader.add(b"z" * 10 * MAX_LINE, 0.0)
    reader.add(b"z\nshort\n", 0.0)
    assert texts(reader) == [
        "x" * MAX_LINE + " [5 more bytes]",
        "y" * MAX_LINE + f" [{19 * MAX_LINE + 1:,} more bytes]",
        "short",
    ]


def test_of_too_many_lines_the_first_and_the_last_are_kept(reader: OutputReader) -> None:
    count = 10 * MAX_LINES
    for start in range(0, count, 50):
        reader.add(b"".join(b"%d\n" % n for n in range(start, start + 50)), 0.0)
    reader.add(b"the end", 0.0)
    assert texts(reader) == [str(n) for n in range(MAX_LINES)]
    reader.end()
    assert texts(reader) == [
        f"[{count - MAX_LINES - LAST_LINES:,} lines are left out here]",
        *(str(n) for n in range(count - LAST_LINES, count)),
        "the end",
    ]


def test_one_line_too_many_is_only_late(reader: OutputReader) -> None:
    reader.add(b"x\n" * MAX_LINES + b"last\n", 0.0)
    reader.end()
    assert texts(reader) == ["x"] * MAX_LINES + ["last"]


def test_a_long_call_may_print_more_later(reader: OutputReader) -> None:
    reader.add(b"x\n" * (2 * MAX_LINES), 0.0)
    reader.add(b"y\n", WINDOW_S)
    found = texts(reader)
    assert found[MAX_LINES] == f"[{MAX_LINES - LAST_LINES} lines are left out here]"
    assert found[-1] == "y"
    assert len(found) == MAX_LINES + 1 + LAST_LINES + 1


def test_the_next_call_may_print_as_much(reader: OutputReader) -> None:
    reader.add(b"x\n" * (2 * MAX_LINES), 0.0)
    reader.follow(TWO, is_marked=True)
    reader.add(MARK + b"y\n" * MAX_LINES, 0.0)
    assert take(reader)[-MAX_LINES:] == [("two", "y")] * MAX_LINES


@pytest.fixture
def pipe() -> ChildPipe:
    return ChildPipe(MARK)


@pytest.fixture
def output(pipe: ChildPipe) -> ChildOutput:
    return ChildOutput(pipe._child_end, MARK, pipe.page)


def test_a_call_that_prints_nothing_leaves_no_mark(pipe: ChildPipe, output: ChildOutput) -> None:
    assert not output.end_call()
    assert pipe.read() == b""


def test_a_call_that_prints_ends_with_one_mark(pipe: ChildPipe, output: ChildOutput) -> None:
    os.write(pipe._child_end, b"a\n")
    assert output.end_call()
    assert pipe.read() == b"a\n" + MARK
    assert not output.end_call()


def test_there_is_a_mark_even_if_all_was_read_before(pipe: ChildPipe, output: ChildOutput) -> None:
    os.write(pipe._child_end, b"a\n")
    assert pipe.read() == b"a\n"
    assert output.end_call()
    assert pipe.read() == MARK
    assert not output.end_call()


def test_an_end_that_a_job_has_closed_or_replaced_gets_no_mark(
    pipe: ChildPipe, output: ChildOutput, tmp_path
) -> None:
    pipe.page.was_read = True
    os.close(pipe._child_end)
    assert not output.end_call()
    pipe.page.was_read = True
    other = os.open(tmp_path / "own", os.O_CREAT | os.O_RDWR)
    os.dup2(other, pipe._child_end)
    assert not output.end_call()
    assert os.fstat(other).st_size == 0
    assert pipe.read() is None


def test_the_beginning_of_a_secret_is_masked_if_its_rest_is_printed_later(reader):
    secrets.use_secrets({"one": {"key": "hunter2-and-more"}})
    try:
        reader.add(b"the key is hunter", 0.0)
        reader.renew(WINDOW_S)
        reader.add(b"2-and-more\n", WINDOW_S)
        assert texts(reader) == ["the key is ***", "***"]
    finally:
        secrets.use_secrets({})
