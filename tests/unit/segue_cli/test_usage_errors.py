"""What is said of a call that is wrong: the value, and what to write instead."""

from __future__ import annotations

import pytest

from segue_cli.exit_code import ExitCode


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backfill", "--limit", "0"), "--limit is 0; write a whole number of at least 1"),
        (("backfill", "--limit", "x"), "--limit is 'x'; write a whole number of at least 1"),
        (("up", "--until-idle", "-1"), "--until-idle is -1.0; write a number of at least 0"),
        (("status", "--watch", "0"), "--watch is 0.0; write a number of at least 0.1"),
        (
            ("work", "--health-port", "70000"),
            "--health-port is 70000; write a whole number from 1 to 65535",
        ),
        (
            ("status", "--log-level", "loud"),
            "--log-level is 'loud'; write debug, info, warning or error",
        ),
        (
            ("export", "beats", "--format", "xls"),
            "--format is 'xls'; write parquet, csv, jsonl or arrow",
        ),
        (("cancel",), "RUN is missing: its id, or the last 8 characters of it"),
        (("export",), "JOB is missing: the jobs; of one with several outputs"),
        (("watch",), "REQUEST|FILE is missing: the id that 'segue request' printed"),
        (
            ("--json", "status"),
            "--json stands before the command; write it after, as in 'segue status --json'",
        ),
        (
            ("--graph", "x.yaml", "status"),
            "--graph stands before the command; write it after, as in 'segue status --json'",
        ),
        (("--verson",), "No such option '--verson'. Did you mean '--version'?"),
        (("status", "--prefx", "x"), "No such option '--prefx'. Did you mean '--prefix'?"),
    ],
)
def test_a_wrong_call_is_refused_with_what_to_write(segue, folder, arguments, message):
    said = segue(*arguments)
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert f"segue: error: {message}" in said.err
    assert "\nTry 'segue" in said.err
