"""Manifests and locks: what is written is read back, and anything else is refused by name."""

from __future__ import annotations

import json

import pytest

from segue.errors import ConfigurationError
from segue.model.manifest import (
    Lock,
    Manifest,
    PublishedJob,
    decode_lock,
    decode_manifest,
    encode_manifest,
    find_published,
)

JOB = PublishedJob(
    fingerprint="0123456789ab",
    equivalents=("ba9876543210",),
    writes="audio/flac",
    pipeline="downsample",
    owner="platform",
)
PLATFORM = Manifest(
    namespace="platform",
    contact="platform@example.org",
    catalogue="gs://masters",
    include=("*.flac",),
    exclude=("*/drafts/*",),
    ledger="firestore://platform",
    queue="pubsub://platform",
    artifacts="gs://platform-artifacts",
    jobs={"downsample": JOB},
    pins={"ingest/checks": "cccccccccccc"},
)


def test_a_manifest_and_a_lock_are_read_back_as_written():
    assert decode_manifest(encode_manifest(PLATFORM), "here") == PLATFORM
    lock = Lock(namespaces={"platform": PLATFORM})
    assert decode_lock(encode_manifest(lock), "here") == lock


def test_the_text_says_its_format_and_does_not_depend_on_the_order_of_jobs():
    others = dict.fromkeys(("b", "a"), JOB)
    texts = [
        encode_manifest(Lock(namespaces={"p": _with_jobs({n: others[n] for n in order})}))
        for order in (("a", "b"), ("b", "a"))
    ]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["format"] == 1
    assert texts[0].endswith(b"}\n")  # a line of text, for version control


def _with_jobs(jobs: dict[str, PublishedJob]) -> Manifest:
    return Manifest(namespace="p", ledger="l", queue="q", artifacts="a", jobs=jobs)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"format": 2}', b"[" * 100_000])
def test_anything_else_is_refused_with_the_place_and_the_remedy(data):
    with pytest.raises(ConfigurationError, match=r"^here is not a manifest .*'segue publish'"):
        decode_manifest(data, "here")
    with pytest.raises(ConfigurationError, match=r"^here is not a lock .*'segue lock'"):
        decode_lock(data, "here")


def test_a_job_is_found_by_its_reference():
    manifests = {"platform": PLATFORM}
    assert find_published(manifests, "platform/downsample") == JOB
    assert find_published(manifests, "platform/beats") is None
    assert find_published(manifests, "moods/downsample") is None
    assert JOB.accepted == ("0123456789ab", "ba9876543210")
