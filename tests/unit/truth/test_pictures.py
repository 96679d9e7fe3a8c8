"""What pictures, films and pages of text are scored by."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont
from truth import films, hashes, letters
from truth.films import iterate_parts, match_times
from truth.hashes import CHANGES, count_bits
from truth.letters import break_lines, count_edits, iterate_words
from truth.media_jobs import encode_picture
from truth.objects import count_labels
from truth.photographs import PHOTOS, THINGS, place

from segue.models.centernet import CLASSES
from segue_support.paths import ROOT


def test_a_time_is_found_once_and_within_a_tenth_of_a_second():
    found, false, off_s = match_times([0.98, 1.04, 2.2, 3.0], [1.0, 2.0, 3.0])
    assert (found, false) == (2, 2)
    assert off_s == pytest.approx([0.02, 0.0])


def test_without_true_times_all_are_false():
    assert match_times([1.0], []) == (0, 1, [])


def test_labels_count_from_a_threshold_on():
    pictures = [(["cat"], {"cat": 0.5, "dog": 0.3}), ([], {"cat": 0.31})]
    assert count_labels(pictures, 0.3) == (1, 2)
    assert count_labels(pictures, 0.5) == (1, 0)


@pytest.mark.parametrize(
    ("found", "truth", "edits"),
    [
        ("", "abc", 3),
        ("abc", "abc", 0),
        ("abd", "abc", 1),
        ("xabc", "abc", 1),
        ("kitten", "sitting", 3),
    ],
)
def test_edits_are_counted(found, truth, edits):
    assert count_edits(found, truth) == count_edits(truth, found) == edits


def test_lines_are_as_wide_as_the_column_and_follow_each_other():
    words = iterate_words()
    fonts = [ImageFont.load_default(size) for size in (12, 14)]
    lines = break_lines(words, fonts)
    assert [font for _, font in lines] == fonts * (letters.LINES // 2)
    assert all(font.getlength(line) >= letters.WIDTH for line, font in lines)
    read = " ".join(line for line, _ in lines).split()
    assert read == (ROOT / "LICENSE").read_text().split()[: len(read)]


def test_bits_that_differ_are_counted():
    assert count_bits("8000000000000000", "0000000000000003") == 3


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_a_picture(change):
    make, _ = CHANGES[change]
    image = Image.fromarray(np.arange(120 * 90 * 3, dtype=np.uint8).reshape(90, 120, 3))
    changed = make(image)
    assert changed.mode == "RGB"
    assert (changed == image) == (change in {hashes.ORIGINAL, "JPEG of quality 30"})


def test_a_stamp_is_in_the_middle_of_its_ground():
    stamp = Image.new("RGBA", (10, 20), (255, 0, 0, 255))
    placed = np.asarray(place(stamp, Image.new("RGB", (200, 100), (0, 0, 255))))
    red = placed[..., 0] == 255
    assert red.any(axis=1).sum() == 70
    assert red.any(axis=0).sum() == 35
    assert red[50, 100]
    assert not red[50, 70]


def test_each_thing_is_a_class_of_the_model():
    known = {label for labels in PHOTOS.values() for label in labels}
    known |= {label for classes in THINGS.values() for label in classes if label}
    assert known <= set(CLASSES)


def test_a_thumbnail_is_the_part_that_it_is_most_like(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (18, 32, 3)).astype(np.uint8))
    small.resize((640, 360)).save(tmp_path / "photo.png")
    monkeypatch.setattr(films, "find_photos", lambda: tmp_path)
    parts = dict(iterate_parts("photo.png"))
    assert list(parts).count(films.SHARP) == 1
    for name, part in parts.items():
        assert films.name_part(encode_picture(part.astype(np.uint8)), parts) == name
