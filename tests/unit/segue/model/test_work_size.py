"""Files of one length have about one size of work, whatever they are compressed with."""

from __future__ import annotations

import pytest

from segue.model.media_file import FileStat, MediaFile
from segue.model.work_size import guess_duration_s


@pytest.mark.parametrize(
    ("name", "size_bytes"),
    [
        ("a.wav", 10 * 176_400),
        ("a.FLAC", 1_000_000),
        ("a.mp3", 200_000),
        ("a.mkv", 3_000_000),
        ("a", 1_000_000),
    ],
)
def test_ten_seconds_of_usual_files_are_taken_for_ten_seconds(name, size_bytes):
    media = MediaFile(uri=f"gs://b/{name}", version="1", size_bytes=size_bytes)
    assert guess_duration_s(media) == pytest.approx(10.0)


def test_the_size_of_a_file_in_a_folder_that_was_not_read_is_in_its_stat():
    stat = FileStat(device=1, inode=2, size_bytes=200_000, mtime_ns=3, ctime_ns=4)
    media = MediaFile(uri="file:///a.mp3", version="", stat=str(stat))
    assert guess_duration_s(media) == pytest.approx(10.0)
