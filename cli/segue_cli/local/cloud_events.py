"""Builds events as Cloud Storage and Pub/Sub send them to the functions."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from segue_functions.events import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent

    from segue.model.media_file import MediaFile


def build_storage_event(kind: str, media: MediaFile, *, now: datetime) -> CloudEvent:
    """Build an event of Cloud Storage; a local file has no bucket, and its name is its path."""
    data = {
        "kind": "storage#object",
        "bucket": media.bucket,
        "name": media.name,
        "generation": str(media.generation),
        "metageneration": "1",
        "size": str(media.size_bytes),
        "contentType": media.content_type,
        "timeCreated": _format_time(now),
        "updated": _format_time(now),
    }
    return _build_event(
        kind,
        {key: value for key, value in data.items() if value is not None},
        now=now,
        source=f"//storage.googleapis.com/projects/_/buckets/{media.bucket}",
        subject=f"objects/{media.name}",
    )


def build_sweep_event(*, now: datetime) -> CloudEvent:
    """Build the event of an empty Pub/Sub message, by which the schedule triggers the sweep."""
    message = {
        "data": base64.b64encode(b"{}").decode(),
        "attributes": {},
        "messageId": secrets.token_hex(8),
        "publishTime": _format_time(now),
    }
    return _build_event(
        PUBLISHED,
        {"message": message, "subscription": "projects/local/subscriptions/segue-sweep"},
        now=now,
        source="//pubsub.googleapis.com/projects/local/topics/segue-sweep",
    )


def _build_event(
    kind: str, data: Mapping[str, object], *, now: datetime, **attributes: str
) -> CloudEvent:
    from cloudevents.http import CloudEvent

    common = {
        "specversion": "1.0",
        "id": secrets.token_hex(8),
        "type": kind,
        "time": _format_time(now),
        "datacontenttype": "application/json",
    }
    return CloudEvent({**common, **attributes}, data)


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
