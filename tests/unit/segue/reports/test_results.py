"""The current results of a job, as ``segue.results`` streams them."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

import segue
from segue.errors import ConfigurationError, MissingInput
from segue.media.audio import Audio
from segue.model.ledger import PAGE
from segue.model.record import State, evolve
from segue_support.results import NOW, OLD

WRONG = "f" * 12


def read(writer, job, **options):
    return list(segue.results(job, graph=writer.graph, ledger=writer.url, **options))


def test_each_result_has_the_version_the_fingerprint_and_the_time(writer):
    writer.write("a.wav", plain={"ok": True})
    (result,) = read(writer, "plain")
    assert (result.uri, result.version, result.job) == (writer.uri("a.wav"), "a1", "plain")
    assert result.fingerprint == writer.graph.fingerprints["plain"]
    assert result.finished_at == NOW
    assert result.value == {"ok": True}
    assert result.artifact == writer.artifacts.uri(result.name)


def test_an_overwritten_file_has_one_result_and_it_is_of_its_present_content(writer):
    writer.write("a.wav", "a1", plain={"n": 1})
    writer.write("a.wav", "b2", order=2, beats={"n": 2})
    assert read(writer, "plain") == []
    writer.write("a.wav", "b2", order=2, plain={"n": 2})
    assert [(r.version, r.value) for r in read(writer, "plain")] == [("b2", {"n": 2})]


def test_of_several_versions_of_the_job_only_the_current_one_counts(writer):
    writer.write("a.wav", beats={"n": "own"})
    writer.write("a.wav", fingerprint=OLD, beats={"n": "accepted"})
    writer.write("a.wav", fingerprint=WRONG, beats={"n": "earlier"})
    writer.write("b.wav", fingerprint=OLD, beats={"n": "accepted"})
    writer.write("c.wav", fingerprint=WRONG, beats={"n": "earlier"})
    found = [(r.uri, r.fingerprint, r.value["n"]) for r in read(writer, "beats")]
    own = writer.graph.fingerprints["beats"]
    assert found == [
        (writer.uri("a.wav"), own, "own"),
        (writer.uri("b.wav"), OLD, "accepted"),
    ]


def test_deleted_files_and_unfinished_jobs_have_no_result(writer):
    for name in ("a.wav", "b.wav", "c.wav"):
        writer.write(name, plain={"name": name})
    writer.delete("a.wav")
    record = writer.ledger.read([writer.uri("b.wav")])[0].record
    results = {f: evolve(e, state=State.RUNNING) for f, e in record.results.items()}
    writer.put(evolve(record, results=results))
    assert [r.value["name"] for r in read(writer, "plain")] == ["c.wav"]


def test_a_prefix_is_a_file_or_a_folder(writer):
    for name in ("x/1.wav", "x-other/1.wav", "y.wav"):
        writer.write(name, plain={"name": name})
    assert [r.value["name"] for r in read(writer, "plain", prefix="music/x")] == ["x/1.wav"]
    assert [r.value["name"] for r in read(writer, "plain", prefix="music/y.wav")] == ["y.wav"]


def test_the_ledger_is_read_page_by_page_while_the_results_are_taken(writer, monkeypatch):
    for number in range(5):
        writer.write(f"{number}.wav", plain={"n": number})
    pages = []
    find = type(writer.ledger).find

    def count(self, query, *, after="", limit=PAGE):
        pages.append(after)
        return find(self, query, after=after, limit=2)

    monkeypatch.setattr(type(writer.ledger), "find", count)
    found = iter(segue.results("plain", graph=writer.graph, ledger=writer.url))
    assert pages == []
    assert next(found).value == {"n": 0}
    assert len(pages) == 1
    assert [r.value["n"] for r in found] == [1, 2, 3, 4]


def test_results_can_be_looped_over_again(writer):
    found = segue.results("plain", graph=writer.graph, ledger=writer.url)
    assert list(found) == []
    writer.write("a.wav", plain={})
    assert len(list(found)) == len(list(found)) == 1


def test_a_job_with_several_outputs_is_read_by_output(writer):
    sound = Audio(y=np.array([0.0, 0.5], np.float32), sr=8000)
    writer.write("a.wav", stems__vocals=sound, stems__summary={"n": 1})
    (vocals,) = read(writer, "stems.vocals")
    assert vocals.audio().sr == 8000
    np.testing.assert_array_equal(vocals.audio().y, sound.y)
    assert [r.value for r in read(writer, "stems.summary")] == [{"n": 1}]


def test_an_accepted_version_without_the_output_has_no_result_of_it(writer):
    writer.write("a.wav", stems__summary={"n": 1})
    assert read(writer, "stems.vocals") == []


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("stems", "'stems' has several outputs; write one of stems.vocals, stems.summary"),
        ("stems.drums", "no output of that name; write one of stems.vocals, stems.summary"),
        ("plain.value", "no output of that name; write one of plain"),
        ("plan", "did you mean 'plain'?"),
    ],
)
def test_a_job_or_output_that_does_not_exist_is_refused_at_once(writer, job, message):
    with pytest.raises(ConfigurationError) as caught:
        segue.results(job, graph=writer.graph, ledger=writer.url)
    assert message in str(caught.value)


def test_arrays_and_images_open_as_such(writer):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    writer.write("a.wav", arrays={"mfcc": np.ones((2, 3))}, picture=pixels)
    (arrays,), (picture,) = read(writer, "arrays"), read(writer, "picture")
    assert arrays.array().shape == arrays.array("mfcc").shape == (2, 3)
    np.testing.assert_array_equal(picture.image(), pixels)
    with pytest.raises(ConfigurationError, match=r"holds no image; use \.value"):
        arrays.image()
    with pytest.raises(ConfigurationError, match=r"'chroma' is not in .*name one of mfcc"):
        arrays.array("chroma")
    with pytest.raises(ConfigurationError, match="holds no sound"):
        picture.audio()


def test_one_of_several_arrays_has_to_be_named(writer):
    writer.write("a.wav", arrays={"x": np.ones(1), "y": np.zeros(1)})
    (result,) = read(writer, "arrays")
    with pytest.raises(ConfigurationError, match="name one of x, y"):
        result.array()
    assert result.array("y").tolist() == [0.0]


def test_the_path_of_an_artifact_in_a_folder_is_the_artifact_or_a_copy(writer, tmp_path):
    writer.write("a.wav", plain={"ok": True})
    (result,) = read(writer, "plain")
    assert result.path().read_bytes() == b'{"ok":true}'
    copy = result.path(tmp_path / "copies")
    assert copy == tmp_path / "copies" / result.name
    copy.write_bytes(b"cut")
    assert result.path(tmp_path / "copies").read_bytes() == b'{"ok":true}'
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]


def test_an_artifact_that_is_missing_or_changed_is_an_error_with_the_remedy(writer):
    writer.write("a.wav", plain={"ok": True})
    (result,) = read(writer, "plain")
    remedy = f"segue backfill --force --job plain --prefix {result.uri}"
    result.path().write_bytes(b'{"ok":null}')
    with pytest.raises(MissingInput, match="has changed since 'plain' wrote it") as caught:
        _ = result.value
    assert remedy in str(caught.value)
    result.path().unlink()
    for read_it in (result.read, result.path):
        with pytest.raises(MissingInput) as caught:
            read_it()
        assert remedy in str(caught.value)


def test_a_result_can_be_sent_to_another_process(writer):
    writer.write("a.wav", plain={"ok": True})
    (result,) = read(writer, "plain")
    assert result.value == {"ok": True}
    assert pickle.loads(pickle.dumps(result)).value == {"ok": True}


def test_without_a_ledger_there_are_no_results_and_none_is_created(writer, tmp_path):
    assert list(segue.results("plain", graph=writer.graph, ledger="sqlite:///none.db")) == []
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("prefix", ["music/empty", "gs://acme/masters/"])
def test_a_prefix_below_which_no_file_is_known_is_warned_of(writer, tmp_path, prefix):
    writer.write("x/1.wav", plain={"n": 1})
    (tmp_path / "music/empty").mkdir(parents=True)
    with pytest.warns(UserWarning, match=f"has no file below .*{prefix}"):
        assert read(writer, "plain", prefix=prefix) == []


def test_a_path_that_neither_exists_nor_is_known_is_refused(writer):
    writer.write("x/1.wav", plain={"n": 1})
    for wrong in ("musik", "music/x/2.wav"):
        with pytest.raises(ConfigurationError, match=f"there is no file or folder .*{wrong}"):
            read(writer, "plain", prefix=wrong)
    shutil.rmtree("music", ignore_errors=True)  # as if its disk were not there
    assert len(read(writer, "plain", prefix="music/x/")) == 1
