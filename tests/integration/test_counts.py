"""What a file costs in documents and messages, counted on the emulators by ``bench.counts``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from segue_support import emulators
from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("firestore")

# For each file: documents read (at most) and written, messages published and delivered.
COUNTS = {
    "arrival, a line of 4 jobs in one pipeline": (0, 3, 1, 1),
    "arrival, a line of 4 jobs in a pipeline each": (3, 9, 4, 4),
    "arrival, 4 layers of 3 jobs below one": (30, 27, 11, 31),
    "arrival, 5 layers of 3 jobs below one": (39, 33, 14, 40),
    "backfill, a line of 4 jobs, nothing is there": (1, 2, 0, 0),
    "backfill, a line of 4 jobs, all is current": (1, 0, 0, 0),
}


# Below a parent of one job, ten namespaces of three jobs, in a pipeline each.
COUNTS_OF_TEAMS = {
    "request through two teams of 2 jobs each": (4, 5, 3, 3),
    "arrival, 10 teams x 3 jobs below one": (0, 3 + 10 * 2, 2, 1 + 10),
}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("bench.counts",), COUNTS),
        (("bench.teams", "--teams", "10", "--counts"), COUNTS_OF_TEAMS),
    ],
    ids=["one namespace", "several"],
)
def test_a_file_costs_few_documents_and_messages(
    firestore_emulator, pubsub_emulator, command, expected
):
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={
            **os.environ,
            emulators.FIRESTORE.variable: firestore_emulator,
            emulators.PUBSUB.variable: pubsub_emulator,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    fields = ("reads", "writes", "published", "delivered")
    counts = {line["case"]: tuple(line[field] for field in fields) for line in lines}
    # Whoever gets several messages about a file at once reads its record once.
    assert {case: n[0] for case, n in expected.items() if counts[case][0] > n[0]} == {}
    assert {case: n[1:] for case, n in counts.items()} == {c: n[1:] for c, n in expected.items()}
