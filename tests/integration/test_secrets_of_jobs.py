"""A job's secrets from end to end: given to it by every engine, and left nowhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import google_crc32c
import pytest

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120
KEY, TOKEN = "hunter2-environment", "hunter2-stored-ü"
NAME = "projects/acme/secrets/token/versions/latest"
GRAPH = f"""
jobs:
  both:
    run: secret_jobs:both
    needs: {{media: source}}
    writes: application/json
    secrets: {{key: "env:SPEECH_KEY", token: {NAME}}}
  raised:
    run: secret_jobs:raised
    needs: {{media: source}}
    writes: application/json
    secrets: {{key: "env:SPEECH_KEY"}}
"""
JOBS = """
import hashlib

def both(media, *, key: str, token: str) -> dict[str, str]:
    print("called with", key, token)
    return {"hash": hashlib.sha256(f"{key} {token}".encode()).hexdigest()}

def raised(media, *, key: str) -> dict[str, str]:
    raise ConnectionRefusedError(f"https://speech.example/?key={key}")
"""


@pytest.fixture
def server() -> Iterator[list[str]]:
    """A server that answers as Secret Manager does; the paths that were asked for."""
    asked: list[str] = []
    data = TOKEN.encode()
    payload = {
        "data": base64.b64encode(data).decode(),
        "dataCrc32c": str(google_crc32c.value(data)),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            is_known = self.path == f"/v1/{NAME}:access"
            body = json.dumps({"name": NAME, "payload": payload} if is_known else {}).encode()
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        asked.append(f"http://127.0.0.1:{listening.server_port}")
        yield asked
        listening.shutdown()
        thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "secret_jobs.py").write_text(JOBS)
    (tmp_path / "media").mkdir()
    for name in "ab":
        (tmp_path / "media" / f"{name}.wav").write_bytes(name.encode())
    return tmp_path


def run(folder: Path, address: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it printed."""
    done = subprocess.run(
        [SEGUE, *arguments],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("SEGUE_", "PYTEST_"))},
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER": address,
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def find_in_files(folder: Path, text: str) -> list[str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in found if text.encode() in path.read_bytes()]


COMMANDS = {
    "backfill": ["backfill", "--prefix", "media", "--all", "--tolerate", "100%"],
    "up": ["up", "media", "--until-idle", "1"],
    "work": ["work", "--all", "--until-idle", "1"],
}


@pytest.mark.parametrize("command", ["backfill", "up"])
def test_both_kinds_reach_a_job_and_nothing_else(project, server, command):
    address, *_ = server
    code, said = run(project, address, *COMMANDS[command], SPEECH_KEY=KEY)
    assert code in (0, 3, 4), said
    results = list((project / ".segue/artifacts/both").rglob("*.json"))
    assert len(results) == 2
    assert "called with *** ***" in said
    assert set(server[1:]) == {f"/v1/{NAME}:access"}
    _, failures = run(project, address, "failures", "--json")
    _, explained = run(project, address, "explain", "media/a.wav", "--json")
    for text in (said, failures, explained):
        assert "hunter2" not in text
    assert find_in_files(project / ".segue", "hunter2") == []
    assert find_in_files(project / ".segue", "SPEECH_KEY") == []
    assert find_in_files(project / ".segue", "secrets/token") == []


def test_another_key_makes_nothing_stale(project, server):
    address, *_ = server
    arguments = ["backfill", "--prefix", "media", "--job", "both", "--json"]
    run(project, address, *arguments, SPEECH_KEY=KEY)
    code, said = run(project, address, *arguments, SPEECH_KEY="another key")
    assert code == 0
    assert '"current": 2' in said, said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_variable_ends_a_command_before_the_first_file(project, server, command):
    code, said = run(project, server[0], *COMMANDS[command])
    assert code == 2, said
    assert "jobs.both.secrets.key: the environment variable is not set; set it" in said
    assert not (project / ".segue/artifacts/both").exists()


def test_a_missing_secret_ends_a_command_before_the_first_file(project, server):
    (project / "jobs.yaml").write_text(GRAPH.replace("secrets/token", "secrets/missing"))
    code, said = run(project, server[0], *COMMANDS["backfill"], SPEECH_KEY=KEY)
    assert code == 2, said
    assert "jobs.both.secrets.token: Secret Manager answers with 404; there is no such" in said
    assert "secrets/missing" not in said
    assert not (project / ".segue/artifacts/both").exists()


def test_no_parameter_takes_the_place_of_a_secret(project, server):
    arguments = ["run", "raised", "media/a.wav", "--param", "key=typed"]
    code, said = run(project, server[0], *arguments, SPEECH_KEY=KEY)
    assert code == 2
    assert "'key' is a secret of 'raised' and no parameter; set what its reference in" in said
    assert "typed" not in said
