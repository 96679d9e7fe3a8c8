"""The calls of Pub/Sub's API that the queue makes, several at once, with errors in Segue's terms.

Of the generated client only the message classes and the channel (address, credentials) are used:
its methods take 0.57 ms for what the raw calls below them take 0.35. It is google.pubsub_v1, which
is generated alone; google.cloud.pubsub_v1 around it publishes from background threads, which stand
still in a function that has answered, and costs 20 ms more CPU to import (275 to 255). Blocking
calls on kept threads take half the time of gRPC's futures, which start a thread each time.
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

from segue.errors import ConfigurationError, SegueError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from grpc import Channel, StatusCode

RawMessage: TypeAlias = Any  # a protocol buffer; its classes are made when they are first imported

CALL_S = 60.0  # after which a call that got no answer is made again
AT_ONCE, AT_ONCE_SIZE_BYTES = 16, 32_000_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
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
class Call:
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
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pubsub")
        self._codes = grpc.StatusCode
        self._failure = grpc.RpcError
        self._types = types
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", int(LONGEST_PAUSE_S * 1000)),
        ]
        with _credential_errors():
            self._channel: Channel = (
                grpc.insecure_channel(emulator, options=options)
                if emulator
                # The emulator takes it for abuse, and cuts the connection.
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
        """The class of a message."""
        return getattr(self._types, name).pb()

    def call(self, method: str, **fields: Any) -> Call:
        """Put a call together."""
        return Call(method, self.type(METHODS[method][1])(**fields))

    def make(self, calls: Iterable[Call], deadline_s: float) -> Iterator[RawMessage]:
        """Make calls, several at once, and yield what each returns, in their order.

        One that fails because the server is away is made again until the deadline. What is under
        way is bounded in number and in bytes; requests are taken from ``calls`` as there is room.
        The making of what exists already returns None.
        """
        end = time.monotonic() + deadline_s
        calls = iter(calls)
        some = list(islice(calls, 2))
        if len(some) < 2:  # another thread would cost half as much as the call
            yield from [self._answer(call, end) for call in some]
            return
        flying: deque[tuple[int, Future[RawMessage]]] = deque()
        flying_size_bytes = 0
        try:
            for call in chain(some, calls):
                size_bytes = call.request.ByteSize()
                while flying and (
                    len(flying) == AT_ONCE or flying_size_bytes + size_bytes > AT_ONCE_SIZE_BYTES
                ):
                    flying_size_bytes -= flying[0][0]
                    yield flying.popleft()[1].result()
                flying.append((size_bytes, self._threads.submit(self._answer, call, end)))
                flying_size_bytes += size_bytes
            while flying:
                yield flying.popleft()[1].result()
        finally:
            for _, future in flying:
                future.cancel()

    def _answer(self, call: Call, end: float) -> RawMessage:
        """What a call returns, made again while the server is away."""
        from google.api_core.exceptions import RetryError
        from google.api_core.retry import Retry, if_exception_type

        retry = Retry(
            predicate=if_exception_type(Unavailable),
            initial=FIRST_PAUSE_S,
            maximum=LONGEST_PAUSE_S,
            timeout=max(0.0, end - time.monotonic()),
        )
        try:
            return retry(self._once)(call, end)
        except RetryError as error:
            raise error.cause from error

    def _once(self, call: Call, end: float) -> RawMessage:
        if self._closed:
            raise ConfigurationError("the queue was closed while it was in use; close it last")
        field, name = call.resource
        route = f"{field}={quote(name, safe='')}"
        try:
            return self._methods[call.method](
                call.request, timeout=_left_s(end), metadata=[("x-goog-request-params", route)]
            )
        except self._failure as error:
            code: StatusCode = error.code()
            if code is self._codes.ALREADY_EXISTS:
                return None
            raise self._error(code, f"{name}: {error.details()}") from error

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._channel.close()

    def _error(self, code: StatusCode, message: str) -> SegueError:
        """Say in Segue's terms what a status of the server means."""
        codes = self._codes
        if code is codes.NOT_FOUND:
            remedy = (
                "'terraform apply' makes the topics and subscriptions of a graph; or set "
                "SEGUE_QUEUE to where they are"
            )
        elif code in {codes.PERMISSION_DENIED, codes.UNAUTHENTICATED}:
            remedy = (
                "grant roles/pubsub.publisher and roles/pubsub.subscriber to the account that "
                "runs this"
            )
        elif code in {codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION}:
            remedy = "check SEGUE_QUEUE; it reads pubsub://project/prefix"
        else:
            return Unavailable(f"{message}; try again later")
        return ConfigurationError(f"{message}; {remedy}")


def _left_s(end: float) -> float:
    return max(0.0, min(CALL_S, end - time.monotonic()))


@contextlib.contextmanager
def _credential_errors() -> Iterator[None]:
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    try:
        yield
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            f"no credentials for Pub/Sub ({error}); run 'gcloud auth application-default login'"
        ) from error
    except GoogleAuthError as error:
        raise Unavailable(f"Pub/Sub: {error}; try again later") from error
