"""Without an extra, whatever needs it says how to install it, and shows no traceback."""

from __future__ import annotations

import pytest

from segue_cli.main import SUMMARIES

BACKFILL = "import segue; segue.backfill()"
BEATS = "from segue.features.rhythm import beats; beats(None)"
GRAPH = """
artifacts: artifacts
jobs:
  mine: {run: "mine:job", needs: {media: source}, writes: application/json}
"""
CODE = "def job(media):\n    import librosa\n"

pytestmark = pytest.mark.xdist_group("installed")  # the wheel is built and installed once


def test_without_extras_every_command_names_that_of_the_command_line(with_core, tmp_path):
    for arguments in (["--help"], [], *([name] for name in SUMMARIES)):
        said = with_core.run(with_core.segue, *arguments, cwd=tmp_path, code=2)
        assert said.stdout == ""
        expected = (
            "segue: this command needs the extra 'cli'; install Segue as 'segue-features[cli]'\n"
        )
        assert said.stderr == expected


def test_without_extras_the_library_can_be_imported(with_core, tmp_path):
    with_core.run(with_core.python, "-c", "import segue", cwd=tmp_path)


def test_without_extras_a_feature_names_its_own(with_core, tmp_path):
    said = with_core.run(with_core.python, "-c", BEATS, cwd=tmp_path, code=1)
    last = said.stderr.splitlines()[-1]
    assert last.endswith(
        "segue.features needs the extra 'audio'; install Segue as 'segue-features[audio]'"
    )


def test_a_function_of_the_library_names_the_extra_that_it_needs(with_core, tmp_path):
    said = with_core.run(with_core.python, "-c", BACKFILL, cwd=tmp_path, code=1)
    last = said.stderr.splitlines()[-1]
    assert last.endswith(
        "segue.backfill needs the extra 'pipelines'; install Segue as 'segue-features[pipelines]'"
    )


@pytest.mark.parametrize(
    ("command", "extras"),
    [
        ("backfill --prefix . --all", "pipelines"),
        ("demo", "functions,pipelines"),
        ("plan --all", "pipelines"),
        ("reconcile", "pipelines"),
        ("stream --all", "pipelines"),
        ("serve", "functions"),
        ("up .", "functions,pipelines"),
        ("run beats song.wav", "audio"),
        ("graph --check", "audio"),
        ("status --ledger firestore://acme", "cloud"),
        ("export beats -o beats.parquet", "audio"),
        ("ping song.wav --queue pubsub://acme-audio", "cloud"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(with_cli, tmp_path, command, extras):
    (tmp_path / "song.wav").write_bytes(b"sound")
    said = with_cli.run(with_cli.segue, *command.split(), cwd=tmp_path, code=2)
    assert said.stderr.splitlines()[-1].endswith(f"install Segue as 'segue-features[{extras}]'")
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    "command", ["graph", "init", "models", "status", "failures", "export beats", "run --help"]
)
def test_a_command_that_needs_no_more_runs(with_cli, tmp_path, command):
    with_cli.run(with_cli.segue, *command.split(), cwd=tmp_path)


def test_the_doctor_says_how_to_install_what_is_missing(with_cli, tmp_path):
    said = with_cli.run(with_cli.segue, "doctor", cwd=tmp_path, code=1)
    for extra in ("audio", "cloud", "functions", "pipelines"):
        assert f"install Segue as 'segue-features[{extra}]'" in said.stdout


def test_a_job_of_ones_own_that_lacks_a_package_is_told_which_extra_has_it(with_cli, tmp_path):
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "song.wav").write_bytes(b"sound")
    said = with_cli.run(with_cli.segue, "run", "mine", "song.wav", cwd=tmp_path, code=2)
    assert "No module named 'librosa'; install Segue as 'segue-features[audio]'" in said.stderr
