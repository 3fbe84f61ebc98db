"""The Open Inference Protocol over gRPC, on a port of its own: the same answers, and the same refusals as statuses.

Imported only where a port is asked for; needs the extra `serving-grpc`. Bytes become a message here and not in gRPC,
so that of a caller who is not known nothing is read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from millrace.serving.grpc_messages import MESSAGES, PACKAGE, SERVICE, body_of, metadata_of, read, reply_of
from millrace.serving.inference import BODY, Headers, Inference, once, version_of
from millrace.serving.refused import Refused
from millrace.serving.workers import Tls

log = logging.getLogger(__name__)
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND, 413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED, 503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
_TOLD = (b"retry-after", b"www-authenticate")
"""Headers of a refusal that go along as trailing metadata; the others are of HTTP's connection."""
_LONGEST = 2000
"""Characters of a refusal: a client takes 8 KB of metadata."""
_OPTIONS = [
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", BODY),
    # None but identity: gRPC unpacks a message whole before it looks how large that is.
    ("grpc.compression_enabled_algorithms_bitset", 1),
]
GRACE_S = 10.0
"""For what was begun; no request takes longer than its deadline."""


@dataclass(frozen=True)
class _Call:
    """A method: its request's and its answer's message are named after it."""

    name: str
    answer: Callable[[Any, Headers], Awaitable[Any]]
    open: bool = False


class GrpcServer:
    """Answers gRPC on the event loop that starts it; other processes may listen on the same port."""

    def __init__(self, inference: Inference, host: str, port: int, tls: Tls | None = None) -> None:
        self._inference, self._tls = inference, tls
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self) -> None:
        """Listen. Raises RuntimeError where the address cannot be had."""
        self._server = grpc.aio.server(options=_OPTIONS)
        calls = [
            _Call("ServerLive", self._live, open=True), _Call("ServerReady", self._ready, open=True),
            _Call("ServerMetadata", self._about, open=True), _Call("ModelReady", self._model_ready),
            _Call("ModelMetadata", self._metadata), _Call("ModelInfer", self._infer),
        ]  # fmt: skip
        handlers = {call.name: grpc.unary_unary_rpc_method_handler(self._handler(call)) for call in calls}
        service = grpc.method_handlers_generic_handler(f"{PACKAGE}.{SERVICE}", handlers)
        self._server.add_generic_rpc_handlers((service,))
        if self._tls is None:
            self._server.add_insecure_port(self._address)
        else:
            pair = (self._tls.key.read_bytes(), self._tls.certificate.read_bytes())
            self._server.add_secure_port(self._address, grpc.ssl_server_credentials([pair]))
        await self._server.start()

    async def stop(self) -> None:
        """Take nothing more, and end what was begun."""
        await self._server.stop(GRACE_S)

    def _handler(self, call: _Call) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(data: bytes, context: Any) -> bytes:
            try:
                headers = once((_bytes(name), _bytes(value)) for name, value in context.invocation_metadata() or ())
                if not call.open:
                    await self._inference.access.caller(headers)
                answer = await call.answer(read(f"{call.name}Request", data), headers)
                return bytes(answer.SerializeToString())
            except Refused as err:
                code = _CODES.get(err.status, grpc.StatusCode.INTERNAL)
                details, told = str(err)[:_LONGEST], [(n.decode(), v.decode()) for n, v in err.headers if n in _TOLD]
            except Exception:
                log.exception("a request failed")
                code, details, told = grpc.StatusCode.INTERNAL, "the server failed; its log says how", []
            await context.abort(code, details, tuple(told))
            raise AssertionError("abort raises")

        return handle

    async def _live(self, request: Any, headers: Headers) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, request: Any, headers: Headers) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._inference.ready)

    async def _about(self, request: Any, headers: Headers) -> Any:
        return MESSAGES["ServerMetadataResponse"](**self._inference.about([]))

    async def _model_ready(self, request: Any, headers: Headers) -> Any:
        _, now = await self._inference.allowed(request.name, headers)
        self._inference.arm(now, _version(request.version))
        return MESSAGES["ModelReadyResponse"](ready=True)

    async def _metadata(self, request: Any, headers: Headers) -> Any:
        _, now = await self._inference.allowed(request.name, headers)
        return metadata_of(await self._inference.metadata(now, _version(request.version)))

    async def _infer(self, request: Any, headers: Headers) -> Any:
        caller, now = await self._inference.allowed(request.model_name, headers)
        most = self._inference.begin(now, caller)
        if (size := request.ByteSize()) > most:
            raise Refused(413, "the message is too large", given=str(size), allowed=f"up to {most} bytes",
                          next_step="Ask with fewer rows")  # fmt: skip
        body, binary = body_of(request)
        found, packed = await self._inference.infer(now, caller, headers, body, binary, _version(request.model_version))
        return reply_of(found, packed)


def _version(text: str) -> int | None:
    return version_of(text) if text else None


def _bytes(text: str | bytes) -> bytes:
    """Metadata as a header has them: text that is ASCII, or bytes."""
    return text.encode("latin-1", "replace") if isinstance(text, str) else text
