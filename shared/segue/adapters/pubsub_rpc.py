"""The calls to Pub/Sub's API that the queue makes, several at once, with errors translated.

Of the generated client only the message classes and the channel (address, credentials) are used:
its methods take 0.57 ms, the raw calls below them 0.35. It is google.pubsub_v1, the generated part;
google.cloud.pubsub_v1 around it publishes from background threads, which a function that has
responded does not run, and costs 20 ms more CPU to import (275 to 255). Blocking calls on a thread
pool take half the time of gRPC's futures, which start a thread each time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from segue.backoff import Backoff, retry
from segue.errors import ConfigurationError, SegueError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from grpc import Channel, StatusCode

RawMessage: TypeAlias = Any  # a protocol buffer; importing its module creates the class

CALL_S = 60.0  # a call without a response is retried after this
MAX_IN_FLIGHT, MAX_IN_FLIGHT_SIZE_BYTES = 16, 32_000_000
BACKOFF = Backoff(0.1, 5.0, jitter=1.0)
# By method: its service, request and response, and the field by which the server routes.
METHODS = {
    "Publish": ("Publisher", "PublishRequest", "PublishResponse", "topic"),
    "CreateTopic": ("Publisher", "Topic", "Topic", "name"),
    "CreateSubscription": ("Subscriber", "Subscription", "Subscription", "name"),
    "Pull": ("Subscriber", "PullRequest", "PullResponse", "subscription"),
    "Acknowledge": ("Subscriber", "AcknowledgeRequest", None, "subscription"),
    "ModifyAckDeadline": ("Subscriber", "ModifyAckDeadlineRequest", None, "subscription"),
}


@dataclass(frozen=True, slots=True)
class RpcCall:
    """A method with its request."""

    method: str
    request: RawMessage

    @property
    def resource(self) -> tuple[str, str]:
        """The field that names what the call is about, and that name."""
        field = METHODS[self.method][-1]
        return field, getattr(self.request, field)


class PubsubRpc:
    """A connection to Pub/Sub."""

    def __init__(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        import grpc
        from google.pubsub_v1 import types
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

        self._closed = False
        self._threads = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="pubsub")
        self._codes = grpc.StatusCode
        self._failure = grpc.RpcError
        self._types = types
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", int(BACKOFF.longest_s * 1000)),
        ]
        with _translate_credential_errors():
            self._channel: Channel = (
                grpc.insecure_channel(emulator, options=options)
                if emulator
                # The emulator treats pings as abuse, and closes the connection.
                else PublisherGrpcTransport.create_channel(
                    options=[*options, ("grpc.keepalive_time_ms", 30_000)]
                )
            )
        self._methods = {
            method: self._channel.unary_unary(
                f"/google.pubsub.v1.{service}/{method}",
                request_serializer=self.type(request).SerializeToString,
                response_deserializer=self.type(response).FromString if response else bytes,
            )
            for method, (service, request, response, _) in METHODS.items()
        }

    def type(self, name: str) -> RawMessage:
        """Return a message class."""
        return getattr(self._types, name).pb()

    def call(self, method: str, **fields: Any) -> RpcCall:
        """Build a call."""
        return RpcCall(method, self.type(METHODS[method][1])(**fields))

    def make(self, calls: Iterable[RpcCall], deadline_s: float) -> Iterator[RawMessage]:
        """Make calls, several at once, and yield their responses in the order of the calls.

        A call that fails because the server is away is retried until the deadline. Calls in flight
        are bounded in number and in bytes; requests are taken from ``calls`` as there is room.
        Creating something that exists already returns None.
        """
        end = time.monotonic() + deadline_s
        calls = iter(calls)
        first_calls = list(islice(calls, 2))
        if len(first_calls) < 2:  # a thread would cost half as much as the call
            yield from [self._call_with_retry(call, end) for call in first_calls]
            return
        in_flight: deque[tuple[int, Future[RawMessage]]] = deque()
        in_flight_size_bytes = 0
        try:
            for call in chain(first_calls, calls):
                size_bytes = call.request.ByteSize()
                while in_flight and (
                    len(in_flight) == MAX_IN_FLIGHT
                    or in_flight_size_bytes + size_bytes > MAX_IN_FLIGHT_SIZE_BYTES
                ):
                    in_flight_size_bytes -= in_flight[0][0]
                    yield in_flight.popleft()[1].result()
                in_flight.append(
                    (size_bytes, self._threads.submit(self._call_with_retry, call, end))
                )
                in_flight_size_bytes += size_bytes
            while in_flight:
                yield in_flight.popleft()[1].result()
        finally:
            for _, future in in_flight:
                future.cancel()

    def _call_with_retry(self, call: RpcCall, end: float) -> RawMessage:
        """Return the response to a call, which is retried while the server is away."""
        return retry(
            lambda: self._call_once(call, end),
            backoff=BACKOFF,
            should_retry=lambda error: isinstance(error, Unavailable),
            end_s=end,
        )

    def _call_once(self, call: RpcCall, end: float) -> RawMessage:
        if self._closed:
            raise ConfigurationError("the queue was closed during a call; close it last")
        field, name = call.resource
        route = f"{field}={quote(name, safe='')}"
        try:
            return self._methods[call.method](
                call.request,
                timeout=_limit_timeout_s(end),
                metadata=[("x-goog-request-params", route)],
            )
        except self._failure as error:
            code: StatusCode = error.code()
            if code is self._codes.ALREADY_EXISTS:
                return None
            raise self._to_error(code, f"{name}: {error.details()}") from error

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._channel.close()

    def _to_error(self, code: StatusCode, message: str) -> SegueError:
        """Return Segue's error for a status of the server."""
        codes = self._codes
        if code is codes.NOT_FOUND:
            remedy = (
                "run 'terraform apply', which creates the topics and subscriptions of a graph, or "
                "set SEGUE_QUEUE to where they are"
            )
        elif code in {codes.PERMISSION_DENIED, codes.UNAUTHENTICATED}:
            remedy = (
                "grant roles/pubsub.publisher and roles/pubsub.subscriber to the account that "
                "runs this"
            )
        elif code in {codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION}:
            remedy = "check SEGUE_QUEUE; its form is pubsub://project/prefix"
        else:
            return Unavailable(f"{message}; try again later")
        return ConfigurationError(f"{message}; {remedy}")


def _limit_timeout_s(end: float) -> float:
    return max(0.0, min(CALL_S, end - time.monotonic()))


@contextlib.contextmanager
def _translate_credential_errors() -> Iterator[None]:
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    try:
        yield
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            f"no credentials for Pub/Sub ({error}); run 'gcloud auth application-default login'"
        ) from error
    except GoogleAuthError as error:
        raise Unavailable(f"Pub/Sub: {error}; try again later") from error
