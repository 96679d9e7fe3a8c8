"""What a backfill would compute, and what it would cost."""

from __future__ import annotations

LEDGER = ("--ledger", "sqlite:///ledger.db")


def test_files_below_the_prefix_are_measured_before_others(segue, project):
    for name, cpu_seconds in {"long/a.wav": 100.0, "short/a.wav": 2.0}.items():
        media = project.media(name)
        project.record(media, {"fine": project.entry("fine", media, cpu_seconds=cpu_seconds)})
    project.media("short/b.wav")
    found = segue("plan", "--prefix", "music/short", "--job", "fine", *LEDGER, "--json").json
    assert found["estimate"]["jobs"]["fine"] == {
        "todo": 1,
        "measured_on": 1,
        "cpu_seconds": 2.0,
        "vcpu_hours": 2.0 / 3600,
    }
