"""What all commands have in common."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("status", "--prefix", "music"), 3),
        (("failures",), 3),
        (("retry", "--yes"), 3),
        (("explain", "music/1.wav"), 1),
        (("gc", "--delete", "--older-than", "0s"), 1),
    ],
)
def test_a_damaged_record_is_named_by_each_command_that_reads_it(segue, project, command, code):
    files = [project.media(f"{n}.wav") for n in range(3)]
    for media in files:
        project.record(media, {"fine": project.failed("fine", media)})
    project.write("fine", files[0])
    with project.ledger._session(), project.ledger._transaction():
        project.ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (files[1].uri,))
    said = segue(*command, "--ledger", "sqlite:///ledger.db")
    assert said.code == code
    assert files[1].uri in said.err
    assert "Traceback" not in said.err
    assert files[0].uri not in said.err
