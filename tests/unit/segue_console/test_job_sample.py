"""What a job has written is shown by a sample, whatever is in its results."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.model.artifact import compute_checksum
from segue.model.record import Entry, Record, State, evolve
from segue.stack import Stack
from segue_console import job_sample
from segue_console.job_sample import Distribution, find_distributions, sample_job
from segue_support.results import NOW, OLD

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
)


@pytest.fixture
def stack(namespace) -> Stack:
    return namespace.stack


def find(values: list) -> dict[str, Distribution]:
    return {one.field: one for one in find_distributions([("", value) for value in values])}


def finish(writer, name: str, seconds: float, fingerprint: str | None = None) -> None:
    """Set how long the result of a file took."""
    made = fingerprint or writer.graph.fingerprints["beats"]
    (found,) = writer.ledger.read([writer.uri(name)])
    entry = evolve(found.record.results[made], seconds=seconds)
    writer.put(evolve(found.record, results={**found.record.results, made: entry}))


class TestFiles:
    def test_a_ledger_without_files_has_no_sample(self, writer, stack):
        found = sample_job(stack, "beats")
        assert (found.files, found.is_whole, found.values) == (0, True, 0)
        assert (found.versions, found.slowest, found.distributions) == ((), (), ())

    def test_a_job_without_results_has_files_only(self, writer, stack):
        writer.write("a.wav", plain={"n": 1})
        found = sample_job(stack, "beats")
        assert (found.files, found.versions, found.values) == (1, (), 0)

    def test_files_that_were_deleted_do_not_count(self, writer, stack):
        for name in ("a.wav", "b.wav"):
            writer.write(name, beats={"tempo_bpm": 120.0})
        writer.delete("a.wav")
        found = sample_job(stack, "beats")
        assert (found.files, found.values) == (1, 1)

    def test_a_large_catalogue_is_looked_at_in_places(self, writer, stack, monkeypatch):
        monkeypatch.setattr(job_sample, "FIRST", 10)
        monkeypatch.setattr(job_sample, "PER_PLACE", 2)
        names = [f"{letter}/{n}.wav" for letter in "abcdwxyz" for n in range(10)]
        for name in names:
            writer.write(name, beats={"tempo_bpm": 120.0})
        read: list[int] = []
        real = type(stack.ledger).find

        def count(ledger, *arguments, **options):
            found = real(ledger, *arguments, **options)
            read.append(len(found))
            return found

        monkeypatch.setattr(type(stack.ledger), "find", count)
        found = sample_job(stack, "beats")
        assert not found.is_whole
        assert 20 <= found.files < len(names)
        assert max(read) <= 10
        assert len(read) <= 1 + len(job_sample.PLACES) + writer.uri("a").count("/")


class TestVersions:
    def test_each_has_its_files_and_times_the_latest_first(self, writer, stack):
        for name in ("a.wav", "b.wav"):
            writer.write(name, fingerprint="ba9876543210", beats={})
        writer.write("a.wav", beats={})
        made = writer.graph.fingerprints["beats"]
        (found,) = writer.ledger.read([writer.uri("a.wav")])
        later = NOW + timedelta(days=1)
        entry = evolve(found.record.results[made], finished_at=later)
        writer.put(evolve(found.record, results={**found.record.results, made: entry}))
        present, old = sample_job(stack, "beats").versions
        assert (present.fingerprint, present.is_present, present.files) == (made, True, 1)
        assert (present.first, present.last) == (later, later)
        assert (old.fingerprint, old.is_present, old.files) == ("ba9876543210", False, 2)

    def test_the_slowest_files_are_those_of_results_that_count(self, writer, stack):
        for n in range(12):
            writer.write(f"{n:02}.wav", beats={})
            finish(writer, f"{n:02}.wav", float(n))
        writer.write("11.wav", fingerprint="ba9876543210", beats={})
        finish(writer, "11.wav", 99.0, "ba9876543210")
        slowest = sample_job(stack, "beats").slowest
        assert [seconds for _, seconds in slowest] == [float(n) for n in range(11, 1, -1)]
        assert slowest[0][0] == writer.uri("11.wav")

    def test_results_of_an_equivalent_version_count(self, writer, stack):
        writer.write("a.wav", fingerprint=OLD, beats={"tempo_bpm": 99.0})
        found = sample_job(stack, "beats")
        assert found.values == 1


class TestValues:
    @pytest.mark.parametrize(
        "data",
        [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}'],
        ids=["empty", "cut", "no text", "deep", "not a number"],
    )
    def test_what_cannot_be_read_is_left_out(self, writer, stack, data):
        writer.write("a.wav", beats={"tempo_bpm": 1.0})
        writer.write("b.wav", beats={"tempo_bpm": 2.0})
        (path,) = (writer.folder / "artifacts" / "beats").rglob("*a.wav/*.json")
        path.write_bytes(data)
        assert sample_job(stack, "beats").values == 1

    def test_what_is_gone_is_left_out(self, writer, stack):
        writer.write("a.wav", beats={"tempo_bpm": 1.0})
        (path,) = (writer.folder / "artifacts" / "beats").rglob("*.json")
        path.unlink()
        assert sample_job(stack, "beats").values == 0

    def test_what_is_too_long_is_left_out(self, writer, stack, monkeypatch):
        writer.write("a.wav", beats={"times_s": [1.0] * 1000})
        monkeypatch.setattr(job_sample, "MAX_VALUE_BYTES", 1000)
        assert sample_job(stack, "beats").values == 0

    def test_only_some_are_read(self, writer, stack, monkeypatch):
        monkeypatch.setattr(job_sample, "VALUES", 3)
        for n in range(10):
            writer.write(f"{n}.wav", beats={"tempo_bpm": float(n)})
        assert sample_job(stack, "beats").values == 3

    def test_of_several_outputs_those_in_json_are_read(self, writer, stack):
        writer.write("a.wav", stems__summary={"peaks": [1.0, 2.0]})
        (found,) = sample_job(stack, "stems").distributions
        assert found.field == "summary.peaks (length)"


class TestDistributions:
    def test_numbers_are_in_bins_from_the_lowest_to_the_highest(self):
        found = find([{"x": float(n)} for n in range(48)])["x"]
        assert (found.low, found.high, found.median) == (0.0, 47.0, 23.5)
        assert sum(found.bins) == found.files == 48
        assert len(found.bins) == job_sample.BINS
        assert set(found.bins) == {2}

    def test_numbers_that_are_all_the_same_are_in_one_bin(self):
        assert find([{"x": 7}, {"x": 7}])["x"].bins == (2,)

    def test_texts_are_counted_the_most_frequent_first(self):
        found = find([{"key": "C"}, {"key": "D"}, {"key": "C"}, {"key": None}])["key"]
        assert (found.texts, found.files, found.missing) == ((("C", 2), ("D", 1)), 3, 1)

    def test_yes_and_no_are_texts(self):
        assert find([{"x": True}, {"x": False}, {"x": True}])["x"].texts == (
            ("True", 2),
            ("False", 1),
        )

    def test_texts_that_are_nearly_all_different_say_nothing(self):
        assert find([{"id": f"file {n}"} for n in range(100)]) == {}

    def test_parts_have_their_path_and_lists_their_length(self):
        found = find([{"a": {"b": 1.0, "c": [1, 2]}}, {"a": {"b": 2.0, "c": []}}])
        assert list(found) == ["a.b", "a.c (length)"]
        assert (found["a.c (length)"].low, found["a.c (length)"].high) == (0.0, 2.0)

    def test_a_value_alone_has_a_distribution(self):
        assert find([1.0, 2.0])["(value)"].files == 2

    @pytest.mark.parametrize("number", [10**400, -(10**400), 1.7e308, -1.7e308, 5e-324, 2**64])
    def test_numbers_of_any_size_are_no_error(self, number):
        found = find([{"x": 1.0}, {"x": number}, {"x": 0.0}])["x"]
        assert sum(found.bins) == found.files >= 2

    @given(st.lists(JSON, max_size=6))
    def test_any_values_have_distributions_that_add_up(self, values):
        for one in find(json.loads(json.dumps(values))).values():
            assert one.bins or one.texts
            assert sum(one.bins) + sum(n for _, n in one.texts) <= one.files


class TestPage:
    def test_a_job_without_results_says_so(self, console, writer):
        assert "It has no results in the sample." in console.get("/default/jobs/beats/sample").text

    def test_a_sample_is_called_one(self, console, writer, monkeypatch):
        monkeypatch.setattr(job_sample, "FIRST", 2)
        for n in range(4):
            writer.write(f"{n}.wav", beats={})
        text = console.get("/default/jobs/beats/sample").text
        assert "a sample of" in text
        assert "All" not in text

    def test_names_without_end_are_said_to_be_cut(self, console, writer):
        words = {f"<b>{n}": float(n) for n in range(job_sample.FIELDS + 2)}
        writer.write("a.wav", beats={"labels": words})
        text = console.get("/default/jobs/beats/sample").text
        assert "And 2 other fields" in text
        assert "<b>" not in text

    @pytest.mark.parametrize("digits", [400, 5000])
    def test_a_number_of_any_size_is_shown(self, console, writer, digits):
        data = b'{"n": 1' + b"0" * digits + b', "m": -1e308}'
        put_value(writer, "a.wav", data)
        put_value(writer, "b.wav", b'{"n": 1, "m": 1e308}')
        assert console.get("/default/jobs/plain/sample").status_code == 200
        for part in ("tracks", "value"):
            made = writer.graph.fingerprints["plain"]
            found = console.get(
                f"/default/file/{part}", uri=writer.uri("a.wav"), fingerprint=made, suffix="json"
            )
            assert found.status_code == 200


def put_value(writer, name: str, data: bytes) -> None:
    """Write a result of these bytes."""
    writer.write(name, plain={})
    (path,) = (writer.folder / "artifacts" / "plain").rglob(f"*{name}/*.json")
    path.write_bytes(data)
    made = writer.graph.fingerprints["plain"]
    entry = Entry(
        job="plain",
        state=State.DONE,
        order=1,
        checksums={"json": compute_checksum(data)},
        finished_at=NOW,
    )
    writer.put(
        Record(uri=writer.uri(name), version="a1", order=1, arrived_at=NOW, results={made: entry})
    )
