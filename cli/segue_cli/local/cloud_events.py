"""Builds events as Cloud Storage and Pub/Sub send them to the functions."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from segue.model.media_file import split_uri
from segue_functions.events import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


def build_file_event(kind: str, uri: str, *, now: datetime) -> CloudEvent:
    """Build the event of a local file: it has no bucket and no generation."""
    name = split_uri(uri)[1]
    return _build_event(
        kind,
        {
            "kind": "storage#object",
            "bucket": "",
            "name": name,
            "timeCreated": _format_time(now),
            "updated": _format_time(now),
        },
        now=now,
        source="//storage.googleapis.com/projects/_/buckets/",
        subject=f"objects/{name}",
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
