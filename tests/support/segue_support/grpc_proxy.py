"""A proxy for a gRPC emulator that counts calls, and can lose a request or a reply.

A test puts it between a client and the emulator to count what a call costs, and to see how the
client handles a network that fails at the worst moment.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    import grpc

# Headers that the proxy's own connection sets.
OWN_HEADERS = ("grpc-", ":", "user-agent", "content-type", "te")


@dataclass(frozen=True, slots=True)
class RpcFault:
    """A fault of one call: it is not forwarded, or it is forwarded and its reply is lost.

    If the end is lost, the reply is forwarded, and the call fails then. With ``instead``, the call
    is not forwarded, and these bytes are its reply.
    """

    status: str = "UNAVAILABLE"  # a name in grpc.StatusCode
    lost: Literal["request", "reply", "end"] = "request"
    instead: bytes | None = None
    message: str = "lost on purpose"  # of the error


class GrpcProxy:
    """Forwards the calls of all methods; ``requests`` contains the requests, by method."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._faults: dict[str, deque[RpcFault]] = {}
        self.calls: Counter[str] = Counter()
        self.requests: dict[str, list[bytes]] = {}
        self.replies: Counter[str] = Counter()  # parts of replies, such as documents of a query

    def fail(self, method: str, *faults: RpcFault) -> None:
        """Inject these faults into the next calls of a method, one each."""
        with self._lock:
            self._faults.setdefault(method, deque()).extend(faults)

    def reset(self) -> None:
        """Reset the counts and recorded requests."""
        with self._lock:
            self.calls.clear()
            self.requests.clear()
            self.replies.clear()

    def clear_faults(self) -> None:
        """Forget the faults that are left."""
        with self._lock:
            self._faults.clear()

    def __enter__(self) -> Self:
        from concurrent.futures import ThreadPoolExecutor

        import grpc

        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(self._target, options=unlimited)
        self._pool = ThreadPoolExecutor(32)
        self._server = grpc.server(self._pool, options=unlimited)
        self._server.add_generic_rpc_handlers((_ProxyHandler(self),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.address = f"127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(grace=None).wait()
        self._channel.close()
        self._pool.shutdown()

    def forward(
        self, path: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Forward one call; on the wire, all kinds of calls are streams both ways."""
        import grpc

        method = path.rpartition("/")[2]
        with self._lock:
            self.calls[method] += 1
            faults = self._faults.get(method)
            fault = faults.popleft() if faults else None
        if fault is not None and fault.instead is not None:
            yield fault.instead
            return
        if fault is not None and fault.lost == "request":
            context.abort(grpc.StatusCode[fault.status], fault.message)
        headers = [
            (k, v) for k, v in context.invocation_metadata() if not k.startswith(OWN_HEADERS)
        ]
        replies = self._channel.stream_stream(path)(
            self._record_requests(method, requests), metadata=headers
        )
        try:
            for reply in replies:
                if fault is None or fault.lost == "end":
                    with self._lock:
                        self.replies[method] += 1
                    yield reply
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        if fault is not None:
            context.abort(grpc.StatusCode[fault.status], "reply lost on purpose")

    def _record_requests(self, method: str, requests: Iterator[bytes]) -> Iterator[bytes]:
        for request in requests:
            with self._lock:
                self.requests.setdefault(method, []).append(request)
            yield request


class _ProxyHandler:
    """Handles every method (a grpc.GenericRpcHandler, which is slow to import)."""

    def __init__(self, proxy: GrpcProxy) -> None:
        self._proxy = proxy

    def service_name(self) -> None:
        """Return no name; gRPC calls this."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return the handler of a call."""
        import grpc

        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._proxy.forward(details.method, requests, context)
        )
