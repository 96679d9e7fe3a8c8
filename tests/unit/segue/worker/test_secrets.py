"""Jobs get their secrets, and nobody else does: in real child processes."""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segue.codec import decode
from segue.errors import ConfigurationError, Kind
from segue.model.graph import GraphError, parse_graph
from segue.model.job_code import check_code
from segue.model.record import State
from segue.worker import secrets
from segue.worker.protocol import Task
from segue_support.trial import Trial, run_tasks

SECRET = 'hunter2/"ü"\nsecond line\n'
JOBS = '''
import json, os, sys, time, urllib.parse
import segue

def value(media, *, api_key: str): return {"length": len(api_key)}
class Model:
    def __init__(self, api_key, size=1): self.length = len(api_key)
    def batch(self, inputs): return [{"length": self.length} for _ in inputs]
def places(media, *, api_key: str):
    """Where a process could find it, besides in its own memory."""
    processes = [os.getpid(), os.getppid()]
    found = [open(f"/proc/{p}/{what}").read() for p in processes for what in ("environ", "cmdline")]
    folder = os.path.dirname(os.path.dirname(os.environ["TMPDIR"]))
    for path, _, names in os.walk(folder):
        for name in names:
            found.append(open(os.path.join(path, name), errors="replace").read())
    return {"found": [api_key[:7] in text for text in found], "env": "SPEECH_KEY" in os.environ}
def raised(media, *, api_key: str): raise ValueError(f"no {api_key} here")
def quoted(media, *, api_key: str): raise ValueError({"key": api_key})
def address(media, *, api_key: str): raise ValueError("/?key=" + urllib.parse.quote_plus(api_key))
def cut(media, *, api_key: str): raise ValueError("x" * 470 + api_key)
def declined(media, *, api_key: str): raise segue.NotApplicable(f"no {api_key} here")
def leaked(media, *, api_key: str): return {"key": [api_key]}
def stripped(media, *, api_key: str): return {"key": api_key.strip()}
def leaked_bytes(media, *, api_key: str): return api_key.encode()
def described(media, *, api_key: str): return {"key": [api_key.encode()]}
def printed(media, *, api_key: str):
    print("the key is", api_key)
    print("x" * 1994 + api_key)
    print(json.dumps({"key": api_key}), file=sys.stderr)
    for number in range(200):
        print(number, api_key)
    return 1
def report(media, *, api_key: str):
    segue.progress(0.5, f"with {api_key}")
    time.sleep(60)
def other(media): return {"env": os.environ.get("SPEECH_KEY", "")}
class Setup:
    def __init__(self, api_key): raise RuntimeError(f"no {api_key} here")
    def __call__(self, media): return 1
'''
NAMES = (
    *("value", "Model", "places", "raised", "quoted", "address", "cut", "declined", "leaked"),
    *("described", "printed", "report", "stripped"),
)
JOB = "{{run: 'secret_jobs:{}', needs: {{media: source}}, writes: {}, secrets: {}}}"
KEYS = "{api_key: env:SPEECH_KEY}"


class Run:
    """One process that runs jobs with secrets, each on the same file."""

    def __init__(self, folder: Path) -> None:
        (folder / "secret_jobs.py").write_text(JOBS)
        self.folder = folder
        self.trial = Trial(str(folder))
        self.media = self.trial.add("a.wav")
        jobs = {name: JOB.format(name, "application/json", KEYS) for name in NAMES}
        jobs["leaked_bytes"] = JOB.format("leaked_bytes", "application/octet-stream", KEYS)
        jobs["other"] = JOB.format("other", "application/json", "{}")
        self.graph = self.parse(jobs)
        self.pool = self.trial.pool(self.graph, processes=1)
        self.count = 0

    def parse(self, jobs: dict[str, str]) -> Any:
        text = "".join(f"  {name.lower()}: {job}\n" for name, job in jobs.items())
        return parse_graph(f"jobs:\n{text}", path=str(self.folder / "jobs.yaml"))

    def __call__(self, job: str) -> Any:
        self.count += 1
        [found] = run_tasks(self.pool, [Task(task_id=self.count, media=self.media, run=(job,))])
        return found[job]

    def read(self, job: str) -> Any:
        return decode("application/json", self.trial.read(self(job)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECH_KEY", SECRET)
        found = Run(tmp_path_factory.mktemp("secrets"))
    with found.pool:
        yield found


@pytest.mark.parametrize("job", ["value", "model"])
def test_a_function_and_a_class_get_their_secret(run, job):
    assert run.read(job) == {"length": len(SECRET)}


def test_it_is_in_no_environment_and_no_file_of_the_processes(run):
    places = run.read("places")
    assert not places["env"]
    assert len(places["found"]) > 4
    assert not any(places["found"])


@pytest.mark.parametrize("job", ["raised", "quoted", "address", "cut", "described", "leaked"])
def test_what_is_recorded_of_a_failure_does_not_show_it(run, job):
    result = run(job)
    assert result.state is State.FAILED
    text = f"{result.error.message}\n{result.error.traceback}"
    assert "hunt" not in text
    assert "second line" not in text
    assert secrets.MASK in text or job in ("leaked", "cut")


def test_nor_does_the_reason_why_a_job_is_not_for_a_file(run):
    result = run("declined")
    assert (result.state, result.error.message) == (State.NOT_APPLICABLE, "no *** here")


@pytest.mark.parametrize("job", ["leaked", "leaked_bytes", "stripped"])
def test_a_result_that_contains_it_is_refused(run, job):
    result = run(job)
    assert (result.state, result.error.kind) == (State.FAILED, Kind.BAD_OUTPUT)
    assert result.error.message.startswith("the result contains the secret 'api_key'")
    assert result.artifacts == {}


def test_what_a_job_prints_is_masked(run, caplog, capfd):
    run("printed")
    shown = "".join(capfd.readouterr()) + caplog.text
    assert "the key is ***" in shown
    assert shown.count(secrets.MASK) > 60
    assert "hunt" not in shown


def test_a_pool_without_a_job_has_neither_its_secret_nor_the_variable(run, monkeypatch):
    monkeypatch.setenv("SPEECH_KEY", SECRET)
    with run.trial.pool(run.graph, jobs=["other"]) as pool:
        [found] = run_tasks(pool, [Task(task_id=1, media=run.media, run=("other",))])
        with pytest.raises(ConfigurationError, match=r"a task names value, whose secrets this poo"):
            pool.submit([Task(task_id=2, media=run.media, run=("value",))])
    assert decode("application/json", run.trial.read(found["other"])) == {"env": ""}


def test_what_a_job_says_of_its_progress_is_masked(run, monkeypatch):
    monkeypatch.setenv("SPEECH_KEY", SECRET)
    with run.trial.pool(run.graph, jobs=["report"]) as pool:
        pool.submit([Task(task_id=1, media=run.media, run=("report",))])
        while not any(running.text for running in pool.running):
            pool.collect(0.1)
        [running] = pool.running
        pool.kill()
    assert running.text == "with ***"


def test_it_is_no_part_of_a_fingerprint(run):
    graph = run.parse({"value": JOB.format("value", "application/json", "{api_key: env:OTHER}")})
    assert graph.fingerprints["value"] == run.graph.fingerprints["value"]


def test_a_job_whose_setup_fails_does_not_show_it(run, monkeypatch):
    monkeypatch.setenv("SPEECH_KEY", SECRET)
    graph = run.parse({"setup": JOB.format("Setup", "application/json", KEYS)})
    with run.trial.pool(graph) as pool, pytest.raises(ConfigurationError) as raised:
        run_tasks(pool, [Task(task_id=1, media=run.media, run=("setup",))])
    assert "no *** here" in str(raised.value)


def test_a_missing_secret_is_an_error_before_any_process_starts(run, monkeypatch):
    monkeypatch.delenv("SPEECH_KEY", raising=False)
    message = r"^jobs\.value\.secrets\.api_key: the environment variable is not set; set it"
    with pytest.raises(ConfigurationError, match=message):
        run.trial.pool(run.graph)
    run.trial.pool(run.graph, jobs=["other"]).close()


def test_a_secret_that_is_too_short_to_mask_is_refused(run, monkeypatch):
    monkeypatch.setenv("SPEECH_KEY", "abc\n")
    with pytest.raises(ConfigurationError, match="has fewer than 4 characters"):
        run.trial.pool(run.graph)


WRONG = {
    "key-1234": "is no reference to a secret; write env:NAME, or projects/PROJECT/secrets/NAME/",
    "12345678": "is no reference to a secret",
    "env:1KEY": "is no reference to a secret",
    "projects/acme/secrets/key": "is no reference to a secret",
    "${KEY-VALUE}": "is no reference to a secret",
}


@pytest.mark.parametrize(("value", "message"), WRONG.items())
def test_what_is_no_reference_is_refused_and_not_repeated(run, value, message):
    with pytest.raises(GraphError) as raised:
        run.parse({"value": JOB.format("value", "application/json", f"{{api_key: {value!r}}}")})
    assert f"jobs.value.secrets.api_key: {message}" in str(raised.value)
    assert value not in str(raised.value)


def test_a_secret_that_is_no_text_is_not_repeated_either():
    job = JOB.format("value", "application/json", "{api_key: '${SPEECH_KEY}'}")
    with pytest.raises(GraphError) as raised:
        parse_graph(f"jobs: {{value: {job}}}", environ={"SPEECH_KEY": "hunter2\udcff"})
    assert "jobs.value.secrets.api_key: is not valid Unicode" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_variable_may_stand_for_a_project(run, monkeypatch):
    name = "{api_key: 'projects/${PROJECT:-acme}/secrets/key/versions/3'}"
    graph = run.parse({"value": JOB.format("value", "application/json", name)})
    assert graph.jobs["value"].secrets == {"api_key": "projects/acme/secrets/key/versions/3"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("secrets: {api_key: env:A}, params: {api_key: x}", "secrets.api_key: is in params, too"),
        ("secrets: {media: env:A}", "secrets.media: is in needs, too; rename one of them"),
        ("secrets: env:A", "secrets: is no mapping of parameters to secrets"),
        ("secrets: {api-key: env:A}", "is not the name of a parameter of the callable"),
    ],
)
def test_wrong_keys_are_refused(given, message):
    job = "run: 'secret_jobs:value', needs: {media: source}, writes: application/json"
    with pytest.raises(GraphError) as raised:
        parse_graph(f"jobs: {{value: {{{job}, {given}}}}}")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(media, *, key): ...", "secrets.api_key: 'checked:f' takes no parameter 'api_key'"),
        ("def f(media, *, api_key: int): ...", "does not take 'api_key' as text"),
        ("def f(media, *, api_key, more): ...", "requires 'more', which is not given"),
        ("class f:\n  def __call__(self, media): ...", "takes no parameter 'api_key'"),
    ],
)
def test_the_code_is_checked_against_the_secrets(tmp_path, monkeypatch, code, message):
    (tmp_path / "checked.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "checked", raising=False)
    job = "run: 'checked:f', needs: {media: source}, writes: application/json"
    with pytest.raises(GraphError) as raised:
        check_code(parse_graph(f"jobs: {{value: {{{job}, secrets: {KEYS}}}}}"))
    assert message in str(raised.value)


VALUE = 'a"b/c\\dé, and forty characters or so of it'
QUOTED = "a%22b%2Fc%5Cd%C3%A9%2C+and+forty+characters+or+so+of+it"


def test_every_spelling_is_masked():
    secrets.use_secrets({"job": {"key": VALUE}})
    try:
        for text in (VALUE, json.dumps(VALUE), repr(VALUE), repr(VALUE.encode()), QUOTED):
            assert secrets.mask(f"<{text}>").strip("<>b\"'") == secrets.MASK
        shown = secrets.mask(reprlib.repr(VALUE))
        assert (shown[1:4], shown[-4:-1]) == (secrets.MASK, secrets.MASK)
        assert secrets.mask("the end is " + VALUE[:5], is_cut=True) == "the end is ***"
        assert secrets.mask("the end is " + VALUE[:5]) == "the end is " + VALUE[:5]
    finally:
        secrets.use_secrets({})
