"""Results on standard output, notes on standard error; in a pipe nothing is truncated."""

from __future__ import annotations

import io
import json

import pytest
from rich.text import Text

from segue_cli.views.output import Output, build_table, draw_bar, render_plain


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal_of_80_columns(monkeypatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def long_table():
    rows = build_table("job", "uri", ">files")
    rows.add_row("energy", "gs://bucket/" + "x" * 300, "12")
    return rows


def test_a_pipe_gets_each_row_in_one_line_and_no_colours(capsys):
    Output().print(long_table(), Text("red", style="red"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "x" * 300 in lines[1]
    assert "\033" not in "".join(lines)


def test_a_terminal_gets_lines_that_fit_and_the_whole_value(monkeypatch):
    terminal = terminal_of_80_columns(monkeypatch)
    Output().print(long_table())
    lines = [Text.from_ansi(line).plain for line in terminal.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert sum(line.count("x") for line in lines) == 300


def test_a_terminal_gets_colours_unless_it_wants_none(monkeypatch):
    terminal = terminal_of_80_columns(monkeypatch)
    Output().print(Text("red", style="red"))
    assert "\033[31m" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    Output().print(Text("red", style="red"))
    assert "31m" not in terminal.getvalue()


def test_parts_stand_in_lines_of_their_own_in_a_terminal_and_in_a_pipe(monkeypatch, capsys):
    Output().print(Text("one"), Text(), "two")
    assert capsys.readouterr().out == "one\n\ntwo\n"
    terminal = terminal_of_80_columns(monkeypatch)
    Output().print(Text("one"), Text(), "two")
    assert terminal.getvalue() == "one\n\ntwo\n"


def test_brackets_in_names_are_no_markup(capsys):
    Output().print("song [bold]live[/bold].flac")
    assert capsys.readouterr().out == "song [bold]live[/bold].flac\n"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_part_can_talk_to_the_terminal(monkeypatch, capsys, is_terminal):
    terminal = terminal_of_80_columns(monkeypatch) if is_terminal else None
    name = "a\x1b]0;owned\x07\x1b[2J\x9b\u202e\x85.wav"
    rows = build_table("job", "uri")
    rows.add_row("energy", name)
    Output().print(name, Text(name, style="red"), rows)
    written = capsys.readouterr().out if terminal is None else terminal.getvalue()
    lines = (
        written.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "").split("\n")
    )
    assert all(line.isprintable() for line in lines)
    assert written.count(r"a\x1b]0;owned") == 3
    Output().note(name)
    assert r"a\x1b]0;owned" in capsys.readouterr().err


def test_notes_go_to_standard_error(capsys):
    Output().note("by the way")
    assert capsys.readouterr() == ("", "by the way\n")


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()])
def test_a_streamed_document_that_fails_is_complete_and_names_the_error(capsys, error):
    def items():
        yield 1
        raise error

    with pytest.raises(type(error)):
        Output(as_json=True).write_json_stream("items", items(), lambda: {"total": 1})
    assert json.loads(capsys.readouterr().out) == {
        "items": [1],
        "total": 1,
        "error": str(error) or "KeyboardInterrupt",
    }


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_streamed_document_is_one_json_document(capsys, count):
    seen = []

    def items():
        for number in range(count):
            seen.append(number)
            yield {"n": number}

    Output(as_json=True).write_json_stream("items", items(), lambda: {"total": len(seen)})
    assert json.loads(capsys.readouterr().out) == {
        "items": [{"n": n} for n in range(count)],
        "total": count,
    }


@pytest.mark.parametrize(("part", "full"), [(0, 0), (1, 1), (500, 6), (999, 11), (1000, 12)])
def test_a_bar_is_full_only_when_all_is_done(part, full):
    drawn = draw_bar(part, 1000)
    assert sum(end - start for start, end, style in drawn.spans if style == "green") == full


def test_without_colours_a_bar_shows_how_much_is_done():
    assert render_plain(draw_bar(0, 1000)) == "────────────\n"
    assert render_plain(draw_bar(500, 1000)) == "━━━━━━──────\n"
    assert render_plain(draw_bar(1000, 1000)) == "━━━━━━━━━━━━\n"


def test_plain_lines_end_without_blanks():
    assert all(line == line.rstrip() for line in render_plain(long_table()).splitlines())
