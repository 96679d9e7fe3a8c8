"""The frame of the command line: commands, error messages and exit codes."""

from __future__ import annotations

import errno
import os
import re
import shlex

import click
import pytest

from segue import extras
from segue.errors import (
    ConfigurationError,
    CorruptMedia,
    DiskFull,
    TooManyFailures,
    Unavailable,
)
from segue_cli import main as frame
from segue_cli.command import GENERAL, command
from segue_cli.exit_code import ExitCode
from segue_cli.main import SUMMARIES, load_command


def raising(monkeypatch, error: BaseException) -> None:
    """Let ``segue status`` be a command that raises."""

    @command(examples=("segue status",))
    def status(context):
        """Raise."""
        raise error

    monkeypatch.setattr(frame, "load_command", lambda _name: status)


def test_without_a_command_help_is_shown_and_nothing_was_done(segue):
    said = segue()
    assert said.code == ExitCode.USAGE
    assert all(name in said.out for name in SUMMARIES)


def test_the_version_is_printed(segue):
    said = segue("--version")
    assert (said.code, said.err) == (ExitCode.OK, "")
    assert said.out.startswith("segue ")


def test_an_unknown_command_is_guessed(segue):
    said = segue("stats")
    assert said.code == ExitCode.USAGE
    assert "Did you mean 'status'?" in said.err
    assert said.out == ""


def test_an_unknown_option_is_refused(segue):
    said = segue("status", "--prefx", "x")
    assert said.code == ExitCode.USAGE
    assert "--prefix" in said.err
    assert "segue status --help" in said.err


@pytest.mark.parametrize("name", SUMMARIES)
def test_each_command_has_help_with_examples(segue, name):
    said = segue(name, "--help")
    assert said.code == ExitCode.OK
    assert "Examples:" in said.out
    assert f"  segue {name}" in said.out


@pytest.mark.parametrize("name", SUMMARIES)
def test_each_example_is_a_command_line_that_is_understood(name):
    found = load_command(name)
    assert found.examples
    for example in found.examples:
        _, called, *arguments = shlex.split(re.split(r" >> | \| ", example)[0])
        assert called == name
        with found.make_context(name, arguments):
            pass


@pytest.mark.parametrize("name", SUMMARIES)
def test_each_command_takes_what_all_take(name):
    assert {*GENERAL} <= {*load_command(name).params}


def test_help_of_a_setting_names_its_variable_and_default(segue):
    out = " ".join(segue("status", "--help").out.split())
    assert "SEGUE_LEDGER" in out
    assert "sqlite:///.segue/ledger.db" in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("'x' is wrong; write y"), ExitCode.USAGE),
        (Unavailable("the server is away"), ExitCode.UNAVAILABLE),
        (DiskFull("no room is left"), ExitCode.UNAVAILABLE),
        (TooManyFailures("the first 200 files all failed"), ExitCode.FAILURES),
        (CorruptMedia("a.wav: not audio"), ExitCode.ERROR),
        (ValueError("surprise"), ExitCode.ERROR),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (click.Abort(), ExitCode.INTERRUPTED),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_no_traceback(segue, monkeypatch, error, code):
    raising(monkeypatch, error)
    said = segue("status", "--json")
    assert (said.code, said.out) == (code, "")
    assert said.err.lstrip().startswith("segue: ")
    assert str(error) in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (errno.EROFS, ExitCode.USAGE, "'/disk/x' is not accessible (Read-only file system); give"),
        (errno.EACCES, ExitCode.USAGE, "'/disk/x' is not accessible (Permission denied); give"),
        (errno.ENOSPC, ExitCode.UNAVAILABLE, "no room is left for '/disk/x'; free some space"),
    ],
)
def test_an_error_of_a_disk_is_no_unexpected_one(segue, monkeypatch, number, code, text):
    raising(monkeypatch, OSError(number, os.strerror(number), "/disk/x"))
    said = segue("status")
    assert said.code == code
    assert f"error: {text}" in said.err


def test_a_missing_package_is_reported_with_the_extra_that_installs_it(segue, monkeypatch):
    monkeypatch.setattr(extras, "MODULES", {"audio": ("no_such_module",)})
    raising(monkeypatch, ModuleNotFoundError("No module named 'x'", name="no_such_module"))
    said = segue("status")
    assert said.code == ExitCode.USAGE
    needed = "this command needs the extra 'audio'; install Segue as 'segue-features[audio]'"
    expected = f"segue: error: {needed}\n"
    assert said.err == expected
    assert "No module named 'x'" in segue("status", "--debug").err


def test_a_missing_module_of_an_installed_package_is_an_unexpected_error(segue, monkeypatch):
    raising(monkeypatch, ModuleNotFoundError("No module named 'numpy.x'", name="numpy.x"))
    assert "unexpected ModuleNotFoundError: No module named 'numpy.x'" in segue("status").err


def test_an_unexpected_error_says_how_to_see_more(segue, monkeypatch):
    raising(monkeypatch, ValueError("surprise"))
    assert "--debug" in segue("status").err
    assert "Traceback" in segue("status", "--debug").err
    monkeypatch.setenv("SEGUE_DEBUG", "1")
    assert "Traceback" in segue("status").err


def test_a_transient_error_says_that_nothing_is_lost(segue, monkeypatch):
    raising(monkeypatch, Unavailable("the server is away"))
    assert "run the same command again" in segue("status").err


def test_a_file_name_that_cannot_be_stored_is_refused(segue, project):
    said = segue("explain", "caf\udce9.wav", "--ledger", "sqlite:///ledger.db")
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith("error: the name 'caf\\xe9.wav' is not UTF-8; rename it\n")


def test_an_error_cannot_talk_to_the_terminal(segue, monkeypatch):
    raising(monkeypatch, ConfigurationError("a file named \x1b[2J\x07"))
    err = segue("status").err
    assert "\x1b" not in err
    assert "\\x1b[2J" in err


def test_no_color_reaches_child_processes(segue, monkeypatch):
    import os

    seen = []

    @command(examples=("segue status",))
    def status(context):
        """Look."""
        seen.append(os.environ.get("NO_COLOR"))

    monkeypatch.setattr(frame, "load_command", lambda _name: status)
    monkeypatch.setenv("NO_COLOR", "")
    segue("status", "--no-color")
    assert seen == ["1"]


def test_options_leave_the_environment_as_it_was(segue, monkeypatch):
    monkeypatch.delenv("SEGUE_DEBUG", raising=False)
    monkeypatch.setenv("NO_COLOR", "before")
    segue("graph", "--debug", "--no-color")
    assert "SEGUE_DEBUG" not in os.environ
    assert os.environ["NO_COLOR"] == "before"
