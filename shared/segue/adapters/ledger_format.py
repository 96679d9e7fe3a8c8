"""What a ledger is in any store: each record as JSON, in one format, of one namespace."""

from __future__ import annotations

from typing import Any

import msgspec

from segue.errors import ConfigurationError
from segue.model.ledger import DamageReport, Snapshot
from segue.model.record import Record

encode_record = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def decode_snapshot(
    uri: str, data: Any, revision: str, *, where: str, damage: DamageReport
) -> Snapshot:
    """Decode what a store has for a URI; a record that cannot be read is reported as damaged."""
    try:
        record = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
        reason = str(error)
    else:
        if record.uri == uri:
            return Snapshot(record=record, revision=revision)
        reason = "it is of another file"
    return Snapshot(record=None, revision=revision, damage=damage.add(uri, where, reason))


def check_namespace(ledger: str, found: str, wanted: str) -> None:
    """Raise an error if a ledger belongs to another namespace than the graph's."""
    if found != wanted:
        raise ConfigurationError(
            f"the ledger {ledger} belongs to namespace {found!r}, and this graph is of {wanted!r}; "
            f"set SEGUE_LEDGER to the ledger of {wanted!r}, or write 'namespace: {found}' in "
            "jobs.yaml"
        )
