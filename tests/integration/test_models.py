"""Models from end to end: as the documentation says, in a package, and through a bucket."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from segue.features.filter_bank import compute_log_mel
from segue.media.audio import Audio
from segue.model.built_in_models import BUILT_IN
from segue.models import open_onnx
from segue.models.package_index import find_python_index
from segue.models.spleeter import STEMS
from segue.testing.sound import beat_times, music, noise, tone, write
from segue_support.environments import Environment, environ
from segue_support.onnx_models import make_scale
from segue_support.paths import ROOT

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 300
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDER = "0" * 64


def run(folder: Path, *arguments: str, code: int = 0, **variables: str) -> tuple[str, str]:
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**environ(), "SEGUE_MODELS": str(folder / "kept"), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


def read_documentation(page: str, heading: str) -> tuple[str, str, list[list[str]]]:
    """Return the graph, the code and the commands that a section of the documentation shows."""
    text = (ROOT / "docs" / page).read_text()
    section = text.split(f"\n{heading}\n")[1].split("\n## ")[0]
    blocks = dict(FENCE.findall(section))
    lines = [line.lstrip("$ ").split("#")[0] for line in blocks["console"].splitlines()]
    return blocks["yaml"], blocks.get("python", ""), [line.split() for line in lines]


GRAPH, CODE, COMMANDS = read_documentation("own-model.md", "## From an ONNX file to a backfill")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def levels(tmp_path) -> Path:
    """What whoever follows the documentation has in a folder."""
    (tmp_path / "models").mkdir()
    (tmp_path / "music").mkdir()
    (tmp_path / "level.py").write_text(CODE)
    write(tone(440.0, 1.0), str(tmp_path / "music/tone.wav"))
    set_model(tmp_path, make_scale(1.0))
    return tmp_path


def set_model(levels: Path, model: bytes) -> None:
    (levels / "models/level.onnx").write_bytes(model)
    (levels / "jobs.yaml").write_text(GRAPH.replace(PLACEHOLDER, sha256(model)))


def read_results(levels: Path) -> set[float]:
    found = (levels / ".segue/artifacts/level").rglob("*.json")
    return {json.loads(path.read_text())["level"] for path in found}


def count(levels: Path) -> dict[str, int]:
    out, _ = run(levels, SEGUE, "status", "--json")
    found = json.loads(out)["jobs"]["level"]
    return {state: n for state, n in found.items() if n}


def test_the_documentation_leads_from_an_onnx_file_to_a_backfill(levels):
    get, backfill = COMMANDS
    _, said = run(levels, SEGUE, *backfill[1:], code=2)
    assert "run 'segue models get level@1'" in said
    assert not (levels / ".segue/ledger.db").exists()
    for command in COMMANDS:
        run(levels, SEGUE, *command[1:])
    (first,) = read_results(levels)
    assert first > 0
    assert count(levels)["done"] == 1

    set_model(levels, make_scale(2.0))  # trained again
    _, said = run(levels, SEGUE, *backfill[1:], code=2)
    assert "segue models get level@1" in said
    assert count(levels)["stale"] == 1
    run(levels, SEGUE, *get[1:])
    run(levels, SEGUE, *backfill[1:])
    assert count(levels)["done"] == 1
    assert sorted(read_results(levels)) == pytest.approx([first, 2 * first], abs=1e-4)

    set_model(levels, make_scale(1.0))
    assert count(levels)["done"] == 1  # the old results are current again


def test_a_trial_run_takes_another_model_from_the_command_line(levels):
    other = make_scale(3.0)
    (levels / "models/other.onnx").write_bytes(other)
    graph = (levels / "jobs.yaml").read_text()
    more = f'models:\n  other@1: {{source: models/other.onnx, sha256: "{sha256(other)}"}}\n'
    (levels / "jobs.yaml").write_text(graph.replace("models:\n", more, 1))
    run(levels, SEGUE, "models", "get", "level", "other")
    values = []
    for arguments in ([], ["--param", "model=other@1"]):
        out, _ = run(levels, SEGUE, "run", "level", "music/tone.wav", *arguments)
        values.append(json.loads(out)["level"])
    assert values[1] == pytest.approx(3 * values[0], abs=3e-4)
    _, said = run(
        levels, SEGUE, "run", "level", "music/tone.wav", "--param", "model=third@1", code=2
    )
    assert "'third@1' is not a model that is listed" in said


def test_the_library_names_a_model_that_is_missing(levels):
    code = "import segue; segue.run_job('level', 'music/tone.wav')"
    _, said = run(levels, sys.executable, "-c", code, code=1)
    assert "ConfigurationError: the model level@1 is not on this machine" in said
    code = "import segue; segue.backfill('level', prefix='music')"
    _, said = run(levels, sys.executable, "-c", code, code=1)
    assert "segue models get level@1" in said


def test_a_model_that_is_missing_where_the_job_runs_stops_the_worker(levels):
    """Whoever starts workers elsewhere, as Dataflow does, reads the same in their logs."""
    code = (
        "import os\n"
        "from segue.execution.trial_run import try_job\n"
        "from segue.ingest.catalogue import find_media\n"
        "from segue.model.graph import read_graph\n"
        "media = find_media(os.path.abspath('music/tone.wav'), None)\n"
        "try_job(read_graph('jobs.yaml'), 'level', media, isolated=True)\n"
    )
    _, said = run(levels, sys.executable, "-c", code, code=1)
    assert "ConfigurationError" in said
    assert "run 'segue models get level@1'" in said


PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "acme-levels"
version = "1.0"
[tool.hatch.build.targets.wheel]
packages = ["acme_levels"]
"""


def test_a_project_in_a_wheel_brings_its_own_model(levels, tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    package = source / "acme_levels"
    package.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").write_text("")
    (levels / "level.py").rename(package / "level.py")
    (levels / "models").rename(package / "models")
    text = (levels / "jobs.yaml").read_text()
    (levels / "jobs.yaml").unlink()
    (package / "jobs.yaml").write_text(text.replace("level:Level", "acme_levels.level:Level"))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(source)]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=PATIENCE_S)
    (wheel,) = source.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    given = {"PYTHONPATH": str(site), "SEGUE_GRAPH": str(site / "acme_levels/jobs.yaml")}
    run(levels, SEGUE, "models", "get", **given)
    run(levels, SEGUE, "backfill", "--prefix", "music", "--job", "level", **given)
    assert len(read_results(levels)) == 1


@pytest.mark.xdist_group("storage")
def test_a_bucket_brings_a_model_to_a_machine_that_never_got_it(levels, bucket):
    def on_machine(name: str) -> dict[str, str]:
        emulator = {k: v for k, v in os.environ.items() if k == "STORAGE_EMULATOR_HOST"}
        cache = {"XDG_CACHE_HOME": str(levels / name)}
        return {"SEGUE_MODELS": f"gs://{bucket}/models", **cache, **emulator}

    run(levels, SEGUE, "models", "get", **on_machine("first"))
    (levels / "models/level.onnx").unlink()
    run(levels, SEGUE, "backfill", "--prefix", "music", "--job", "level", **on_machine("second"))
    assert len(read_results(levels)) == 1
    (copy,) = (levels / "second").rglob("level.onnx")
    assert copy.read_bytes() == make_scale(1.0)


GOLDEN = json.loads((ROOT / "tests/golden/musicnn.json").read_text())
# What is in the text of each licence.
LICENCES = {
    "Apache-2.0": "Apache License",
    "BSD-2-Clause": "Redistribution and use in source and binary forms",
    "CC-BY-4.0": "Attribution 4.0 International",
    "ISC": "hereby granted",
    "MIT": "hereby granted",
}
# Between TensorFlow and onnxruntime, in 32-bit floats; the embedding reaches 9.
TAG_ROUNDING, EMBEDDING_ROUNDING = 1e-6, 2e-5
GOLDEN_SPEECH = json.loads((ROOT / "tests/golden/firered_aed.json").read_text())
SPEECH_ROUNDING = 2e-4  # of four decimals, and between ncnn and onnxruntime
GOLDEN_STEMS = json.loads((ROOT / "tests/golden/spleeter.json").read_text())
SHARE_ROUNDING = 5e-5  # between TensorFlow and onnxruntime, in 32-bit floats


def load_golden(name: str) -> ModuleType:
    """Return a script that has written a golden file."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tests/golden/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_models_of_segue_come_from_the_package_index(tmp_path, editable: Environment):
    """They are as large and have the licences as listed, and compute what they should."""
    index = {"PIP_INDEX_URL": find_python_index()}  # uv makes environments without pip
    _, said = run(tmp_path, editable.segue, "models", "get", "--all", **index)
    assert "silero_vad@1 is in" in said
    out, _ = run(tmp_path, editable.segue, "models", "--json")
    found = {model["model"]: model for model in json.loads(out)["models"]}
    assert set(found) == set(BUILT_IN)
    for name, entry in BUILT_IN.items():
        text = Path(found[name]["licence_text"]).read_text()
        assert LICENCES[entry.licence] in text, name

    silero = open_onnx(found["silero_vad@1"]["path"])
    assert os.path.getsize(found["silero_vad@1"]["path"]) == BUILT_IN["silero_vad@1"].size_bytes
    given = {
        "input": np.zeros((1, 576), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    silence = silero.run(None, given)[0]
    assert 0 <= float(silence[0, 0]) < 0.1

    features = compute_log_mel(load_golden("make_firered_aed").make_sound())
    (heard,) = open_onnx(found["firered_aed@1"]["path"]).run(None, {"features": features})
    np.testing.assert_allclose(heard[::10], GOLDEN_SPEECH, atol=SPEECH_ROUNDING)

    musicnn = open_onnx(found["musicnn@1"]["path"])
    x = np.random.default_rng(0).random((2, 187, 96), dtype=np.float32) * 4
    tags, embedding = musicnn.run(["tags", "embedding"], {"x": x})
    np.testing.assert_allclose(tags, GOLDEN["tags"], atol=TAG_ROUNDING)
    np.testing.assert_allclose(embedding, GOLDEN["embedding"], atol=EMBEDDING_ROUNDING)

    golden = load_golden("make_spleeter")
    spleeter = open_onnx(found["spleeter@1"]["path"])
    shares = spleeter.run(list(STEMS), {"spectra": golden.make_spectra()})
    for stem, share in zip(STEMS, shares, strict=True):
        np.testing.assert_allclose(share[golden.KEPT], GOLDEN_STEMS[stem], atol=SHARE_ROUNDING)


WINDOW_S = 0.07  # as MIREX counts a beat as right
SETTLED_S = 5.0  # MIREX leaves out what comes before
RATE_HZ = 22_050


def make_waltz(bpm: float, duration_s: float) -> tuple[Audio, list[float]]:
    """Return a waltz, with a bass drum and a bass on one and chords on two and three."""
    rng = np.random.default_rng(0)
    t = np.arange(round(0.4 * RATE_HZ)) / RATE_HZ
    sweep = 2 * np.pi * (50 * t + 3 * (1 - np.exp(-40 * t)))
    drum = 0.6 * np.sin(sweep) * np.exp(-12 * t)
    brush = 0.08 * rng.normal(0, 1, len(t)) * np.exp(-50 * t)
    y = np.zeros(round(duration_s * RATE_HZ) + len(t))
    beats_s = np.arange(0.0, duration_s, 60 / bpm)
    for number, beat_s in enumerate(beats_s):
        root_hz = (220.0, 196.0, 174.6, 196.0)[number // 3 % 4]
        at = round(beat_s * RATE_HZ)
        if number % 3 == 0:
            y[at : at + len(t)] += 0.5 * pluck(root_hz / 4, t, 5.0) + drum
        else:
            chord = sum(0.15 * pluck(ratio * root_hz, t, 9.0) for ratio in (1.0, 1.2, 1.5))
            y[at : at + len(t)] += chord + brush
    y = 0.8 * y[: -len(t)] / abs(y).max()
    return Audio(y=y.astype(np.float32), sr=RATE_HZ), beats_s.tolist()


def pluck(frequency_hz: float, t: np.ndarray, decay: float) -> np.ndarray:
    harmonics = (np.sin(2 * np.pi * n * frequency_hz * t) / n for n in (1, 2, 3, 4))
    return sum(harmonics) * np.exp(-decay * t)


def find_misses(found_s: list[float], true_s: list[float]) -> list[float]:
    """Return the times that have no other within the window, of both lists."""
    pairs = [(found_s, true_s), (true_s, found_s)]
    settled = ((t, others) for times, others in pairs for t in times if t > SETTLED_S)
    return [t for t, others in settled if min(abs(np.array(others) - t)) > WINDOW_S]


def test_the_documentation_leads_to_the_downbeats_of_a_waltz_and_a_song(tmp_path):
    graph, _, (get, backfill) = read_documentation("models.md", "## Downbeats")
    (tmp_path / "jobs.yaml").write_text(graph)
    (tmp_path / "music").mkdir()
    waltz, waltz_s = make_waltz(130.0, 20.0)
    write(waltz, str(tmp_path / "music/waltz.flac"))
    write(music(0, bpm=100.0, duration_s=20.0), str(tmp_path / "music/song.flac"))
    write(noise(0, 10.0), str(tmp_path / "music/noise.flac"))
    run(tmp_path, SEGUE, *get[1:], PIP_INDEX_URL=find_python_index())
    run(tmp_path, SEGUE, *backfill[1:])
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in (tmp_path / ".segue/artifacts/downbeats").rglob("*.json")
    }
    assert found.keys() == {"waltz.flac", "song.flac", "noise.flac"}
    song_s = beat_times(100.0, 20.0)
    for name, true_s, beats_per_bar, bpm in (
        ("waltz.flac", waltz_s, 3, 130.0),
        ("song.flac", song_s, 4, 100.0),
    ):
        result = found[name]
        assert result["beats_per_bar"] == beats_per_bar
        assert result["tempo_bpm"] == pytest.approx(bpm, rel=0.002)
        assert find_misses(result["beat_times_s"], true_s) == []
        assert find_misses(result["downbeat_times_s"], true_s[::beats_per_bar]) == []
        assert result["confidence"] > 0.4
    assert found["noise.flac"]["beats_per_bar"] is None
