"""Generates the command line reference, ``docs/cli.md``, from the commands.

``python -m segue_cli.reference > docs/cli.md`` updates it; a test fails if it is out of date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping

import click

from segue.model.settings import SETTINGS
from segue_cli.command import Command, command
from segue_cli.exit_code import ExitCode
from segue_cli.main import COMMANDS, load_command

EXIT_CODES = {
    ExitCode.OK: "what was requested is there",
    ExitCode.ERROR: "an unexpected error; for some commands, see below",
    ExitCode.USAGE: "the command line, a setting, the graph or a job's code is wrong, or a place "
    "cannot be read or written; nothing was computed",
    ExitCode.FAILURES: "some files lack a result, or their records cannot be read, and running the "
    "same command again does not help",
    ExitCode.UNFINISHED: "some files lack a result as yet: run the same command again",
    ExitCode.UNAVAILABLE: "a server is unavailable or a disk is full: run the same command again "
    "later",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C, or a question was answered with no",
}
# What the codes of single commands mean; the others are those of all commands.
COMMAND_EXIT_CODES = {
    "demo": {
        ExitCode.OK: "the tour is over",
        ExitCode.ERROR: "with --teams, the systems did not start",
        ExitCode.FAILURES: "a tempo was not found, or with --teams, other jobs ran than should "
        "have; any other code is that of a command it ran",
    },
    "init": {ExitCode.OK: "the project is written"},
    "jobs": {ExitCode.OK: "the jobs, or the one, are shown"},
    "models": {
        ExitCode.OK: "the models that were asked for are here, or were listed",
        ExitCode.USAGE: "a name is wrong, a source is gone or is not what its checksum says, or "
        "the folder for models cannot be written",
        ExitCode.UNAVAILABLE: "a server cannot be reached or fails, or the disk is full",
    },
    "graph": {ExitCode.OK: "the graph, and with --check its code, has no faults"},
    "run": {
        ExitCode.OK: "the job has a result",
        ExitCode.ERROR: "the job, or one above it, failed",
        ExitCode.UNAVAILABLE: "it failed with a transient error",
    },
    "doctor": {ExitCode.OK: "no faults were found", ExitCode.ERROR: "faults were found"},
    "up": {
        ExitCode.OK: "it was stopped, or was idle for --until-idle; jobs may have failed, see "
        "'segue failures'",
        ExitCode.ERROR: "one of its programs could not be kept running",
        ExitCode.USAGE: "the configuration or a job is wrong, or the ledger was deleted or "
        "replaced while it was in use",
        ExitCode.INTERRUPTED: "it was stopped at once by a second Ctrl-C",
    },
    "plan": {
        ExitCode.OK: "all selected files were examined",
        ExitCode.FAILURES: "some files were left out, or have no probe to be selected by; or the "
        "graph includes none of the files that were found",
    },
    "backfill": {
        ExitCode.OK: "every requested result is there, but for the share of the files that "
        "--tolerate allows",
        ExitCode.FAILURES: "more files than --tolerate allows lack a result, as a job failed in "
        "this run or before, or were left out, or have no probe to be selected by; or the first "
        "200 files all failed in the same job; or --max-failures was reached; or the graph "
        "includes none of the files that were found",
        ExitCode.UNFINISHED: "the only missing results are held by other workers, of paused jobs "
        "or of jobs below them, were deferred after a transient error, or are of files that were "
        "overwritten or deleted meanwhile",
        ExitCode.INTERRUPTED: "it was interrupted with Ctrl-C or SIGTERM, or cancelled with 'segue "
        "cancel'",
    },
    "stream": {
        ExitCode.OK: "it was stopped, or was idle for --until-idle; jobs may have failed, see "
        "'segue failures'",
        ExitCode.INTERRUPTED: "it was stopped at once by a second Ctrl-C",
    },
    "work": {
        ExitCode.OK: "it was stopped, or was idle for --until-idle; jobs may have failed, see "
        "'segue failures'",
        ExitCode.INTERRUPTED: "it was stopped at once by a second Ctrl-C",
    },
    "publish": {
        ExitCode.OK: "the registry has the manifest; with --dry-run, it would",
        ExitCode.USAGE: "others are locked to what it would take away, and --break is not given",
        ExitCode.FAILURES: "with --dry-run: it would be refused",
    },
    "lock": {
        ExitCode.OK: "segue.lock is what the registry has now",
        ExitCode.UNFINISHED: "with --check: it is not",
    },
    "serve": {ExitCode.OK: "it was stopped"},
    "request": {
        ExitCode.OK: "all files are requested; with --watch, all results are there",
        ExitCode.FAILURES: "no files were requested, or some were ignored, or have no probe to be "
        "selected by; with --watch, also as for 'watch'",
        ExitCode.UNFINISHED: "with --watch: as for 'watch'",
    },
    "retry": {ExitCode.OK: "what failed is queued again, if anything matched"},
    "sweep": {
        ExitCode.OK: "all unfinished work is published again",
        ExitCode.UNFINISHED: "--limit was reached",
    },
    "reconcile": {
        ExitCode.OK: "all files were compared, and with --apply repaired",
        ExitCode.FAILURES: "some files were left out, or the graph includes none of the files that "
        "were found",
    },
    "cancel": {
        ExitCode.OK: "the run has ended, or its service was asked to end it",
        ExitCode.USAGE: "there is no such run, it is over, or it cannot be cancelled",
        ExitCode.UNFINISHED: "it has not ended after --timeout; it ends once what it has begun is "
        "finished",
    },
    "pause": {ExitCode.OK: "the jobs are paused, whether they were before or not"},
    "resume": {ExitCode.OK: "the jobs are not paused, whether they were before or not"},
    "gc": {
        ExitCode.OK: "what can be deleted is counted, or with --delete deleted",
        ExitCode.ERROR: "the ledger cannot be read completely; nothing was deleted",
    },
    "erase": {
        ExitCode.OK: "nothing is left of the files in any namespace; with --dry-run, what there is "
        "is shown",
        ExitCode.UNFINISHED: "something is left after --timeout: the output says where, and what "
        "to do",
    },
    "status": {ExitCode.OK: "the counts are shown, whatever they are"},
    "watch": {
        ExitCode.OK: "all results are there, but for those that are not applicable",
        ExitCode.FAILURES: "a job failed or is blocked, a named file was deleted, or a record "
        "cannot be read",
        ExitCode.UNFINISHED: "results are missing after --timeout",
    },
    "ping": {
        ExitCode.OK: "all pipelines answered",
        ExitCode.UNFINISHED: "some have not answered after --timeout",
    },
    "explain": {
        ExitCode.OK: "the file is explained, whatever its state",
        ExitCode.ERROR: "the file's record cannot be read",
    },
    "runs": {
        ExitCode.OK: "the runs are listed, if there are any",
        ExitCode.FAILURES: "some records cannot be read; all others are listed",
    },
    "test": {
        ExitCode.OK: "no job has a fault; it may have warnings",
        ExitCode.ERROR: "a job fails, or its results differ, or are not what its code declares",
    },
    "profile": {
        ExitCode.OK: "the job is profiled",
        ExitCode.ERROR: "the job, or one above it, failed on a file",
    },
    "console": {ExitCode.OK: "it was stopped"},
    "show": {
        ExitCode.OK: "the results are shown",
        ExitCode.UNFINISHED: "a named job has no current result for the file, or no job has one",
    },
    "failures": {ExitCode.OK: "the failures are listed, if there are any"},
    "compare": {
        ExitCode.OK: "all files of the sample are compared, whatever differs",
        ExitCode.FAILURES: "the new version failed for some, or old results cannot be read",
    },
    "export": {
        ExitCode.OK: "all current results are written, or with --dry-run counted, if there are any",
        ExitCode.FAILURES: "some artifacts or records cannot be read; all others are written",
    },
    "package": {ExitCode.OK: "the archives are written"},
}
# Environment variables without an option of their own.
VARIABLES = {
    "SEGUE_DEBUG": "like --debug: show tracebacks of unexpected errors and of failed jobs",
    "SEGUE_LOG_LEVEL": "like --log-level, for functions and workers, too",
    "SEGUE_LOG_FILE": "like --log-file, for functions and workers, too",
    "_SEGUE_COMPLETE": "set by the shell while it completes a command line",
    "SEGUE_FFMPEG": "the ffmpeg to use; default: the one on PATH, else that of imageio-ffmpeg",
    "SEGUE_GPUS": "the GPUs to use: how many, such as 2, or which, such as 0,1; default: those of "
    "CUDA_VISIBLE_DEVICES, else all",
    "SEGUE_MAX_DECODED_GIB": "how large a media file may be once it is decoded; default: 8",
    "SEGUE_EMULATORS": "where the tests find emulators: a folder laid out like the Cloud SDK's",
    "FIRESTORE_EMULATOR_HOST": "host:port of a Firestore emulator to use instead of the service",
    "PUBSUB_EMULATOR_HOST": "host:port of a Pub/Sub emulator to use instead of the service",
    "STORAGE_EMULATOR_HOST": "URL of a Cloud Storage emulator to use instead of the service",
    "BIGQUERY_EMULATOR_HOST": "URL of a server that stands in for BigQuery, without credentials",
    "NO_COLOR": "like --no-color, if not empty",
    "COLUMNS": "the width of the terminal in characters",
}
INTRODUCTION = """\
# The command line

<!-- Generated by `python -m segue_cli.reference > docs/cli.md`; a test compares them. -->

Results go to standard output, everything else to standard error. With `--json`, standard output is
a single JSON document; for `up` and `stream`, which run until stopped, it is one JSON object per
line. If a command ends with an error, standard output may be empty: look at the exit code first.
In a pipe, tables are plain and as wide as necessary.

To complete commands, options, job names and files with the Tab key, add a line to your shell's
start-up file:

```sh
eval "$(segue --show-completion bash)"  # ~/.bashrc
eval "$(segue --show-completion zsh)"   # ~/.zshrc, below compinit
segue --show-completion fish | source   # ~/.config/fish/config.fish
```
"""


def write_reference() -> str:
    """Return the whole reference as Markdown."""
    return "\n".join(_write_document())


def _write_document() -> Iterator[str]:
    yield INTRODUCTION
    for group, commands in COMMANDS.items():
        names = ", ".join(f"[{name}](#segue-{name})" for name in commands)
        yield f"* **{group}**: {names}"
    yield ""
    for commands in COMMANDS.values():
        for name in commands:
            yield from _write_command(name, load_command(name))
    yield from _write_shared_options()
    yield "## Exit codes\n"
    yield from _write_table("code", "meaning", _format_codes(EXIT_CODES))
    yield "What the codes of single commands mean:\n"
    yield "| command | code | meaning |\n|-|-|-|"
    for name, codes in COMMAND_EXIT_CODES.items():
        for code, meaning in _format_codes(codes).items():
            yield f"| `{name}` | `{code}` | {_escape_cell(meaning)} |"
    yield ""
    yield "## Environment variables\n"
    settings = {s.variable: f"{s.meaning}; default: {s.default}" for s in SETTINGS.values()}
    yield from _write_table("variable", "meaning", settings | VARIABLES)


def _format_codes(meanings: Mapping[ExitCode, str]) -> dict[str, str]:
    return {str(int(code)): meaning for code, meaning in meanings.items()}


def _write_command(name: str, command: Command) -> Iterator[str]:
    yield f"## segue {name}\n"
    unwrapped = "\b\n"  # tells click not to wrap a paragraph
    yield f"{inspect.cleandoc(command.help or '').replace(unwrapped, '')}\n"
    yield "```console"
    yield from (f"$ {example}" for example in command.examples)
    yield "```\n"
    groups = _group_parameters(command)
    if own := groups["Arguments"] + groups["Options"]:
        yield from _write_table("option", "meaning", dict(own))
    if command.settings:
        names = ", ".join(f"`--{name.replace('_', '-')}`" for name in command.settings)
        yield f"Settings: {names}.\n"
    if command.requires:
        extras = " and ".join(f"`{extra}`" for extra in command.requires)
        yield f"Needs the extra{'s' if len(command.requires) > 1 else ''} {extras}.\n"


def _write_shared_options() -> Iterator[str]:
    """Describe the options that commands share, once."""
    shared = command(settings=tuple(SETTINGS))(lambda: None)
    groups = _group_parameters(shared)
    yield "## Settings and shared options\n"
    yield "An option overrides its environment variable, which overrides the graph.\n"
    options = dict(groups["Settings"] + groups["General"])
    del options["--help"]
    yield from _write_table("option", "meaning", options)


def _group_parameters(declared: Command) -> dict[str, list[tuple[str, str]]]:
    return declared.group_parameters(click.Context(declared, **declared.context_settings))


def _write_table(left: str, right: str, rows: Mapping[str, str]) -> Iterator[str]:
    yield f"| {left} | {right} |\n|-|-|"
    for name, meaning in rows.items():
        yield f"| `{_escape_cell(name)}` | {_escape_cell(meaning)} |"
    yield ""


def _escape_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("[x", "\\[x")  # not a link


if __name__ == "__main__":
    sys.stdout.write(write_reference())
