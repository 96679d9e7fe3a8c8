"""The calls to Firestore's API that the ledger makes, with errors translated to Segue's.

The generated client is used for addresses, credentials and routing, not for its message classes,
which cost ten times as much as the raw messages below them. Nothing is retried here: after a retry
that the caller does not know of, a precondition could have failed because of the first attempt.
"""

from __future__ import annotations

import contextlib
import os
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from segue.adapters.firestore_indexes import COLLECTION
from segue.errors import ConfigurationError, SegueError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
    from grpc import Channel

RawMessage: TypeAlias = Any  # a protocol buffer; importing its module creates the class


class StatusCode(IntEnum):
    """The status codes of gRPC, https://grpc.github.io/grpc/core/md_doc_statuscodes.html."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class FirestoreRpc:
    """A connection to one database."""

    def __init__(self, project: str, database: str) -> None:
        from google.cloud.firestore_v1 import types
        from google.cloud.firestore_v1.services import firestore

        self._types = types
        self.database = f"projects/{project}/databases/{database}"
        self._documents = f"{self.database}/documents"
        self._metadata = [("google-cloud-resource-prefix", self.database)]
        emulator = os.environ.get("FIRESTORE_EMULATOR_HOST")
        if emulator:
            self._metadata.append(("authorization", "Bearer owner"))
        transport = firestore.transports.FirestoreGrpcTransport
        with self._translate_errors():
            self._channel = _open_channel(emulator, transport)
            self._client = firestore.FirestoreClient(transport=transport(channel=self._channel))
        self.new_write: Callable[[], RawMessage] = types.Write.pb()

    def name(self, file_id: str) -> str:
        """Return the full name of a file's document."""
        return f"{self._documents}/{COLLECTION}/{file_id}"

    def get(self, ids: Sequence[str], timeout_s: float) -> Iterator[RawMessage]:
        """Stream the documents that exist, in any order."""
        request = self._types.BatchGetDocumentsRequest(
            database=self.database, documents=[self.name(i) for i in ids]
        )
        of = self._types.BatchGetDocumentsResponse.pb
        with self._translate_errors():
            for response in self._client.batch_get_documents(
                request, retry=None, timeout=timeout_s, metadata=self._metadata
            ):
                raw = of(response)
                if raw.WhichOneof("result") == "found":
                    yield raw.found

    def write(
        self, writes: Sequence[RawMessage], timeout_s: float
    ) -> list[tuple[RawMessage, RawMessage]]:
        """Apply each write independently; return each one's status and update time."""
        request = self._types.BatchWriteRequest.pb()(database=self.database, writes=writes)
        with self._translate_errors():
            response = self._client.batch_write(
                self._types.BatchWriteRequest.wrap(request),
                retry=None,
                timeout=timeout_s,
                metadata=self._metadata,
            )
        raw = self._types.BatchWriteResponse.pb(response)
        results = [r.update_time for r in raw.write_results]
        return list(zip(raw.status, results, strict=True))

    def query(self, query: Mapping[str, Any], timeout_s: float) -> Iterator[RawMessage]:
        """Stream the documents that match a structured query."""
        raw = self._types.RunQueryRequest.pb()(parent=self._documents, structured_query=query)
        of = self._types.RunQueryResponse.pb
        with self._translate_errors():
            for response in self._client.run_query(
                self._types.RunQueryRequest.wrap(raw),
                retry=None,
                timeout=timeout_s,
                metadata=self._metadata,
            ):
                if (found := of(response)).HasField("document"):
                    yield found.document

    def count(self, query: Mapping[str, Any], timeout_s: float) -> int:
        """Count the documents that match a structured query, on the server."""
        aggregation = {"structured_query": query, "aggregations": [{"alias": "n", "count": {}}]}
        raw = self._types.RunAggregationQueryRequest.pb()(
            parent=self._documents, structured_aggregation_query=aggregation
        )
        of = self._types.RunAggregationQueryResponse.pb
        counted = 0
        with self._translate_errors():
            for response in self._client.run_aggregation_query(
                self._types.RunAggregationQueryRequest.wrap(raw),
                retry=None,
                timeout=timeout_s,
                metadata=self._metadata,
            ):
                counted += of(response).result.aggregate_fields["n"].integer_value
        return counted

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def error(self, code: int, message: str) -> SegueError:
        """Return Segue's error for a status of the server."""
        if code in (StatusCode.PERMISSION_DENIED, StatusCode.UNAUTHENTICATED):
            remedy = "grant roles/datastore.user to the account that runs this"
        elif code == StatusCode.NOT_FOUND:
            remedy = (
                "create the database with 'gcloud firestore databases create', or set SEGUE_LEDGER"
            )
        elif code == StatusCode.FAILED_PRECONDITION:
            remedy = "apply the Terraform of this graph, which creates the indexes"
        elif code == StatusCode.INVALID_ARGUMENT:
            remedy = "check SEGUE_LEDGER; its form is firestore://project/database"
        else:
            return Unavailable(f"{self.database}: {message}; try again later")
        return ConfigurationError(f"{self.database}: {message}; {remedy}")

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

        try:
            yield
        except GoogleAPICallError as error:
            status = error.grpc_status_code
            raise self.error(
                status.value[0] if status else StatusCode.UNKNOWN, error.message
            ) from error
        except DefaultCredentialsError as error:
            raise ConfigurationError(
                f"{self.database}: no credentials ({error}); "
                "run 'gcloud auth application-default login'"
            ) from error
        except GoogleAuthError as error:
            raise Unavailable(f"{self.database}: {error}; try again later") from error


def _open_channel(emulator: str | None, transport: type[FirestoreGrpcTransport]) -> Channel:
    import grpc
    from grpc.experimental import ChannelOptions

    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # A thread that passes on each document of a stream costs three times as much as reading it.
        (ChannelOptions.SingleThreadedUnaryStream, 1),
    ]
    if emulator:
        return grpc.insecure_channel(emulator, options=options)
    # An emulator treats pings as abuse, and closes the connection.
    return transport.create_channel(options=[*options, ("grpc.keepalive_time_ms", 30_000)])
