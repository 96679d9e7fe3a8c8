"""The image is made of pinned parts, and its launcher, its metadata and the commands agree."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
import subprocess
import sys

import pytest
import yaml

from segue_cli.main import load_command
from segue_support.paths import ROOT

CONTAINER = ROOT / "infra" / "container"
METADATA = json.loads((CONTAINER / "metadata.json").read_text())
PARAMETERS = {p["name"]: p for p in METADATA["parameters"]}


def module(name: str):
    spec = importlib.util.spec_from_file_location(f"container_{name}", CONTAINER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


launch, warm = module("launch"), module("warm")


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


DOCKERFILE = instructions((CONTAINER / "Dockerfile").read_text())
ARGS = dict(a.split("=", 1) for name, a in DOCKERFILE if name == "ARG")


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


def test_each_instruction_is_one():
    known = {"ARG", "FROM", "ENV", "WORKDIR", "RUN", "COPY", "USER", "ENTRYPOINT"}
    assert {name for name, _ in DOCKERFILE} == known


def test_each_base_image_is_pinned_by_a_version():
    images = [stage[0][1].split(" AS ")[0] for stage in stages()]
    assert len(images) == 4
    for image in images:
        tag = image.rpartition("/")[2].partition(":")[2]
        assert re.search(r"\d", tag), image
        assert "latest" not in tag


def test_beam_is_of_the_version_that_is_locked():
    lock = (ROOT / "locks" / "pipelines.txt").read_text()
    version = stages()[0][0][1].removeprefix("apache/beam_python3.11_sdk:").removesuffix(" AS beam")
    assert f"apache-beam=={version}\n" in lock


def test_python_is_the_one_of_the_functions_and_of_beams_image():
    images = [stage[0][1] for stage in stages()]
    assert images[0].startswith("apache/beam_python3.11_sdk:")
    assert "/python311-template-launcher-base:" in images[1]
    assert images[2].startswith("python:3.11.")
    assert images[3] == images[2].removesuffix(" AS build")


def test_it_does_not_run_as_root_and_begins_with_beams_boot_program():
    last = stages()[-1]
    user = [filled(a) for name, a in last if name == "USER"]
    assert user == ["segue"]
    made = " ".join(a for name, a in last if name == "RUN")
    assert "useradd --uid 10001" in made
    assert last[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')
    assert "ffmpeg" in made


def test_what_is_compiled_when_it_is_built_is_found_when_it_runs():
    _, _, build, last = stages()
    at_build, at_run = environment(build), environment(last)
    numba = {k for k in at_build if k.startswith("NUMBA_")}
    assert numba == {
        "NUMBA_CACHE_DIR",
        "NUMBA_CPU_NAME",
        "NUMBA_CPU_FEATURES",
        "NUMBA_NUM_THREADS",
    }
    for name in (*numba, "SEGUE_GRAPH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert at_build[name] == at_run[name], name
    assert (at_run["NUMBA_CPU_NAME"], at_run["NUMBA_CPU_FEATURES"]) == ("generic", "")
    assert at_run["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] == "1"
    assert at_run["FLEX_TEMPLATE_PYTHON_PY_FILE"] == "/opt/segue/launch.py"


def test_all_that_is_copied_is_there_and_is_sent_to_the_builder():
    sent = (CONTAINER / "Dockerfile.dockerignore").read_text().splitlines()
    uploaded = (CONTAINER / ".gcloudignore").read_text().splitlines()
    copied = [
        filled(word)
        for name, a in DOCKERFILE
        if name == "COPY" and "--from=" not in a
        for word in a.split()[:-1]
    ]
    assert len(copied) == 11
    for path in copied:
        assert (ROOT / path).exists(), path
        top = path.rstrip("/").split("/")[0]
        assert any(fnmatch.fnmatch(path.rstrip("/"), s[1:]) or s[1:] == top for s in sent), path
        assert {f"!{top}", f"!{top}/", f"!{path}"} & set(uploaded), path
    assert sent[1] == uploaded[1] == "*"


def test_the_build_pushes_a_tag_that_is_named_and_logs_to_cloud_logging():
    build = yaml.safe_load((CONTAINER / "cloudbuild.yaml").read_text())
    words = build["steps"][-1]["args"]
    assert {"--push", "--file=infra/container/Dockerfile", "--tag=${_IMAGE}:${_TAG}"} <= set(words)
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"
    used = set(re.findall(r"\$\{(_\w+)\}", (CONTAINER / "cloudbuild.yaml").read_text()))
    assert used == set(build["substitutions"])
    assert (ROOT / build["substitutions"]["_GRAPH"]).exists()
    called = (ROOT / "infra" / "modules" / "images" / "main.tf").read_text()
    assert set(re.findall(r"(_[A-Z]+)=\$", called)) == used
    for step in build["steps"]:
        assert re.search(r":\d", step["name"])


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
        (["--mode=backfill", "--queue=pubsub://acme"], "not a parameter of mode backfill"),
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
