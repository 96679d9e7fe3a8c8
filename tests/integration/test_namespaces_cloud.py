"""Three namespaces on emulators, with workers of their own: what goes down, up, and away."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from segue_support import emulators
from segue_support.cloud_teams import GRAPHS, JOB_OF, PATIENCE_S, CloudTeams
from segue_support.killed_teams import TeamsRound

pytestmark = pytest.mark.xdist_group("firestore")

KILLS, FILES = 4, 30
DONE = dict.fromkeys(GRAPHS, "done")


@pytest.fixture(scope="module")
def teams(
    firestore_emulator, pubsub_emulator, storage_emulator, tmp_path_factory
) -> Iterator[CloudTeams]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(emulators.FIRESTORE.variable, firestore_emulator)
        patch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
        patch.setenv(emulators.STORAGE.variable, storage_emulator)
        project = f"test-{uuid.uuid4().hex[:12]}"
        with CloudTeams(tmp_path_factory.mktemp("teams"), project) as teams:
            teams.start_all()
            yield teams


def wait_for(condition: Callable[[], bool], explain: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.1)


def wait_until_done(teams: CloudTeams, uri: str) -> None:
    wait_for(lambda: teams.list_states(uri) == DONE, lambda: teams.list_states(uri))
    wait_for(lambda: teams.list_unfinished() == [], teams.list_unfinished)


def count(uri: str, data: bytes) -> Counter[tuple[str, str, str]]:
    """Each job once."""
    content = hashlib.sha256(data).hexdigest()
    return Counter((job, uri, content) for job in JOB_OF.values())


def test_an_arrival_goes_down_through_all_and_so_does_its_deletion(teams):
    media = teams.upload("arrives.wav", b"arrives")
    teams.send("finalized", media)
    wait_until_done(teams, media.uri)
    assert {k: n for k, n in teams.count_runs().items() if k[1] == media.uri} == count(
        media.uri, b"arrives"
    )

    teams.catalogue.delete("arrives.wav", generation=media.order)
    teams.send("deleted", media)

    def find_deleted() -> list[str]:
        return [n for n in GRAPHS if getattr(teams.read(n, media.uri)[0], "deleted_at", None)]

    wait_for(lambda: find_deleted() == list(GRAPHS), find_deleted)


def test_a_request_for_a_file_that_never_arrived_goes_up_and_is_answered(teams):
    media = teams.upload("requested.wav", b"requested")
    assert teams.list_states(media.uri) == dict.fromkeys(GRAPHS)
    seen = teams.run("moods", "request", media.uri, "--job", "energy", "--watch", "--timeout", "1m")
    assert seen["jobs"]["energy"]["done"] == 1, seen
    wait_until_done(teams, media.uri)
    assert {k: n for k, n in teams.count_runs().items() if k[1] == media.uri} == count(
        media.uri, b"requested"
    )


def test_workers_that_are_killed_lose_nothing_and_double_nothing(teams):
    figures = TeamsRound(teams, 0, kills=KILLS, files=FILES).run()
    assert figures.violations == []
    assert figures.kills.total() == KILLS
    assert figures.results > len(GRAPHS) * FILES / 2
