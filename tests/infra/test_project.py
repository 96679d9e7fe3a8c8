"""A project as ``segue init`` writes it is deployed by its own Terraform, and by nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.environment import BASE_IMAGES, GCLOUD, LOCAL_BACKEND
from harness.plan import list_resources
from harness.terraform import Terraform, build_environ

pytestmark = pytest.mark.xdist_group("project")

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
CONTAINER = "infra/container"
# What a user may have beside the code, and what must not get into an image.
OTHERS = (
    *("song.flac", ".env", ".venv/lib/module.py", "build/graph.json", "tests/data.py"),
    "venv/lib/python3.11/site-packages/module.py",
    *(".segue/ledger.db", "infra/envs/dev.tfvars", "infra/.terraform/modules/modules.json"),
)
OWN = ("helpers/__init__.py", "helpers/deep/more.py", "models/own.onnx", "segue.lock")


def run(folder: Path, *arguments: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    done = subprocess.run(
        arguments, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A new project, with its archives."""
    folder = tmp_path_factory.mktemp("somewhere") / "features"
    run(folder.parent, SEGUE, "init", folder.name)
    run(folder, SEGUE, "package", "--all")
    return folder


@pytest.fixture(scope="module")
def terraform(project, stand_in) -> Terraform:
    """Terraform in the project, with a state and a gcloud of the test's own."""
    assert Terraform(project / "infra").run("fmt", "-check", "-recursive", ok=(0, 3)).out == ""
    programs = project.parent / "bin"
    programs.mkdir()
    (programs / "gcloud").write_text(GCLOUD)
    (programs / "gcloud").chmod(0o755)
    (project / "infra/backend_override.tf").write_text(LOCAL_BACKEND)
    (project / "infra/images.auto.tfvars").write_text(f"base_images = {{\n{BASE_IMAGES}}}\n")
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    terraform = Terraform(project / "infra", {**stand_in, "PATH": path})
    terraform.init()
    return terraform


def test_a_project_with_another_graph_is_deployed_by_the_same_files(project, tmp_path):
    run(tmp_path, SEGUE, "init", "--graph", "tags", "tags")
    other = tmp_path / "tags/infra"
    files = [p.relative_to(other) for p in other.rglob("*") if p.is_file()]
    assert len(files) > 70
    for name in files:
        assert (other / name).read_text() == (project / "infra" / name).read_text(), name


def test_it_is_valid_without_a_warning(terraform):
    assert terraform.validate() == []


def test_it_is_applied_and_its_image_is_built_from_its_own_files(project, terraform):
    _, warnings = terraform.plan("-var-file=envs/dev.tfvars")
    assert warnings + terraform.apply() == []
    state = json.loads(terraform.run("show", "-json").out)
    pipelines = {r.name for r in list_resources(state) if "dataflow" in r.type}
    jobs = json.loads((project / "build/graph.json").read_text())["pipelines"]
    assert pipelines == {f"segue-job-{name}" for name in jobs}
    assert len(pipelines) == 2
    calls = (project.parent / "bin/calls").read_text().splitlines()
    (build,) = [call for call in calls if call.startswith("builds submit .")]
    options = dict(re.findall(r"--([\w-]+)=(\S+)", build))
    for name in ("config", "ignore-file"):
        assert (project / options[name]).exists(), name
    given = dict(re.findall(r"(_[A-Z]+)=([^,]*)", options["substitutions"]))
    assert given["_GRAPH"] == "jobs.yaml"
    assert given["_LOCK"] == "segue.lock"
    assert given["_PACKAGES"] == "requirements.txt"
    assert (project / "requirements.txt").exists()


def test_another_image_is_built_only_if_what_is_in_it_changes(project, terraform):
    def find_image() -> str:
        plan, _ = terraform.plan("-var-file=envs/dev.tfvars", "-refresh=false")
        return plan["planned_values"]["outputs"]["image"]["value"]

    first = json.loads(terraform.run("show", "-json").out)["values"]["outputs"]["image"]["value"]
    (project / "tests/test_more.py").write_text("MORE = 1\n")
    (project / ".venv").mkdir()
    (project / ".venv/module.py").write_text("MORE = 1\n")
    assert find_image() == first
    (project / "helper.py").write_text("MORE = 1\n")
    second = find_image()
    assert second != first
    text = (project / "requirements.txt").read_text()
    (project / "requirements.txt").write_text(f"{text}scikit-learn==1.7.0\n")
    assert find_image() not in {first, second}


def to_expression(pattern: str) -> str:
    """A pattern of .dockerignore as a regular expression of a path, or of the folder it is in."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    split = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return "".join(parts.get(part, re.escape(part)) for part in split) + "(?:/.*)?"


def list_sent(project: Path) -> set[str]:
    """The files that Docker gets; the last pattern that fits a file decides."""
    text = (project / CONTAINER / "Dockerfile.dockerignore").read_text()
    patterns = [line for line in text.splitlines() if line and not line.startswith("#")]
    files = {str(p.relative_to(project)) for p in project.rglob("*") if p.is_file()}
    sent = set()
    for file in files:
        fitting = [p for p in patterns if re.fullmatch(to_expression(p.lstrip("!")), file)]
        if fitting and fitting[-1].startswith("!"):
            sent.add(file)
    return sent


def list_uploaded(project: Path) -> set[str]:
    """The files that Cloud Build gets: the patterns are those of Git."""
    run(project, "git", "init", "--quiet")
    rules = f"--exclude-from={CONTAINER}/.gcloudignore"
    listed = run(project, "git", "ls-files", "--others", "-z", rules)
    return {name for name in listed.split("\0") if name}


def test_the_build_gets_what_the_image_is_named_after_and_what_it_copies(project, terraform):
    for name in (*OTHERS, *OWN):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    sent, uploaded = list_sent(project), list_uploaded(project)
    expression = 'jsonencode([for f in local.sources : f if !can(regex("(^|/)\\\\.", f))])'
    found = subprocess.run(
        ["terraform", f"-chdir={project / 'infra'}", "console", "-var-file=envs/dev.tfvars"],
        env={**build_environ(), **terraform._environ},
        input=expression,
        capture_output=True,
        text=True,
        check=True,
    )
    sources = set(json.loads(json.loads(found.stdout)))
    assert sent & set(OTHERS) == uploaded & set(OTHERS) - {"infra/envs/dev.tfvars"} == set()
    assert set(OWN) <= sent
    graph = {"jobs.yaml", "segue.lock", "requirements.txt"}
    assert sent == (sources | graph) - {f"{CONTAINER}/Dockerfile"}
    assert sent | {f"{CONTAINER}/Dockerfile", "infra/segue/container/cloudbuild.yaml"} <= uploaded
    text = (project / CONTAINER / "Dockerfile").read_text().replace("\\\n", "")
    copied = [
        re.sub(r"\$\{PACKAGES\}", "requirements.txt", word).rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert len(copied) == 6
    assert [
        p for p in copied if p != "." and not any(s == p or s.startswith(f"{p}/") for s in sent)
    ] == []


def test_its_image_has_the_stages_and_variables_of_segues_own(project):
    """Docker cannot run here, so what both Dockerfiles must agree on is compared."""
    own = (Path(__file__).parents[2] / CONTAINER / "Dockerfile").read_text()
    theirs = (project / CONTAINER / "Dockerfile").read_text()

    def find_variables(text: str) -> dict[str, str]:
        last = text[text.rindex("\nFROM ") :]
        (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", last, re.MULTILINE)
        return dict(re.findall(r"(\w+)=(\S*)", block))

    differing = {"SEGUE_MODELS", "NUMBA_CACHE_DIR", "FLEX_TEMPLATE_PYTHON_PY_FILE"}
    expected, found = find_variables(own), find_variables(theirs)
    assert {n: v for n, v in found.items() if n not in differing} == {
        n: v for n, v in expected.items() if n not in differing
    }
    assert found.keys() == expected.keys()
    for line in ("FROM ${BEAM} AS beam", "FROM ${LAUNCHER} AS launcher"):
        assert line in own
        assert line in theirs
    assert re.findall(r"^ENTRYPOINT .*", own, re.MULTILINE) == re.findall(
        r"^ENTRYPOINT .*", theirs, re.MULTILINE
    )
    assert "/opt/launch/launch.py" in found["FLEX_TEMPLATE_PYTHON_PY_FILE"]


def test_checkov_finds_nothing_in_its_dockerfile(project, policy_tool):
    """Its Terraform has no resource of its own; Segue's modules are checked in infra/."""
    command = [policy_tool, "--file", str(project / CONTAINER / "Dockerfile"), "--compact"]
    done = subprocess.run(
        [*command, "--skip-download", "--framework", "dockerfile", "--output", "json"],
        env=build_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["results"]["failed_checks"] == report["results"]["parsing_errors"] == []
    assert report["summary"]["passed"] > 0
