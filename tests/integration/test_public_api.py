"""The public API does what the command line does: on real files, with the embedded stack."""

from __future__ import annotations

import pytest

import segue
from segue.testing import sound

BPM = 120.0
# A line as that of beats, which does not import librosa.
GRAPH = """
jobs:
  downsample:
    run: segue.features.resampling:downsample
    needs: {media: source}
    writes: audio/flac
    params: {sample_rate_hz: 22050, channels: 1}
  after: {run: "segue_support.jobs:after", needs: {value: downsample}, writes: application/json}
"""


@pytest.fixture
def music(tmp_path, monkeypatch):
    """A folder with a click track and a file that is not audio, in an otherwise empty place."""
    monkeypatch.chdir(tmp_path)
    for name in ("GRAPH", "CATALOGUE", "ARTIFACTS", "LEDGER"):
        monkeypatch.delenv(f"SEGUE_{name}", raising=False)
    folder = tmp_path / "music"
    folder.mkdir()
    sound.write(sound.click_track(BPM, 10.0), str(folder / "clicks.wav"))
    (folder / "noise.wav").write_bytes(b"not audio")
    return folder


def test_a_catalogue_is_planned_computed_and_explained(music):
    graph = segue.load_graph()
    plan = segue.plan("beats", prefix=str(music), graph=graph)
    assert {job: dict(counts) for job, counts in plan.totals.jobs.items()} == {
        "downsample": {"todo": 2},
        "beats": {"todo": 2},
    }
    assert segue.status().files == 0  # nothing was written

    totals = segue.backfill("beats", prefix=str(music), graph=graph)
    assert totals.jobs["beats"] == {"done": 1, "blocked": 1}
    assert totals.failures == {"downsample": {"corrupt_media": 1}}

    counts = segue.status(prefix=str(music))
    assert counts.jobs["beats"]["done"] == 1
    assert counts.jobs["loudness"]["missing"] == 2

    explanation = segue.explain(music / "clicks.wav", ["energy"])
    assert explanation.run == ("energy",)
    assert {j.job for j in explanation.jobs if j.current} == {"downsample", "beats"}

    (failure,) = segue.failures(kinds=["corrupt_media"])
    assert failure.job == "downsample"
    assert failure.uri.endswith("/music/noise.wav")
    assert list(segue.failures("beats")) == []
    assert list(segue.failures(kinds="timeout")) == []

    again = segue.backfill(["beats"], prefix=str(music))
    assert again.total("done") == 0


def test_the_results_of_a_backfill_are_read_as_values_and_as_tables(music):
    (music / "noise.wav").unlink()
    sound.write(sound.silence(), str(music / "silence.wav"))
    segue.backfill(prefix=str(music))
    for job, spec in segue.load_graph().jobs.items():
        results = list(segue.results(job))
        assert [r.uri.rpartition("/")[2] for r in results] == ["clicks.wav", "silence.wav"]
        table = segue.results(job).to_arrow()
        assert table.column("fingerprint").to_pylist() == [r.fingerprint for r in results]
        if spec.writes == "application/json":
            rows = table.to_pylist(maps_as_pydicts="strict")
            for row, result in zip(rows, results, strict=True):
                assert {k: row.get(f"{k}_" if k == "fingerprint" else k) for k in result.value} == (
                    result.value
                )
    (clicks, _) = segue.results("downsample")
    assert clicks.audio().sr == 22050
    assert clicks.audio().y.shape == (220500,)


def test_an_overwritten_file_has_one_result(music):
    segue.backfill("downsample", prefix=str(music / "clicks.wav"))
    (before,) = segue.results("downsample")
    sound.write(sound.tone(440.0, 2.0), str(music / "clicks.wav"))
    segue.backfill("downsample", prefix=str(music / "clicks.wav"))
    (after,) = segue.results("downsample")
    assert before.version != after.version
    assert (before.audio().y.size, after.audio().y.size) == (220500, 44100)


def test_one_job_runs_on_one_file_and_leaves_nothing(music, tmp_path):
    run = segue.run_job("beats", music / "clicks.wav", params={"start_bpm": 100.0})
    assert run.value["tempo_bpm"] == pytest.approx(BPM, rel=0.002)
    assert list(run.results) == ["downsample", "beats"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["music"]


def test_a_job_that_fails_raises_when_its_value_is_used(music, tmp_path):
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    run = segue.run_job("after", music / "noise.wav", graph=segue.load_graph())
    with pytest.raises(segue.CorruptMedia, match=r"downsample: .*noise\.wav"):
        _ = run.value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: segue.backfill("beat", prefix="music"), "did you mean 'beats'"),
        (lambda: segue.backfill("beats"), "no files are selected"),
        (lambda: segue.backfill("beats", prefix="musik/x"), "check the path"),
        (lambda: segue.backfill(from_ledger="odd", prefix="music"), "'odd' is not a ledger query"),
        (lambda: segue.backfill(uris="list.txt", prefix="music"), "leave it or them out"),
        (lambda: segue.plan(prefix="music", beam_options=["--runnr=x"]), "--runnr"),
        (lambda: segue.run_job("beats", "music/none.wav"), "check the path"),
        (lambda: segue.run_job("beats", "music/clicks.wav", params={"hop": 1}), "hop"),
        (lambda: segue.explain("music/none.wav"), "does not exist"),
        (lambda: list(segue.failures(kinds=["corupt"])), "'corupt' is not a kind"),
        (lambda: segue.load_graph("none.yaml"), "none.yaml"),
        (lambda: segue.backfill([], prefix="music"), "None for all jobs"),
        (lambda: segue.plan(prefix="music", sample=50), "share from 0 to 1"),
        (lambda: segue.backfill(prefix="music", limit=0), "limit is 0"),
        (lambda: segue.backfill(prefix="music", processes=0), "processes is 0"),
    ],
)
def test_a_wrong_argument_is_a_configuration_error_with_a_remedy(music, call, message):
    with pytest.raises(segue.ConfigurationError, match=message):
        call()
