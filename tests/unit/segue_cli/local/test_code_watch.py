"""A change is another content, not another time; what was changed once stays so."""

from __future__ import annotations

import os

import pytest

from segue_cli.local.code_watch import CodeWatch


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "jobs.yaml"
    made.write_text("jobs: {}")
    return made


def test_another_content_is_a_change_and_the_same_content_is_none(path):
    watch = CodeWatch([str(path)])
    os.utime(path, (1, 1))
    assert watch.find_changes() == ()
    path.write_text("jobs: {}")
    assert watch.find_changes() == ()
    path.write_text("jobs: []")
    assert watch.find_changes() == (str(path),)
    path.write_text("jobs: {}")
    assert watch.find_changes() == (str(path),)


def test_a_file_that_is_replaced_removed_or_created_is_a_change(path, tmp_path):
    lock, gone = tmp_path / "segue.lock", tmp_path / "gone.py"
    gone.write_text("")
    watch = CodeWatch([str(path), str(lock), str(gone)])
    assert watch.find_changes() == ()
    another = tmp_path / "another"
    another.write_text("jobs: []")
    another.replace(path)
    lock.write_text("{}")
    gone.unlink()
    assert watch.find_changes() == (str(path), str(lock), str(gone))


def test_a_relative_path_is_found_after_a_change_of_the_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    watch = CodeWatch(["jobs.yaml"])
    monkeypatch.chdir("/")
    assert watch.find_changes() == ()


def test_a_file_that_cannot_be_read_for_now_has_not_changed(path, tmp_path):
    (tmp_path / "work").mkdir()
    path = path.rename(tmp_path / "work/jobs.yaml")
    watch = CodeWatch([str(path)])
    (tmp_path / "work").rename(tmp_path / "there")
    (tmp_path / "work").symlink_to("work")  # a loop, which no call can follow
    assert watch.find_changes() == ()
    (tmp_path / "work").unlink()
    (tmp_path / "there").rename(tmp_path / "work")
    assert watch.find_changes() == ()
    path.write_text("jobs: []")
    assert watch.find_changes() == (str(path),)
