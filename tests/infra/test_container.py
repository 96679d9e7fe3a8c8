"""The image is made of pinned parts, and its launcher, its metadata and the commands agree."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from segue.model.manifest import LOCK_FILE
from segue_cli.main import load_command
from segue_support.paths import ROOT
from segue_support.web_server import serve_pages

CONTAINER = ROOT / "infra" / "container"
METADATA = json.loads((CONTAINER / "metadata.json").read_text())
PARAMETERS = {p["name"]: p for p in METADATA["parameters"]}


def module(name: str):
    spec = importlib.util.spec_from_file_location(f"container_{name}", CONTAINER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


launch, models, warm = module("launch"), module("models"), module("warm")


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


DOCKERFILE = instructions((CONTAINER / "Dockerfile").read_text())
ARGS = dict(a.split("=", 1) for name, a in DOCKERFILE if name == "ARG" and "=" in a)


def filled(text: str) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda m: ARGS[m[1]], text)


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    pairs = " ".join(a for name, a in stage if name == "ENV")
    return {k: v.strip('"') for k, v in re.findall(r"(\w+)=(\"[^\"]*\"|\S*)", pairs)}


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for instruction in DOCKERFILE:
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def stage(name: str) -> list[tuple[str, str]]:
    (found,) = [s for s in stages() if s[0][1].endswith(f" AS {name}")]
    return found


def test_each_instruction_is_one():
    known = {"ARG", "FROM", "ENV", "WORKDIR", "RUN", "COPY", "ENTRYPOINT"}
    assert {name for name, _ in DOCKERFILE} == known


README = (ROOT / "infra" / "README.md").read_text()
# Base image → the name and the tag whose digest the README tells to look up.
LOOKED_UP = dict(
    re.findall(r"^\| `(beam|launcher|python|docker)` \| `([^`]+)` \|", README, re.MULTILINE)
)


def test_each_base_image_is_an_argument_without_a_default():
    images = [stage[0][1].split(" AS ")[0] for stage in stages()]
    given = ["${BEAM}", "${LAUNCHER}", "${PYTHON}", "${PYTHON}"]
    own = [name.split(" AS ")[1] for stage in stages() for _, name in stage[:1] if " AS " in name]
    assert [image for image in images if image not in own] == given
    declared = [a for name, a in DOCKERFILE[: DOCKERFILE.index(stages()[0][0])] if name == "ARG"]
    assert declared == ["BEAM", "LAUNCHER", "PYTHON"]


def test_no_other_image_reads_the_dockerfile():
    """A syntax directive names an image that parses the rest; BuildKit's own parser suffices."""
    assert "syntax=" not in (CONTAINER / "Dockerfile").read_text()


def test_the_readme_says_which_digests_to_look_up():
    assert set(LOOKED_UP) == {"beam", "launcher", "python", "docker"}
    lock = (ROOT / "locks" / "pipelines.txt").read_text()
    version = LOOKED_UP["beam"].removeprefix("apache/beam_python3.11_sdk:")
    assert f"apache-beam=={version} " in lock
    assert "/python311-template-launcher-base:" in LOOKED_UP["launcher"]
    assert LOOKED_UP["python"].startswith("python:3.11")


def test_packages_are_installed_by_their_hashes_only():
    runs = [part for name, a in DOCKERFILE if name == "RUN" for part in a.split("&&")]
    installs = [run for run in runs if "pip install" in run]
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-index" in install


DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("python", "code"),
    [
        (f"python:3.11-slim{DIGEST}", 0),
        ("python:3.11-slim", 1),
        (f"python:3.11-slim{DIGEST[:-1]}", 1),
        (f"python:3.11-slim{DIGEST} --privileged", 1),
        ("", 1),
    ],
)
def test_a_build_by_hand_refuses_a_base_image_without_its_digest(python, code):
    steps = yaml.safe_load((CONTAINER / "cloudbuild.yaml").read_text())["steps"]
    given = {"_IMAGE": "i", "_TAG": "1", "_CACHE": "c", "_PYTHON": python}
    given |= dict.fromkeys(("_BEAM", "_LAUNCHER", "_DOCKER"), f"x{DIGEST}")
    script = steps[0]["args"][1]
    for name, value in given.items():
        script = script.replace(f"${{{name}}}", value)
    ran = subprocess.run(
        ["bash", "-euc", script.replace("$$", "$")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == code
    assert ("write NAME:TAG@sha256:" in ran.stdout) == bool(code)


def test_it_runs_as_root_as_dataflow_requires_and_begins_with_beams_boot_program():
    last = stages()[-1]
    assert [a for name, a in last if name == "USER"] == []  # the base image's user is root
    made = " ".join(a for name, a in last if name == "RUN")
    assert last[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')
    assert "ffmpeg" in made


def test_what_is_compiled_when_it_is_built_is_found_when_it_runs():
    at_build, at_run = environment(stage("build")), environment(stages()[-1])
    numba = {k for k in at_build if k.startswith("NUMBA_")}
    assert numba == {
        "NUMBA_CACHE_DIR",
        "NUMBA_CPU_NAME",
        "NUMBA_CPU_FEATURES",
        "NUMBA_NUM_THREADS",
    }
    for name in (*numba, "SEGUE_GRAPH", "SEGUE_MODELS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert at_build[name] == at_run[name], name
    assert (at_run["NUMBA_CPU_NAME"], at_run["NUMBA_CPU_FEATURES"]) == ("generic", "")
    assert at_run["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] == "1"
    assert at_run["FLEX_TEMPLATE_PYTHON_PY_FILE"] == "/opt/segue/launch.py"


MODELS = """
models:
  tiny@1: {source: "SOURCE", sha256: "SHA", licence: MIT}
jobs:
  first: {run: "m:f", needs: {media: source}, writes: application/json, params: {model: tiny@1}}
  other: {run: "m:f", needs: {media: source}, writes: application/json}
"""


def test_the_stage_of_models_gets_those_of_the_graph_with_what_it_copies_alone(tmp_path):
    model = b"a model"
    graph = tmp_path / "jobs.yaml"
    with serve_pages({"/tiny.onnx": model}) as server:
        sha256 = hashlib.sha256(model).hexdigest()
        text = MODELS.replace("SOURCE", f"{server.url}/tiny.onnx").replace("SHA", sha256)
        graph.write_text(text)
        given = {**os.environ, "SEGUE_GRAPH": str(graph), "NO_PROXY": "127.0.0.1"}
        script = str(CONTAINER / "models.py")
        listed = subprocess.run(
            [sys.executable, script, "list"], env=given, capture_output=True, text=True, check=True
        ).stdout
        source, target = tmp_path / "src", tmp_path / "opt"
        source.mkdir()
        for name, arguments in stage("models"):
            *sources, to = arguments.split()
            if name == "COPY" and sources[0] == "--from=segue":
                (source / "models.json").write_text(listed)
            elif name == "COPY":
                copy_to(source / to, [ROOT / path for path in sources])
        (run,) = [a for name, a in stage("models") if name == "RUN"]
        words = [str(target) if w.startswith("/opt/segue") else w for w in run.split()[1:]]
        # In isolation, the modules of this source tree are out of reach, but for the packages.
        code = "import sys; sys.path.insert(0, '.'); sys.argv[:] = sys.argv[1:]; import runpy; "
        code += "sys.path[:] = [p for p in sys.path if '/shared' not in p]; "
        code += "runpy.run_path(sys.argv[0], run_name='__main__')"
        ran = subprocess.run(
            [sys.executable, "-I", "-c", code, *words],
            cwd=source,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
    assert [path.read_bytes() for path in target.rglob("tiny.onnx")] == [model]
    assert "tiny@1 (MIT) is in" in ran.stdout


def test_a_model_beside_the_graph_is_left_to_an_image_from_this_one(tmp_path):
    graph = tmp_path / "jobs.yaml"
    more = '\n  own@1: {source: own.onnx, sha256: "SHA"}'
    more += '\n  made@1: {source: "https://h.example/a", sha256: "SHA", convert: "mine:make"}'
    text = MODELS.replace("models:", f"models:{more}").replace(
        "SOURCE", "https://h.example/tiny.onnx"
    )
    text = text.replace("model: tiny@1", "a: tiny@1, b: own@1, c: made@1")
    text = text.replace("SHA", "1" * 64)
    graph.write_text(text)
    ran = subprocess.run(
        [sys.executable, str(CONTAINER / "models.py"), "list"],
        env={**os.environ, "SEGUE_GRAPH": str(graph)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [model["name"] for model in json.loads(ran.stdout)] == ["tiny"]
    assert "own@1 needs own.onnx, which this image does not have" in ran.stderr
    assert "run 'segue models get made@1'" in ran.stderr


def copy_to(target: Path, sources: list[Path]) -> None:
    """Copy as Docker does: files into a folder, and what is in a folder."""
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


def test_the_list_of_models_changes_with_nothing_but_them(tmp_path, monkeypatch):
    def find(text: str) -> str:
        (tmp_path / "jobs.yaml").write_text(text)
        return models.list_models()

    monkeypatch.setenv("SEGUE_GRAPH", str(tmp_path / "jobs.yaml"))
    text = MODELS.replace("SOURCE", "https://a.org/m").replace("SHA", "0" * 64)
    first = find(text)
    assert find(text.replace("other:", "another:")) == first
    assert find(text.replace("MIT", "ISC")) != first
    assert find(text.replace("tiny@1", "tiny@2")) != first


SENT = (CONTAINER / "Dockerfile.dockerignore").read_text().splitlines()
UPLOADED = (CONTAINER / ".gcloudignore").read_text().splitlines()


def is_sent(path: str) -> bool:
    """Whether a file is uploaded to Cloud Build, and then sent to Docker."""
    top = path.rstrip("/").split("/")[0]
    sent = any(fnmatch.fnmatch(path.rstrip("/"), s[1:]) or s[1:] == top for s in SENT)
    return sent and bool({f"!{top}", f"!{top}/", f"!{path}"} & set(UPLOADED))


def test_all_that_is_copied_is_there_and_is_sent_to_the_builder():
    copied = [
        filled(word)
        for name, a in DOCKERFILE
        if name == "COPY" and "--from=" not in a
        for word in a.split()[:-1]
    ]
    assert len(copied) == 23
    for path in copied:
        assert (ROOT / path).exists() or path.endswith(f"/{LOCK_FILE}*"), path
        assert is_sent(path), path
    assert SENT[1] == UPLOADED[1] == "*"


def test_a_graph_of_ones_own_is_sent_to_the_builder_from_where_the_readme_puts_it():
    (path,) = re.findall(r'^`graph = "\.\./(\S+)"`', README, re.MULTILINE)
    assert is_sent(path)
    assert not is_sent(path.replace("graphs/", "elsewhere/"))


def test_the_build_pushes_a_tag_that_is_named_and_logs_to_cloud_logging():
    build = yaml.safe_load((CONTAINER / "cloudbuild.yaml").read_text())
    words = build["steps"][-1]["args"]
    assert {"--push", "--file=infra/container/Dockerfile", "--tag=${_IMAGE}:${_TAG}"} <= set(words)
    assert "--provenance=false" in words  # or the tag would be of a list, which is no image
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"
    used = set(re.findall(r"\$\{(_\w+)\}", (CONTAINER / "cloudbuild.yaml").read_text()))
    assert used == set(build["substitutions"])
    assert (ROOT / build["substitutions"]["_GRAPH"]).exists()
    called = (ROOT / "infra" / "modules" / "images" / "main.tf").read_text()
    assert set(re.findall(r"(_[A-Z]+)=\$", called)) == used
    for step in build["steps"]:
        assert step["name"] == "${_DOCKER}"


@pytest.mark.parametrize(
    ("given", "called"),
    [
        (["--jobs=beats"], ["stream", "--job=beats"]),
        (
            ["--mode=stream", "--jobs=beats, energy", "--queue=pubsub://acme/segue"],
            ["stream", "--job=beats", "--job=energy", "--queue=pubsub://acme/segue"],
        ),
        (["--jobs=", "--catalogue="], ["stream", "--all"]),
        (
            ["--ledger=firestore://acme/segue", "--runner=DataflowRunner", "--num_workers=2"],
            [
                *("stream", "--all", "--ledger=firestore://acme/segue"),
                *("--runner=DataflowRunner", "--num_workers=2"),
            ],
        ),
        (
            ["--mode=backfill", "--jobs=beats", "--from_ledger=failed", "--retry_failed=true"],
            ["backfill", "--job=beats", "--from-ledger=failed", "--retry-failed"],
        ),
        (
            ["--mode=backfill", "--force=false", "--tolerate=1%"],
            ["backfill", "--all", "--tolerate=1%"],
        ),
        (
            ["--mode=backfill", "--request_parents=true", "--queue=pubsub://acme-moods"],
            ["backfill", "--all", "--request-parents", "--queue=pubsub://acme-moods"],
        ),
        (
            ["--mode=backfill", "--streaming", "--prefix=gs://acme/a=b/"],
            ["backfill", "--all", "--prefix=gs://acme/a=b/", "--streaming"],
        ),
    ],
)
def test_parameters_of_the_template_become_a_call_of_segue(given, called):
    assert launch.build_command(given) == called


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (["--mode=both"], "write stream or backfill"),
        (["--mode=stream", "--prefix=gs://acme/a/"], "not a parameter of mode stream"),
        (["--mode=stream", "--request_parents=true"], "not a parameter of mode stream"),
        (["--mode=backfill", "--force=yes"], "write true or false"),
        (["--jobs"], "write --jobs=VALUE"),
    ],
)
def test_parameters_that_make_no_sense_end_the_launch(given, remedy):
    with pytest.raises(SystemExit, match=remedy):
        launch.build_command(given)


def test_the_metadata_names_exactly_the_parameters_that_the_launcher_takes():
    assert set(PARAMETERS) == launch.list_parameters()
    names = [p["name"] for p in METADATA["parameters"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("mode", [launch.STREAM, launch.BACKFILL])
def test_the_commands_have_all_options_that_the_launcher_gives_them(mode):
    known = {option for parameter in load_command(mode).params for option in parameter.opts}
    given = {**launch.SHARED, **launch.OWN[mode], **launch.FLAGS[mode]}
    assert {"--job", "--all", *given.values()} <= known


VALID = {
    "mode": ["stream", "backfill"],
    "jobs": ["", "beats", "beats,energy_2"],
    "graph": ["/opt/segue/jobs.yaml"],
    "catalogue": ["gs://acme-audio/masters/été", "gs://acme-audio"],
    "artifacts": ["gs://acme.features"],
    "ledger": ["firestore://acme-audio/segue", "firestore://acme-audio/(default)"],
    "queue": ["pubsub://acme-audio/segue-2", "pubsub://acme-audio"],
    "prefix": ["gs://acme-audio/masters/a b"],
    "uris": ["gs://acme-audio/list.txt"],
    "from_ledger": ["failed", "stale", "missing", "all"],
    "limit": ["1", "100"],
    "sample": ["1%", "0.01"],
    "tolerate": ["0%", "0.5%"],
    "force": ["true", "false"],
    "retry_failed": ["true", ""],
    "request_parents": ["true", "false"],
    "dry_run": ["true"],
}
INVALID = {
    "mode": ["", "Stream", "streams"],
    "jobs": ["Beats", "beats,", "beats energy", "2beats"],
    "graph": ["jobs.yaml"],
    "catalogue": ["/music", "s3://acme", "gs://A"],
    "artifacts": ["", "features"],
    "ledger": ["", "sqlite:///ledger.db", "firestore://acme/a/b"],
    "queue": ["sqlite:///queue.db", "pubsub://acme-audio/-"],
    "prefix": ["masters/"],
    "uris": ["list.txt"],
    "from_ledger": ["some"],
    "limit": ["0", "-1", "ten"],
    "sample": ["all"],
    "tolerate": ["some"],
    "force": ["yes"],
    "retry_failed": ["True"],
    "request_parents": ["parents"],
    "dry_run": ["1"],
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameters_pattern_takes_what_is_right_and_nothing_else(name):
    parameter = PARAMETERS[name]
    (pattern,) = parameter["regexes"]
    assert all(re.fullmatch(pattern, value) for value in VALID[name])
    assert not [value for value in INVALID[name] if re.fullmatch(pattern, value)]
    assert parameter["label"]
    assert parameter["helpText"].endswith(".")


GRAPH = """
jobs:
  level:
    run: example_jobs:level
    needs: {media: source}
    writes: application/json
  double:
    run: example_jobs:double
    needs: {level: level}
    writes: application/json
  broken:
    run: example_jobs:broken
    needs: {media: source}
    writes: application/json
"""
CODE = """
def level(media):
    return {"level": 1}

def double(level):
    return {"double": 2 * level["level"]}

def broken(media):
    raise ValueError("no song")
"""


def test_every_job_is_run_once_when_the_image_is_built_and_a_failing_one_stops_nothing(tmp_path):
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "example_jobs.py").write_text(CODE)
    ran = subprocess.run(
        [sys.executable, str(CONTAINER / "warm.py")],
        env={"SEGUE_GRAPH": str(tmp_path / "jobs.yaml"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ran.stderr.splitlines()[-1] == (
        "broken failed on the song; it will compile on its first file"
    )
    assert "level failed" not in ran.stderr
    assert "double failed" not in ran.stderr
