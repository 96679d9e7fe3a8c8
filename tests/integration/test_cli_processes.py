"""The command line as real processes: what it imports, and how it ends."""

from __future__ import annotations

import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger
from segue.model.ledger import find_records_by_terms
from segue.model.record import LEASED

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
HEAVY = ("apache_beam", "librosa", "numpy", "google.api_core", "grpc", "pydantic", "rich")
LOOK = f"""
import sys
from segue_cli.main import main
code = main(sys.argv[1:])
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print(code, *loaded, file=sys.stderr)
"""
PATIENCE_S = 60


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")} | more


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["status", "--help"],
        ["backfill", "--help"],
        ["run", "--help"],
        ["doctor", "--help"],
        ["graph", "--json"],
        ["graph", "--format", "dot"],
    ],
)
def test_what_needs_nothing_heavy_imports_nothing_heavy(tmp_path, arguments):
    done = run(tmp_path, sys.executable, "-c", LOOK, *arguments)
    assert done.stderr.splitlines()[-1] == "0", done.stderr


@pytest.mark.parametrize("arguments", [["status"], ["failures"], ["retry"], ["explain", "nothing"]])
def test_looking_at_an_embedded_ledger_imports_no_client_and_no_beam(tmp_path, arguments):
    done = run(tmp_path, sys.executable, "-c", LOOK, *arguments)
    _, *loaded = done.stderr.splitlines()[-1].split()
    assert set(loaded) <= {"rich"}


def test_jobs_of_the_graph_are_completed(tmp_path):
    done = run(
        tmp_path,
        SEGUE,
        _SEGUE_COMPLETE="bash_complete",
        COMP_WORDS="segue failures --job be",
        COMP_CWORD="3",
    )
    assert done.stdout.split() == ["plain,beats"]


def test_commands_are_completed(tmp_path):
    done = run(
        tmp_path, SEGUE, _SEGUE_COMPLETE="bash_complete", COMP_WORDS="segue stat", COMP_CWORD="1"
    )
    assert done.stdout.split() == ["plain,status"]


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_the_script_that_enables_completion_is_shown(tmp_path, shell):
    done = run(tmp_path, SEGUE, "--show-completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_SEGUE_COMPLETE={shell}_complete" in done.stdout


def test_bash_completes_commands_options_and_files(tmp_path):
    (tmp_path / "song.flac").write_bytes(b"")
    script = f"""
        PATH={os.path.dirname(SEGUE)}:$PATH
        eval "$(segue --show-completion bash)"
        complete -p segue
        complete_words() {{
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            compopt() {{ echo compopt "$@"; }}
            _segue_completion segue
            echo "${{COMPREPLY[*]}}"
        }}
        complete_words segue stat
        complete_words segue run ener
        complete_words segue status --led
        complete_words segue explain so
    """
    done = run(tmp_path, "bash", "-c", script)
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _segue_completion segue",
        "status",
        "energy",
        "--ledger",
        "compopt -o default",
        "",
    ]


def test_a_file_name_that_is_not_utf_8_is_reported(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.yaml")
    with open(name, "w", encoding="ascii") as file:
        file.write(GRAPH)
    for more in ("--json", "--output=graph.json"):
        done = subprocess.run(
            [SEGUE, "graph", "--graph", name, more],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            check=True,
        )
        shown = done.stdout or (tmp_path / "graph.json").read_bytes()
        assert json.loads(shown)["path"].endswith("caf\udce9.yaml")


def test_a_reader_that_goes_away_is_no_error_to_speak_of(tmp_path):
    with subprocess.Popen(
        [SEGUE, "graph", "--json"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()  # before anything is written
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_S) == 1


def test_in_a_pipe_a_status_that_is_watched_is_printed_each_time(tmp_path):
    with subprocess.Popen(
        [SEGUE, "status", "--watch", "0.1"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        headings = [line for line in itertools.islice(process.stdout, 40) if b"done" in line]
        process.stdout.close()  # it ends at the next table
        assert process.wait(PATIENCE_S) == 1
    assert len(headings) >= 2


def test_ctrl_c_ends_a_command_with_its_own_exit_code(tmp_path):
    with subprocess.Popen(
        [SEGUE, "status", "--watch", "0.1"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert b"There is no ledger" in process.stderr.readline()
        time.sleep(0.3)  # it is drawing by now, or about to
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert b"Traceback" not in err


@pytest.mark.parametrize("times", [1, 2, 100])
def test_after_ctrl_c_a_backfill_leaves_nothing_running_and_continues(tmp_path, times):
    (tmp_path / "slow.py").write_text(
        "import os, time\n"
        "def slow(media):\n"
        "    while not os.path.exists('go'): time.sleep(0.02)\n"
        "    return 1\n"
    )
    (tmp_path / "jobs.yaml").write_text(
        "jobs:\n  slow: {run: 'slow:slow', needs: {media: source}, writes: application/json}\n"
    )
    (tmp_path / "music").mkdir()
    for number in range(20):
        (tmp_path / f"music/{number}.wav").write_bytes(b"x")
    command = [SEGUE, "backfill", "--prefix", "music", "--all", "--processes", "2"]
    url = f"sqlite:///{tmp_path}/.segue/ledger.db"

    def count_running() -> int:
        if not (tmp_path / ".segue/ledger.db").exists():
            return 0
        ledger = connect_ledger(url)
        running = len(list(find_records_by_terms(ledger, (LEASED,))))
        ledger.close()
        return running

    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until = time.monotonic() + PATIENCE_S
        while count_running() == 0 and time.monotonic() < until:
            time.sleep(0.05)
        for _ in range(times):
            process.send_signal(signal.SIGINT)  # does nothing once it has ended
            time.sleep(0.03)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert count_running() == 0
    (tmp_path / "go").touch()
    assert run(tmp_path, *command).returncode == 0


def test_a_tone_of_help_in_a_pipe_has_no_colours(tmp_path):
    assert "\033" not in run(tmp_path, SEGUE, "--help", FORCE_COLOR="1").stdout


@pytest.mark.parametrize(
    ("more", "has_colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_help_in_a_terminal_has_colours_unless_none_are_wanted(tmp_path, more, has_colours):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [SEGUE, "init", "--help"],
        cwd=tmp_path,
        env=environment(**({"NO_COLOR": "", "TERM": "xterm"} | more)),
        stdout=theirs,
        check=False,
    )
    os.close(theirs)
    out = os.read(ours, 100_000)
    os.close(ours)
    assert done.returncode == 0
    assert b"--force" in out
    assert (b"\033[" in out) == has_colours


def test_a_result_goes_to_standard_output_while_a_terminal_shows_the_progress(tmp_path):
    (tmp_path / "artifacts").mkdir()
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    connect_ledger(ledger).close()
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [SEGUE, "gc", "--json", "--ledger", ledger, "--artifacts", str(tmp_path / "artifacts")],
        cwd=tmp_path,
        env=environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=False,
    )
    os.close(theirs)
    err = os.read(ours, 100_000)
    os.close(ours)
    assert (done.returncode, json.loads(done.stdout)["artifacts"]) == (0, [])
    assert b"artifacts" not in err


GRAPH = """
artifacts: artifacts
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  bad: {run: "segue_support.jobs:raise_error", needs: {media: source}, writes: application/json}
  dies: {run: "segue_support.jobs:segfault", needs: {media: source}, writes: application/json}
  hangs:
    run: segue_support.jobs:hang
    needs: {media: source}
    writes: application/json
    timeout_s: 0.5
"""


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "good.wav").write_bytes(b"sound")
    (tmp_path / "bad.wav").write_bytes(b"sound")
    return tmp_path


def test_a_job_runs_isolated_and_leaves_nothing_behind(project):
    before = sorted(p.name for p in project.iterdir())
    done = run(project, SEGUE, "run", "fine", "good.wav", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["result"] == {"ok": True}
    assert found["results"][0]["cpu_seconds"] is not None
    assert sorted(p.name for p in project.iterdir()) == before


def test_the_traceback_of_a_job_starts_in_its_own_code(project):
    done = run(project, SEGUE, "run", "bad", "bad.wav")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.partition("Traceback (most recent call last):\n")[2].splitlines()
    assert "tests/support/segue_support/jobs.py" in lines[0]
    assert "bad failed after" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--no-isolation"]])
def test_nothing_that_a_job_prints_or_raises_can_talk_to_the_terminal(project, arguments):
    (project / "loud.py").write_text(
        "import sys\n"
        "def loud(media):\n"
        "    print('printed \\x1b]0;owned\\x07', media.uri)\n"
        "    sys.stderr.write('written \\x1b[2J\\n')\n"
        "    raise ValueError('raised \\x1b[31m \\u202e')\n"
    )
    (project / "jobs.yaml").write_text(
        "jobs:\n  loud: {run: 'loud:loud', needs: {media: source}, writes: application/json}\n"
    )
    (project / "a\x9b31m.wav").write_bytes(b"sound")
    done = run(project, SEGUE, "run", "loud", "a\x9b31m.wav", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    for fragment in (r"printed \x1b]0;owned\x07", r"written \x1b[2J", r"raised \x1b[31m \u202e"):
        assert fragment in done.stderr
    assert all(line.isprintable() for line in done.stderr.split("\n"))


@pytest.mark.parametrize(("job", "kind"), [("dies", "crashed")])
def test_what_kills_its_process_is_reported_by_its_kind(project, job, kind):
    done = run(project, SEGUE, "run", job, "bad.wav", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["results"][0]["error"]["kind"] == kind
